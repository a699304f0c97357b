"""Damaged checkpoints: the newest is passed over, and where none is left nothing starts over by itself."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from road import Road, results, wait_for

from salt_ray.artifacts import RunDirectory


@pytest.fixture(scope="module")
def interrupted(road: Road, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed when its first fold had two checkpoints."""
    run = tmp_path_factory.mktemp("interrupted")
    stage = RunDirectory(run).stage("random", 0, "plateau")
    process = road.start("pipeline", run)
    wait_for(lambda: len(list(stage.glob("epoch-*.pt"))) == 2, process)
    process.kill()
    process.communicate()
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
    road: Road, undisturbed: tuple[Path, str], interrupted: Path, tmp_path: Path, damage
) -> None:
    run = tmp_path / "run"
    shutil.copytree(interrupted, run)
    newest = max(RunDirectory(run).stage("random", 0, "plateau").glob("epoch-*.pt"))
    damage(newest)
    output = road.run("pipeline", run)
    assert f"{newest} is damaged; going on from the one before it" in output
    assert results(run) == results(undisturbed[0])


@pytest.mark.slow
def test_without_a_usable_checkpoint_nothing_starts_over(road: Road, interrupted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(interrupted, run)
    stage = RunDirectory(run).stage("random", 0, "plateau")
    for path in stage.glob("*.pt"):
        truncate(path)
    before = {path: path.read_bytes() for path in stage.glob("*.pt")}
    output = road.run("train", run, code=1)
    assert f"error: no usable checkpoint is left in {stage}: restore one, or delete the folder" in output
    assert "Traceback" not in output
    assert {path: path.read_bytes() for path in stage.glob("*.pt")} == before
    assert not (stage / "done.json").exists()
