"""Files are replaced completely or not at all."""

from pathlib import Path

import pytest

from gan.files import replacing, write_text


def test_a_file_is_replaced_and_no_other_file_is_left(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in ("old", "new"):
        write_text(path, content)
        assert path.read_text() == content
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_stays_if_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half of the ne")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_written_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    write_text(tmp_path / "ours", "")
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode
