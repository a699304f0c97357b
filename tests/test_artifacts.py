"""Files are whole or absent; folders know their inputs; a run has one owner."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from salt_ray.artifacts import Folder, RunDirectory
from salt_ray.errors import RunError
from salt_ray.storage import atomic_file, atomic_folder, only_one, write_atomically


def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    write_atomically(path, "old")
    with pytest.raises(KeyError), atomic_file(path) as file:
        file.write(b"half")
        raise KeyError
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_of_two_folders_built_at_once_the_first_stays(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "cache") as mine:
        (mine / "by").write_text("me")
        with atomic_folder(tmp_path / "cache") as other:
            (other / "by").write_text("other")
    assert (tmp_path / "cache" / "by").read_text() == "other"
    assert [p.name for p in tmp_path.iterdir()] == ["cache"]


def test_only_what_a_killed_process_left_long_ago_is_deleted(tmp_path: Path) -> None:
    mine, others = ".old.123-0123abcd.tmp", (".theirs.tmp", ".old.123.tmp", ".old.1-0123ABCD.tmp", "old.1-0123abcd.tmp")
    for name in (mine, *others):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (0, 0))
    (young := tmp_path / ".new.124-0123abcd.tmp").mkdir()
    (file := tmp_path / ".file.125-0123abcd.tmp").touch()
    os.utime(file, (0, 0))
    with atomic_folder(tmp_path / "cache"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*others, young.name, file.name, "cache"])


def test_a_folder_is_done_only_after_its_marker_and_only_for_its_inputs(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "stage", {"lr": 0.1, "widths": (1, 2)})
    assert folder.done is None
    folder.open()
    assert folder.done is None
    folder.finish(score=0.5)
    assert Folder(tmp_path / "stage", {"lr": 0.1, "widths": [1, 2]}).done == {"score": 0.5}
    with pytest.raises(RunError, match=r"lr: 0\.1 before, 0\.2 now"):
        _ = Folder(tmp_path / "stage", {"lr": 0.2, "widths": [1, 2]}).done
    with pytest.raises(RunError, match=r"widths\.1"):
        Folder(tmp_path / "stage", {"lr": 0.1, "widths": [1, 3]}).open()


def test_a_folder_whose_work_is_done_anew_has_no_marker_until_that_is_finished(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "stage", {"lr": 0.1})
    folder.reopen()  # of one that is not there yet: the same as open
    assert folder.done is None
    folder.finish(score=0.5)
    with pytest.raises(RunError):
        Folder(tmp_path / "stage", {"lr": 0.2}).reopen()
    assert folder.done == {"score": 0.5}  # others' work keeps its marker
    folder.reopen()
    assert folder.done is None and [path.name for path in folder.path.iterdir()] == ["inputs.json"]
    folder.finish(score=0.6)
    assert Folder(tmp_path / "stage", {"lr": 0.1}).done == {"score": 0.6}


def test_a_run_has_one_owner_and_the_lock_dies_with_it(tmp_path: Path) -> None:
    hold = (
        "import sys, time; from pathlib import Path; from salt_ray.artifacts import RunDirectory\n"
        f"with RunDirectory(Path({str(tmp_path)!r})).lock(): print('held', flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True)
    assert owner.stdout.readline() == "held\n"
    with pytest.raises(RunError, match="another process"), RunDirectory(tmp_path).lock():
        pass
    owner.kill()
    owner.wait()
    with RunDirectory(tmp_path).lock():
        pass


def test_where_the_kernel_has_no_locks_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that stands for a lock would outlive its owner."""

    def missing(file: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", missing)
    with pytest.raises(RunError, match=r"Function not implemented.*choose another --run-dir"):
        RunDirectory(tmp_path).lock().__enter__()
    with pytest.raises(OSError, match="Function not implemented"):
        only_one(tmp_path / "built").__enter__()


def test_a_run_directory_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="choose another --run-dir"), RunDirectory(tmp_path / "file" / "run").lock():
        pass
