"""Kills of whole runs: in an object store, and at random moments. Aimed ones on a disk are in ``test_one_run.py``."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from road import SECONDS, Road, downloaded, results, store_environment, wait_for, workers

from salt_ray.artifacts import RunDirectory
from salt_ray.storage import storage_path

pytestmark = pytest.mark.alone

KILLS = 20


@pytest.mark.slow
def test_a_run_in_an_object_store_is_killed_and_ends_with_the_same_bytes(
    road: Road,
    ray_directory: Path,
    undisturbed: Path,
    bucket: str,
    tmp_path: Path,
    recovered: Callable[[str, float], None],
) -> None:
    """One of its two folds is trained before, without Ray."""
    run = storage_path(f"{bucket}/{tmp_path.name}")
    fold = RunDirectory(run).stage("random", 0, "plateau").parent
    road.here("train", run, "--folds", "1")
    process = road.start("train", run, "--folds", "0", environment=store_environment())
    wait_for(lambda: bool(set(fold.rglob("epoch-*.pt"))), process)
    process.kill()
    process.communicate()

    started = time.monotonic()
    process = road.start("pipeline", run, environment=store_environment())

    def victims() -> list[psutil.Process]:
        """Those of this command: the killed one's may still be ending."""
        own = {child.pid for child in psutil.Process(process.pid).children(recursive=True)}
        return [worker for worker in workers(ray_directory) if worker.pid in own]

    wait_for(lambda: bool(victims()), process)
    (victim,) = victims()
    before = set(fold.rglob("epoch-*.pt"))
    wait_for(lambda: bool(set(fold.rglob("epoch-*.pt")) - before), process)
    victim.kill()
    recovered("the driver was killed, run on S3: from the same command to the next epoch", time.monotonic() - started)
    output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, output
    assert "random-fold-0: its worker was lost and resumes from its checkpoint" in output
    assert results(downloaded(run, tmp_path / "run")) == results(undisturbed)
    assert (run / "submission.csv").read_bytes() == (undisturbed / "submission.csv").read_bytes()


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_killed_at_random_moments(road: Road, undisturbed: Path, tmp_path: Path) -> None:
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
            assert results(run) == results(undisturbed)
            runs += 1
        else:
            assert process.returncode < 0, output
    road.run("pipeline", run)
    assert results(run) == results(undisturbed)
