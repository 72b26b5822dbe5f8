"""Arrays kept in a file: in memory or mapped, and what becomes of damaged and full ones."""

import errno
import os
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from gan.data.mapped import Made, Rows, as_tensor, kept
from gan.errors import UserError
from gan.files import replacing

PIECES = [np.arange(12 * n, 12 * n + 12, dtype=np.uint8).reshape(2, 3, 2) for n in range(4)]
WHOLE = np.concatenate(PIECES)


@pytest.fixture(params=["in memory", "mapped"])
def mapped(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    large: bool = request.param == "mapped"
    monkeypatch.setattr("gan.data.mapped.IN_MEMORY", WHOLE.nbytes - large)
    return large


def make() -> Made:
    return Made(WHOLE.shape, iter(PIECES))


def never() -> Made:
    raise AssertionError("made again")


def test_an_array_is_made_once_and_again_for_another_key(tmp_path: Path, mapped: bool) -> None:
    path = tmp_path / "below" / "array.npy"
    for maker in (make, never):
        array, rows = kept(path, "key", maker)
        assert (rows is not None) == mapped
        assert np.array_equal(array, WHOLE)
        assert array.dtype == np.uint8
        assert isinstance(array, np.memmap) == mapped
        assert array.flags.writeable != mapped
    other, _ = kept(path, "other", lambda: Made((1, 3, 2), [WHOLE[3:4]]))
    assert np.array_equal(other, WHOLE[3:4])
    # Who had mapped the file before has it still.
    assert np.array_equal(array, WHOLE)
    assert np.array_equal(kept(path, "key", make).array, WHOLE)
    assert [file.name for file in path.parent.iterdir()] == ["array.npy"]


def test_the_file_is_an_ordinary_one(tmp_path: Path, mapped: bool) -> None:
    kept(tmp_path / "array.npy", "key", make)
    assert np.array_equal(np.load(tmp_path / "array.npy"), WHOLE)


def test_a_large_array_is_never_whole_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gan.data.mapped.IN_MEMORY", 0)
    seen: list[weakref.ref[np.ndarray]] = []

    def pieces() -> Iterator[np.ndarray]:
        for piece in PIECES:
            copy = piece.copy()
            seen.append(weakref.ref(copy))
            assert sum(other() is not None for other in seen) <= 2
            yield copy
            del copy

    array, _ = kept(tmp_path / "array.npy", "key", lambda: Made(WHOLE.shape, pieces()))
    assert np.array_equal(array, WHOLE)
    assert len(seen) == len(PIECES)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        lambda content: content + b"0",
        lambda content: b"",
        lambda content: b"no array at all" + content,
    ],
)
def test_a_damaged_file_is_made_again(
    tmp_path: Path, mapped: bool, damage: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "array.npy"
    kept(path, "key", make)
    path.write_bytes(damage(path.read_bytes()))
    assert np.array_equal(kept(path, "key", make).array, WHOLE)
    assert np.array_equal(kept(path, "key", never).array, WHOLE)


def test_a_changed_pixel_is_noticed_where_all_are_read(tmp_path: Path) -> None:
    path = tmp_path / "array.npy"
    kept(path, "key", make)
    content = bytearray(path.read_bytes())
    content[len(content) - 40] ^= 1
    path.write_bytes(content)
    assert np.array_equal(kept(path, "key", make).array, WHOLE)
    assert np.array_equal(kept(path, "key", never).array, WHOLE)


def test_only_a_large_array_needs_a_place(tmp_path: Path, mapped: bool) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "array.npy"
    if mapped:
        with pytest.raises(OSError, match="file"):
            kept(path, "key", make)
    else:
        assert np.array_equal(kept(path, "key", make).array, WHOLE)


def test_an_error_in_the_middle_leaves_nothing(tmp_path: Path, mapped: bool) -> None:
    def pieces() -> Iterator[np.ndarray]:
        yield PIECES[0]
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"):
        kept(tmp_path / "array.npy", "key", lambda: Made(WHOLE.shape, pieces()))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rows:
    monkeypatch.setattr("gan.data.mapped.IN_MEMORY", 0)
    found = kept(tmp_path / "array.npy", "key", make).rows
    assert found
    return found


@pytest.mark.parametrize("reads", [True, False])
def test_rows_are_read_from_the_file_that_was_mapped(
    tmp_path: Path, rows: Rows, reads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not reads:
        monkeypatch.delattr("os.preadv")
    kept(tmp_path / "array.npy", "other", lambda: Made((1, 3, 2), [WHOLE[3:4]]))
    for indices in ([5, 0, 5, 7, 1], [2], []):
        out = np.full((len(indices), 3, 2), 255, dtype=np.uint8)
        rows.take(np.array(indices, dtype=np.int64), out)
        assert np.array_equal(out, WHOLE[indices])


def test_a_file_that_became_shorter_is_an_error(tmp_path: Path, rows: Rows) -> None:
    os.truncate(tmp_path / "array.npy", 128 + 40)
    out = np.empty((1, 3, 2), dtype=np.uint8)
    rows.take(np.array([5]), out)
    assert np.array_equal(out[0], WHOLE[5])
    with pytest.raises(UserError, match=r"array\.npy: cannot be read \(it ends too early\)$"):
        rows.take(np.array([6]), out)


def test_a_tensor_shares_the_memory(
    tmp_path: Path, mapped: bool, recwarn: pytest.WarningsRecorder
) -> None:
    array, _ = kept(tmp_path / "array.npy", "key", make)
    tensor = as_tensor(array)
    assert tensor.data_ptr() == array.ctypes.data
    assert torch.equal(tensor, torch.from_numpy(WHOLE))
    assert not recwarn.list
    with replacing(tmp_path / "array.npy") as temporary:
        temporary.touch()
    del array
    assert torch.equal(tensor, torch.from_numpy(WHOLE))
