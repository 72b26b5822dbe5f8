"""Files are replaced completely or not at all."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gan.run.directory import claimed
from gan.sweep.directory import owned
from gan.system import files
from gan.system.files import remove_leftovers, replacing, temporary_folder, write_text

KILLED = """
import os, sys
from pathlib import Path
from gan.system.files import replacing, temporary_folder
with replacing(Path(sys.argv[1], sys.argv[2])) as file, temporary_folder(Path(sys.argv[1], "out")):
    file.write_bytes(b"half of it")
    os.kill(os.getpid(), 9)
"""


def killed_in_a_write(folder: Path, name: str = "large.pt") -> None:
    """Let a process be killed while it writes a file and a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(folder), name])
    assert killed.returncode == -9
    assert len(list(folder.glob(".*.????????.gan-tmp"))) == 2


ROOT = Path(__file__).parent.parent.parent


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


def test_a_sweep_removes_what_a_killed_process_was_writing_there(tmp_path: Path) -> None:
    killed_in_a_write(tmp_path)
    (tmp_path / ".note.gan-tmp").touch()
    with owned(tmp_path):
        assert [path.name for path in tmp_path.glob(".*.gan-tmp")] == [".note.gan-tmp"]


def test_a_run_removes_what_a_killed_process_was_writing_of_it(tmp_path: Path) -> None:
    """Samples and exports may be written into its directory at the same time."""
    own = {"": "config.yaml", "samples": "step-000001.png", "checkpoints": "step-00000001.pt"}
    for folder, name in own.items():
        killed_in_a_write(tmp_path / folder, name)
    killed_in_a_write(tmp_path / "exports", "generator.onnx")
    with claimed(tmp_path):
        left = [path.name.rsplit(".", 2)[0] for path in tmp_path.rglob(".*.gan-tmp")]
    assert sorted(left) == [".generator.onnx", *[".out"] * 4]


def test_leftovers_elsewhere_go_after_a_day_with_the_next_write(tmp_path: Path) -> None:
    killed_in_a_write(tmp_path)
    leftovers = list(tmp_path.iterdir())
    write_text(tmp_path / "other", "")
    assert all(path.exists() for path in leftovers), "another process may still write to them"
    for path in leftovers:
        os.utime(path, (0, 0))
    files._tidy.cache_clear()
    write_text(tmp_path / "other", "")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_a_link_is_removed_as_a_leftover_and_not_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/file").touch()
    (tmp_path / ".out.12345678.gan-tmp").symlink_to(tmp_path / "elsewhere")
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]
    assert (tmp_path / "elsewhere/file").exists()


def test_a_temporary_folder_is_removed_in_the_end(tmp_path: Path) -> None:
    with temporary_folder(tmp_path / "out") as folder:
        (folder / "file").touch()
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_not_utf8_is_written_with_the_codes_of_its_bytes(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "grün " + os.fsdecode(b"r\xff"))
    assert (tmp_path / "file").read_text(encoding="utf-8") == "grün r\\udcff"


def opens_text(call: ast.Call) -> bool:
    """Return whether a call opens or reads a text file, or decodes the output of a program."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    is_method = isinstance(call.func, ast.Attribute)
    if name in ("run", "Popen"):
        return any(keyword.arg == "text" for keyword in call.keywords)
    if name in ("read_text", "write_text", "FileHandler"):
        # The function `gan.system.files.write_text` writes UTF-8.
        return is_method
    if name not in ("open", "fdopen"):
        return False
    modes = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    if not modes:
        # Methods of this name with other arguments open no text: `Image.open(path)`.
        return not (is_method and (call.args or call.keywords))
    return "b" not in modes[-1]


def test_every_text_file_is_utf8_in_every_locale() -> None:
    for path in [*ROOT.glob("gan/**/*.py"), *ROOT.glob("scripts/**/*.py")]:
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        for call in [node for node in nodes if isinstance(node, ast.Call) and opens_text(node)]:
            names = [keyword.arg for keyword in call.keywords]
            assert "encoding" in names, f"{path.relative_to(ROOT)}:{call.lineno}"
