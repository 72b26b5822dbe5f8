"""conf/README.md lists every option and every key as they are."""

from pathlib import Path

import pytest
from conf_options import CHOICES, composed, with_hydra
from omegaconf import OmegaConf

from gan.config.checks import all_keys
from gan.config.reference import MARK, README, read_comments, read_option, update
from gan.config.schema import GROUPS

DOCUMENTED = [
    choice
    for choice in CHOICES
    if choice.partition("=")[0] in (*GROUPS, "hydra/launcher", "hydra/sweeper")
]


def test_the_reference_is_up_to_date() -> None:
    text = README.read_text(encoding="utf-8")
    assert text.count(MARK) == 1
    if update(text) != text:
        pytest.fail(f"{README} is out of date: run python -m gan.config.reference")


def test_the_reference_names_every_option_and_every_key() -> None:
    _, _, reference = README.read_text(encoding="utf-8").partition(MARK)
    sections = {part.partition("\n")[0]: part for part in reference.split("\n## ")}
    for choice in CHOICES:
        group, _, option = choice.partition("=")
        assert group == "hydra/job_logging" or f"- [{option}]({group}/" in sections[group]
    for key in all_keys():
        group, _, name = key.partition(".") if "." in key else ("", "", key)
        section = sections[group or "Keys of the top level, and Hydra's own"]
        assert name == "_target_" or f"\n| `{name}`" in section


@pytest.mark.parametrize("choice", DOCUMENTED)
def test_the_reference_shows_the_values_that_hydra_composes(choice: str) -> None:
    group, _, option = choice.partition("=")
    cfg = with_hydra(choice) if group.startswith("hydra/") else composed(choice)
    node = OmegaConf.to_container(OmegaConf.select(cfg, group.replace("/", ".")), resolve=False)
    values = {**read_option(group, option).values}
    values.pop("defaults", None)
    if choice == "data=image_folder":
        assert values.pop("folder") == "???"
        assert isinstance(node, dict)
        del node["folder"]
    assert values == node


def test_comments_are_read_from_the_line_above_and_from_the_end_of_the_line(
    tmp_path: Path,
) -> None:
    path = tmp_path / "option.yaml"
    path.write_text(
        """# @package _global_
# An option
# in two lines.
defaults:
  - base
  - override /hydra/launcher: local # A default.

one: 1 # At the end.
# Above,
# in two lines.
two:
  three: "# no comment"
  four: 4 # Below another key.
five: 5
"""
    )
    about, comments = read_comments(path)
    assert about == "An option in two lines."
    assert {key: text for key, text in comments.items() if text} == {
        "defaults.hydra/launcher": "A default.",
        "one": "At the end.",
        "two": "Above, in two lines.",
        "two.four": "Below another key.",
    }
