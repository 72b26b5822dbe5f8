"""Arrays cached in a file: in memory or mapped, damaged files, full disks, single rows."""

import errno
import hashlib
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from gan.data.cache import Arrays, cached_arrays, lock_for
from gan.data.mapped import ChunkedArray, RowReader, as_tensor, cached_array
from gan.errors import UserError
from gan.system.files import replacing

CHUNKS = [np.arange(12 * n, 12 * n + 12, dtype=np.uint8).reshape(2, 3, 2) for n in range(4)]
WHOLE = np.concatenate(CHUNKS)


@pytest.fixture(params=["in memory", "mapped"])
def mapped(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    large: bool = request.param == "mapped"
    monkeypatch.setattr("gan.data.mapped.MAX_BYTES_IN_MEMORY", WHOLE.nbytes - large)
    return large


def make() -> ChunkedArray:
    return ChunkedArray(WHOLE.shape, iter(CHUNKS))


def must_not_be_called() -> ChunkedArray:
    raise AssertionError("the array is made again")


def test_an_array_is_made_once_and_again_for_another_key(tmp_path: Path, mapped: bool) -> None:
    path = tmp_path / "below" / "array.npy"
    for maker in (make, must_not_be_called):
        array, reader, digest = cached_array(path, "key", maker)
        assert (reader is not None) == mapped
        assert np.array_equal(array, WHOLE)
        assert array.dtype == np.uint8
        assert digest == hashlib.sha256(WHOLE.tobytes()).hexdigest()
        assert isinstance(array, np.memmap) == mapped
        assert array.flags.writeable != mapped
    other, *_ = cached_array(path, "other", lambda: ChunkedArray((1, 3, 2), [WHOLE[3:4]]))
    assert np.array_equal(other, WHOLE[3:4])
    # A process that mapped the file before still has the old content.
    assert np.array_equal(array, WHOLE)
    assert np.array_equal(cached_array(path, "key", make).array, WHOLE)
    assert [file.name for file in path.parent.iterdir()] == ["array.npy"]


def test_numpy_can_load_the_file(tmp_path: Path, mapped: bool) -> None:
    cached_array(tmp_path / "array.npy", "key", make)
    assert np.array_equal(np.load(tmp_path / "array.npy"), WHOLE)


def test_a_large_array_is_never_in_memory_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gan.data.mapped.MAX_BYTES_IN_MEMORY", 0)
    seen: list[weakref.ref[np.ndarray]] = []

    def chunks() -> Iterator[np.ndarray]:
        for chunk in CHUNKS:
            copy = chunk.copy()
            seen.append(weakref.ref(copy))
            assert sum(other() is not None for other in seen) <= 2
            yield copy
            del copy

    array, *_ = cached_array(
        tmp_path / "array.npy", "key", lambda: ChunkedArray(WHOLE.shape, chunks())
    )
    assert np.array_equal(array, WHOLE)
    assert len(seen) == len(CHUNKS)


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
    cached_array(path, "key", make)
    path.write_bytes(damage(path.read_bytes()))
    assert np.array_equal(cached_array(path, "key", make).array, WHOLE)
    assert np.array_equal(cached_array(path, "key", must_not_be_called).array, WHOLE)


def test_a_changed_pixel_is_noticed(tmp_path: Path, mapped: bool) -> None:
    path = tmp_path / "array.npy"
    cached_array(path, "key", make)
    content = bytearray(path.read_bytes())
    content[content.index(WHOLE.tobytes()) + 5] ^= 1
    path.write_bytes(content)
    assert np.array_equal(cached_array(path, "key", make).array, WHOLE)
    assert np.array_equal(cached_array(path, "key", must_not_be_called).array, WHOLE)


def test_a_large_array_is_compared_with_its_checksum_once_after_its_file_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gan.data.mapped.MAX_BYTES_IN_MEMORY", 0)
    path = tmp_path / "array.npy"
    cached_array(path, "key", make)
    path.write_bytes(path.read_bytes())
    changed = path.stat().st_mtime_ns
    assert np.array_equal(cached_array(path, "key", must_not_be_called).array, WHOLE)
    checked = path.stat().st_mtime_ns
    assert checked < changed, "the time says that it is the file that was written"
    cached_array(path, "key", must_not_be_called)
    assert path.stat().st_mtime_ns == checked


def test_an_altered_file_of_arrays_that_still_fits_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "arrays.npz"
    arrays = {"images": np.zeros((4, 2)), "labels": np.arange(4)}
    cached_arrays(path, "key", lambda: arrays)
    with np.load(path) as stored:
        altered = {**stored, "labels": np.zeros(4, dtype=int)}
    np.savez(path, **altered)
    found = cached_arrays(path, "key", lambda: arrays)
    assert found["labels"].tolist() == [0, 1, 2, 3]


def test_a_lock_that_is_waited_for_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gan.data.cache.LOOK_SECONDS", 0.05)
    caplog.set_level("INFO")
    path = tmp_path / "array.npy"
    held, free = threading.Event(), threading.Event()

    def hold() -> None:
        with lock_for(path):
            held.set()
            free.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    threading.Timer(0.3, free.set).start()
    assert np.array_equal(cached_array(path, "key", make).array, WHOLE)
    holder.join()
    assert caplog.messages == [f"{path}: waiting for another process that makes it"]


def test_only_a_large_array_needs_a_writable_folder(tmp_path: Path, mapped: bool) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "array.npy"
    if mapped:
        with pytest.raises(OSError, match="file"):
            cached_array(path, "key", make)
    else:
        assert np.array_equal(cached_array(path, "key", make).array, WHOLE)


def test_an_error_in_the_middle_leaves_no_file(tmp_path: Path, mapped: bool) -> None:
    def chunks() -> Iterator[np.ndarray]:
        yield CHUNKS[0]
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"):
        cached_array(tmp_path / "array.npy", "key", lambda: ChunkedArray(WHOLE.shape, chunks()))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RowReader:
    monkeypatch.setattr("gan.data.mapped.MAX_BYTES_IN_MEMORY", 0)
    reader = cached_array(tmp_path / "array.npy", "key", make).reader
    assert reader
    return reader


@pytest.mark.parametrize("preadv", [True, False])
def test_rows_are_read_from_the_file_that_was_mapped(
    tmp_path: Path, reader: RowReader, preadv: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not preadv:
        monkeypatch.delattr("os.preadv")
    cached_array(tmp_path / "array.npy", "other", lambda: ChunkedArray((1, 3, 2), [WHOLE[3:4]]))
    for indices in ([5, 0, 5, 7, 1], [2], []):
        out = np.full((len(indices), 3, 2), 255, dtype=np.uint8)
        reader.read(np.array(indices, dtype=np.int64), out)
        assert np.array_equal(out, WHOLE[indices])


def test_reading_from_a_file_that_became_shorter_is_an_error(
    tmp_path: Path, reader: RowReader
) -> None:
    os.truncate(tmp_path / "array.npy", 128 + 40)
    out = np.empty((1, 3, 2), dtype=np.uint8)
    reader.read(np.array([5]), out)
    assert np.array_equal(out[0], WHOLE[5])
    with pytest.raises(UserError, match=r"array\.npy: cannot be read \(it ends too early\)$"):
        reader.read(np.array([6]), out)


def test_a_tensor_shares_the_memory_of_its_array(
    tmp_path: Path, mapped: bool, recwarn: pytest.WarningsRecorder
) -> None:
    array, *_ = cached_array(tmp_path / "array.npy", "key", make)
    tensor = as_tensor(array)
    assert tensor.data_ptr() == array.ctypes.data
    assert torch.equal(tensor, torch.from_numpy(WHOLE))
    assert not recwarn.list
    with replacing(tmp_path / "array.npy") as temporary:
        temporary.touch()
    del array
    assert torch.equal(tensor, torch.from_numpy(WHOLE))


def test_arrays_that_two_threads_want_at_once_are_made_once(tmp_path: Path) -> None:
    started, results = threading.Event(), []

    def make() -> Arrays:
        started.set()
        second.start()
        second.join(0.2)
        assert second.is_alive(), "the second thread did not wait"
        return {"numbers": np.arange(3)}

    def want() -> None:
        assert started.is_set()
        results.append(cached_arrays(tmp_path / "arrays.npz", "key", lambda: {}))

    second = threading.Thread(target=want)
    cached_arrays(tmp_path / "arrays.npz", "key", make)
    second.join()
    assert [list(arrays["numbers"]) for arrays in results] == [[0, 1, 2]]
