"""Damaged checkpoints: the newest is passed over, and where none is left nothing starts over by itself."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from road import Road, results

from salt_ray.artifacts import RunDirectory


@pytest.fixture
def run(undisturbed: tuple[Path, str], tmp_path: Path) -> Path:
    """A run whose first fold was interrupted after the last epoch of its first stage."""
    run = tmp_path / "run"
    shutil.copytree(undisturbed[0], run)
    for results_of_it in ("predictions", "postprocessing", "submission.csv", "scores.json"):
        path = run / results_of_it
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(RunDirectory(run).stage("random", 0, "cosine"))
    for name in ("done.json", "history.csv"):
        (RunDirectory(run).stage("random", 0, "plateau") / name).unlink()
    return run


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: random.Random(1).randrange(len(content))])


def flip_a_bit(path: Path) -> None:
    content, moment = bytearray(path.read_bytes()), random.Random(2)
    content[moment.randrange(len(content))] ^= 1 << moment.randrange(8)
    path.write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [truncate, flip_a_bit])
def test_the_newest_checkpoint_is_damaged(
    road: Road, undisturbed: tuple[Path, str], run: Path, damage: Callable[[Path], None]
) -> None:
    newest = max(RunDirectory(run).stage("random", 0, "plateau").glob("epoch-*.pt"))
    damage(newest)
    output = road.run("pipeline", run)
    assert f"{newest} is damaged; going on from the one before it" in output
    assert results(run) == results(undisturbed[0])


@pytest.mark.slow
def test_without_a_usable_checkpoint_nothing_starts_over(road: Road, run: Path) -> None:
    stage = RunDirectory(run).stage("random", 0, "plateau")
    for path in stage.glob("*.pt"):
        truncate(path)
    before = {path: path.read_bytes() for path in stage.glob("*.pt")}
    output = road.run("train", run, code=1)
    assert f"error: no usable checkpoint is left in {stage}: restore one, or delete the folder" in output
    assert "Traceback" not in output
    assert {path: path.read_bytes() for path in stage.glob("*.pt")} == before
    assert not (stage / "done.json").exists()
