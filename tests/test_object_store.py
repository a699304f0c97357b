"""Paths in an object store behave as pathlib's do, on a real S3 server."""

from __future__ import annotations

import _thread
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from salt_ray import object_store
from salt_ray.artifacts import Folder, RunDirectory
from salt_ray.errors import RunError
from salt_ray.object_store import ObjectPath, StorageError
from salt_ray.storage import (
    StoragePath,
    atomic_file,
    load_array,
    read_tail,
    remove_tree,
    save_array,
    storage_path,
    write_atomically,
)


@pytest.fixture(params=["disk", "object store"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> StoragePath:
    """An empty place of either kind: what is tested here holds for both."""
    if request.param == "disk":
        return tmp_path / "run ä#1"
    bucket = request.getfixturevalue("bucket")
    return storage_path(f"{bucket}/{tmp_path.name}/run ä#1")


def test_what_is_written_is_found(place: StoragePath) -> None:
    assert not place.exists()
    write_atomically(place / "a" / "b.txt", "salt")
    write_atomically(place / "a" / "c.json", b"{}")
    write_atomically(place / "d.txt", "")
    assert place.exists() and place.is_dir() and not place.is_file()
    assert (place / "a" / "b.txt").is_file() and not (place / "a" / "b.txt").is_dir()
    assert (place / "a" / "b.txt").read_text() == "salt" and (place / "d.txt").read_bytes() == b""
    assert sorted(path.name for path in place.iterdir()) == ["a", "d.txt"]
    assert sorted(path.name for path in place.rglob("*.txt")) == ["b.txt", "d.txt"]
    assert [path.name for path in (place / "a").glob("*.json")] == ["c.json"]
    assert list((place / "nothing").glob("*")) == []
    path = place / "a" / "b.txt"
    assert (path.name, path.stem, path.suffix, path.parent) == ("b.txt", "b", ".txt", place / "a")
    write_atomically(path, "more salt")
    assert path.read_text() == "more salt"
    path.unlink()
    assert not path.exists()
    path.unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        path.unlink()
    with pytest.raises(FileNotFoundError):
        path.read_bytes()
    remove_tree(place)
    assert not (place / "a" / "c.json").exists()
    remove_tree(place)


def test_a_file_that_raises_is_not_written(place: StoragePath) -> None:
    with pytest.raises(KeyError), atomic_file(place / "half") as file:
        file.write(b"half")
        raise KeyError
    assert not (place / "half").exists()


def test_arrays_come_back(place: StoragePath) -> None:
    array = np.random.default_rng(0).random((3, 4)).astype(np.float16)
    save_array(place / "array.npy", array)
    assert (load_array(place / "array.npy") == array).all() and load_array(place / "array.npy").dtype == array.dtype


def test_a_folder_with_a_marker(place: StoragePath) -> None:
    folder = Folder(place / "stage", {"lr": 0.1})
    assert folder.done is None
    folder.open()
    folder.finish(score=0.5)
    assert Folder(place / "stage", {"lr": 0.1}).done == {"score": 0.5}
    with pytest.raises(RunError, match=r"lr: 0\.1 before, 0\.2 now"):
        Folder(place / "stage", {"lr": 0.2}).open()
    folder.reopen()
    assert folder.done is None


def test_a_run_directory_is_known_by_its_identity(place: StoragePath) -> None:
    run = RunDirectory(place)
    identity = run.identity()
    assert run.identity() == identity
    RunDirectory(place).check_visible(identity)
    with pytest.raises(RunError, match="cannot access"):
        run.check_visible("another")
    with pytest.raises(RunError, match="cannot access"):
        RunDirectory(place / "elsewhere").check_visible(identity)


def test_a_part_of_an_object(bucket: str) -> None:
    path = ObjectPath(f"{bucket}/ranges/digits")
    path.write_bytes(b"0123456789")
    assert path.read_range(3, 4) == b"3456"
    assert path.read_range(8, 40) == b"89"
    assert path.read_range(40, 4) == b"" == path.read_range(10, 4)
    assert path.read_range(-3, 3) == b"789"
    assert path.read_range(-40, 4) == b"0123"


def test_the_end_of_a_file(place: StoragePath) -> None:
    write_atomically(place / "digits", b"0123456789")
    assert read_tail(place / "digits", 3) == b"789"
    assert read_tail(place / "digits", 40) == b"0123456789"
    assert read_tail(place / "nothing", 3) == b""


NO_PLACES = [
    "s3://",
    "s3:///x",
    "s3://bucket/../x",
    "gs://bucket/x",
    "/tmp/x",
    "s3://a%zz/x",
    "s3://bucket?x/y",
    "s3://-a/x",
]


@pytest.mark.parametrize("uri", [*NO_PLACES, "s3://my bucket/x"])
def test_what_is_no_place_is_refused(uri: str) -> None:
    with pytest.raises(StorageError, match="write s3://BUCKET/PREFIX"):
        ObjectPath(uri)


def test_paths_are_values() -> None:
    path = ObjectPath("s3://bucket/a//b/")
    assert (
        str(path) == "s3://bucket/a/b"
        and path == ObjectPath("s3://bucket/a") / "b"
        and len({path, path / "."[:0]}) == 1
    )
    assert sorted([path / "2", path / "1"]) == [path / "1", path / "2"]
    assert storage_path("s3://bucket/a") == ObjectPath("s3://bucket/a")
    assert storage_path("runs/a") == Path("runs/a") == storage_path(Path("runs/a"))


def test_a_bucket_that_is_not_there(bucket: str) -> None:
    with pytest.raises(StorageError, match="check the bucket's name"):
        ObjectPath("s3://no-such-bucket/a").write_bytes(b"a")


def test_a_store_that_is_away_for_a_moment_is_asked_again(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path, asked = ObjectPath(f"{bucket}/moment"), []
    path.write_bytes(b"here")
    store = object_store._store

    def away_twice(name: str):
        asked.append(name)
        if len(asked) < 3:
            raise OSError("AWS Error NETWORK_CONNECTION during GetObject operation: curlCode: 7")
        return store(name)

    monkeypatch.setattr(object_store, "_store", away_twice)
    monkeypatch.setattr(object_store, "RETRY_SECONDS", (0.01, 0.01))
    assert path.read_bytes() == b"here" and len(asked) == 3
    asked[:] = []
    monkeypatch.setattr(object_store, "RETRY_SECONDS", (0.01,))
    with pytest.raises(StorageError, match="NETWORK_CONNECTION"):
        path.read_bytes()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_answer_without_a_name_is_one_of_those_that_pass(
    bucket: str, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    path, asked = ObjectPath(f"{bucket}/busy"), []
    path.write_bytes(b"here")
    store = object_store._store

    def busy_once(name: str):
        asked.append(name)
        if len(asked) == 1:
            raise OSError(f"AWS Error UNKNOWN (HTTP status {status}) during HeadObject operation: No response body.")
        return store(name)

    monkeypatch.setattr(object_store, "_store", busy_once)
    monkeypatch.setattr(object_store, "RETRY_SECONDS", (0.01,))
    assert path.read_bytes() == b"here" and len(asked) == 2


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_write_leaves_the_old_object_or_the_new_one(bucket: str) -> None:
    path, interrupted = ObjectPath(f"{bucket}/interrupted"), 0
    contents = [bytes([number]) * 200_000 for number in range(40)]
    path.write_bytes(contents[0])
    for number in range(1, 40):
        timer = threading.Timer(number / 2000, _thread.interrupt_main)
        try:
            timer.start()  # it may fire before this returns
            path.write_bytes(contents[number])
            timer.join()
            time.sleep(0.01)  # until an interrupt that came late has been here
        except KeyboardInterrupt:
            interrupted += 1
        timer.join()
        assert path.read_bytes() in contents[number - 1 : number + 1]
        path.write_bytes(contents[number])
    assert interrupted
