"""Paths that mean the same in every working directory."""

from pathlib import Path

import pytest

from gan.config.checks import flatten
from gan.config.compose import compose
from gan.config.paths import overrides_with_absolute_paths


def test_folders_of_options_and_paths_are_absolute_in_stored_overrides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    words = ["--config-dir=mine", "data.root=~/data", "seed=1"]
    absolute = overrides_with_absolute_paths(words, flatten(compose(*words)))
    assert absolute == [f"--config-dir={tmp_path}/mine", "data.root='/home/me/data'", "seed=1"]
