"""The plugin that lets installed packages add folders of YAML files.

A package names its folder by an entry point of the group `gan.conf`:

    [project.entry-points."gan.conf"]
    my_gans = "my_gans.conf"
"""

import sys

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class InstalledPackages(SearchPathPlugin):
    """Finds config groups of installed packages."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add the folder of every entry point to the end of Hydra's search path."""
        # Imported late, because Hydra imports every plugin even for --help.
        from gan.config.schema import ENTRY_POINTS, installed_folders

        for name, folder in installed_folders().items():
            if folder is None:
                print(
                    f"the entry point {name} of the group {ENTRY_POINTS} names a folder that is "
                    "not there; its configurations are left out",
                    file=sys.stderr,
                )
            else:
                # As a folder and not as a package, so that a sweep can copy it.
                search_path.append(f"{ENTRY_POINTS} {name}", f"file://{folder}")
