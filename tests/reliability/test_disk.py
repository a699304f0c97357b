"""A disk that is full or read-only: one clear sentence, nothing damaged, and on from there once that is mended."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import DEVNULL

import pytest
from road import Road, results, wait_for

from salt_ray.artifacts import RunDirectory
from salt_ray.training.checkpoint import read_checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a small disk, or mounts it anew with other options."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "salt-ray-test", place], check=False).returncode:
        pytest.skip("no right to mount a disk")

    def remount(options: str) -> Path:
        deadline = time.monotonic() + 60  # processes of a killed run may still have files open for writing
        while subprocess.run(["mount", "-o", f"remount,{options}", place], check=False, stderr=DEVNULL).returncode:
            assert time.monotonic() < deadline
            time.sleep(0.5)
        return place

    yield remount
    subprocess.run(["umount", "-l", place], check=True)


def wholes(run: Path) -> int:
    """How many checkpoints there are; each of them can be read."""
    paths = list((run / "trainings").rglob("*.pt"))
    for path in paths:
        read_checkpoint(path)
    return len(paths)


def test_a_full_disk(
    road: Road,
    undisturbed: tuple[Path, str],
    disk: Callable[[str], Path],
    recovered: Callable[[str, float], None],
) -> None:
    one = (RunDirectory(undisturbed[0]).stage("random", 0, "plateau") / "best.pt").stat().st_size
    run = disk(f"size={one * 5 + 300_000}") / "run"
    output = road.run("pipeline", run, code=1)
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert "No space left on device" in line and "the same command" in line and "Traceback" not in output
    assert wholes(run) > 0
    assert not list((run / "trainings").rglob("*.tmp"))

    disk("size=200m")
    started = time.monotonic()
    road.run("pipeline", run)
    recovered("the disk was full: from the same command to the end of the whole run", time.monotonic() - started)
    assert results(run) == results(undisturbed[0])


def test_a_disk_that_becomes_read_only(road: Road, undisturbed: tuple[Path, str], disk: Callable[[str], Path]) -> None:
    run = disk("size=200m") / "run"
    process = road.start("pipeline", run)
    stage = RunDirectory(run).stage("random", 0, "plateau")
    wait_for((stage / "epoch-00001.pt").exists, process)
    process.kill()
    process.communicate()
    disk("ro")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    message = road.refused("pipeline", run)
    assert f"error: cannot write to {run}" in message and "--run-dir" in message and "Traceback" not in message
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    disk("rw")
    road.run("pipeline", run)
    assert results(run) == results(undisturbed[0])
