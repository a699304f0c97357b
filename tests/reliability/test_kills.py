"""Killed anywhere, a run ends with the same bytes as an undisturbed one, and what was finished is not done again."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from road import SECONDS, Road, downloaded, results, store_environment, wait_for, workers

from salt_ray.artifacts import RunDirectory
from salt_ray.storage import storage_path

KILLS = 20


def test_the_driver_is_killed(
    road: Road, undisturbed: tuple[Path, str], tmp_path: Path, recovered: Callable[[str, float], None]
) -> None:
    stage = RunDirectory(tmp_path).stage("random", 0, "plateau")
    process = road.start("pipeline", tmp_path)
    wait_for((stage / "epoch-00001.pt").exists, process)
    message = road.refused("pipeline", tmp_path)  # a second one must not work in the same run directory
    assert f"error: another process works on {tmp_path}: wait for it, or change --run-dir" in message
    process.kill()
    process.communicate()
    assert not (stage / "done.json").exists()

    started = time.time()
    process = road.start("pipeline", tmp_path)  # the lock has died with its owner
    trainings = tmp_path / "trainings"
    # Workers of the killed run may write for some seconds more.
    wait_for(lambda: any(path.stat().st_mtime > started + 5 for path in trainings.rglob("epoch-*.pt")), process)
    recovered("the driver was killed: from the same command to the next epoch", time.time() - started)
    output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, output
    assert results(tmp_path) == results(undisturbed[0])


def test_training_workers_are_killed(
    road: Road,
    ray_directory: Path,
    undisturbed: tuple[Path, str],
    tmp_path: Path,
    recovered: Callable[[str, float], None],
) -> None:
    stage = RunDirectory(tmp_path).stage("random", 0, "plateau")
    process = road.start("pipeline", tmp_path)
    wait_for((stage / "epoch-00001.pt").exists, process)
    victims, killed = workers(ray_directory), time.time_ns()
    assert victims
    for victim in victims:
        victim.kill()
    epochs = RunDirectory(tmp_path).path / "trainings"
    wait_for(lambda: any(path.stat().st_mtime_ns > killed + 10**9 for path in epochs.rglob("epoch-*.pt")), process)
    recovered("all training workers were killed: to the next epoch", (time.time_ns() - killed) / 1e9)
    output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, output
    assert results(tmp_path) == results(undisturbed[0])


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
def test_it_is_interrupted(road: Road, undisturbed: tuple[Path, str], tmp_path: Path) -> None:
    stage = RunDirectory(tmp_path).stage("random", 0, "plateau")
    process = road.start("pipeline", tmp_path)
    wait_for((stage / "epoch-00001.pt").exists, process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in output
    assert f"interrupted: what is done is kept in {tmp_path}, and the same command goes on" in output
    road.run("pipeline", tmp_path)
    assert results(tmp_path) == results(undisturbed[0])


KILL_IN_WRITE = '''
"""Loaded by every Python process: the one that writes the {file} of fold 0 dies in the middle of it, once."""
import os, signal
from pathlib import Path

whole = os.fsync

def torn(handle):
    name = Path(os.readlink(f"/proc/self/fd/{{handle}}")) if isinstance(handle, int) else Path()
    if "fold-0/plateau/.{file}" in str(name) and not Path({flag!r}).exists():
        Path({flag!r}).write_text(str(name))
        os.truncate(name, name.stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(handle)

os.fsync = torn
'''


@pytest.mark.slow
@pytest.mark.parametrize("file", ["epoch-00002.pt", "best.pt"])
def test_a_worker_is_killed_inside_a_checkpoint_write(
    road: Road, undisturbed: tuple[Path, str], tmp_path: Path, file: str
) -> None:
    flag, run = tmp_path / "killed", tmp_path / "run"
    (tmp_path / "sitecustomize.py").write_text(KILL_IN_WRITE.format(file=file, flag=str(flag)))
    road.run("pipeline", run, environment={"PYTHONPATH": str(tmp_path)})
    torn = Path(flag.read_text())  # it did happen, in a temporary file
    assert torn.name.startswith(f".{file}.") and not torn.exists()
    assert results(run) == results(undisturbed[0])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_random_moments(road: Road, undisturbed: tuple[Path, str], tmp_path: Path) -> None:
    """Twenty kills of the driver, wherever it is, each followed by the same command; a new run when one is finished."""
    moments, kills, runs = random.Random(4), 0, 1
    while kills < KILLS:
        run = tmp_path / str(runs)
        process = road.start("pipeline", run)
        try:
            process.wait(timeout=moments.uniform(2, 25))
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
        output, _ = process.communicate()
        if process.returncode == 0:
            assert results(run) == results(undisturbed[0])
            runs += 1
        else:
            assert process.returncode < 0, output
    road.run("pipeline", run)
    assert results(run) == results(undisturbed[0])


@pytest.mark.slow
def test_a_run_in_an_object_store_is_killed_and_ends_with_the_same_bytes(
    road: Road,
    ray_directory: Path,
    undisturbed: tuple[Path, str],
    bucket: str,
    tmp_path: Path,
    recovered: Callable[[str, float], None],
) -> None:
    run = storage_path(f"{bucket}/{tmp_path.name}")
    epoch = RunDirectory(run).stage("random", 0, "plateau") / "epoch-00001.pt"
    process = road.start("pipeline", run, environment=store_environment())
    wait_for(epoch.exists, process)
    process.kill()
    process.communicate()

    started, before = time.monotonic(), set((run / "trainings").rglob("*.pt"))
    process = road.start("pipeline", run, environment=store_environment())
    wait_for(lambda: bool(set((run / "trainings").rglob("*.pt")) - before), process)
    recovered("the driver was killed, run on S3: from the same command to the next epoch", time.monotonic() - started)
    victims = workers(ray_directory)
    assert victims
    for victim in victims:
        victim.kill()
    output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, output
    assert results(downloaded(run, tmp_path / "run")) == results(undisturbed[0])
    assert (run / "submission.csv").read_bytes() == (undisturbed[0] / "submission.csv").read_bytes()
