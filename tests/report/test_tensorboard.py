"""Curves for TensorBoard: every epoch once, on the disk as soon as it was reported."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

from curves import curves, events

from salt_ray.report.tensorboard import SCALARS, EpochLog
from salt_ray.training.progress import Progress


def progress(epoch: int, stage: str = "plateau", score: float = 0.5) -> Progress:
    return Progress("random", 0, stage, epoch, 9, 0.25, 0.75, score, 0.875, 0.0625, 128.0, 60.0, 1000.0 + epoch)


def test_an_epoch_is_on_the_disk_when_it_is_reported(tmp_path: Path) -> None:
    log = EpochLog(tmp_path)
    for epoch in (1, 2):
        log.write(progress(epoch))
        found = curves(tmp_path / "plateau")
        assert set(found) == {f"plateau/{name}" for name in SCALARS}
        for name in SCALARS:
            value = getattr(progress(epoch), name)
            assert found[f"plateau/{name}"] == [(past, value) for past in range(1, epoch + 1)]
    times = [event.wall_time for event in events(tmp_path / "plateau") if event.summary.value]
    assert times == [1001.0, 1002.0]
    log.close()


def test_stages_are_runs_of_their_own(tmp_path: Path) -> None:
    log = EpochLog(tmp_path)
    for stage in ("plateau", "cosine"):
        for epoch in (1, 2):
            log.write(progress(epoch, stage))
    log.close()
    for stage in ("plateau", "cosine"):
        assert [step for step, _ in curves(tmp_path / stage)[f"{stage}/score"]] == [1, 2]


def test_epochs_that_are_written_again_show_once(tmp_path: Path) -> None:
    """A worker is killed after epoch 4, goes on from the checkpoint of epoch 2, and once more from that of epoch 3."""
    for start, epochs in enumerate(((1, 2, 3, 4), (2, 3), (3, 4, 5))):
        log = EpochLog(tmp_path)  # several within a second, and none of them closed
        for epoch in epochs:
            log.write(progress(epoch, score=start / 4))
    found = curves(tmp_path / "plateau")
    assert found["plateau/score"] == [(1, 0.0), (2, 0.25), (3, 0.5), (4, 0.5), (5, 0.5)]


def test_what_is_not_known_is_left_out(tmp_path: Path) -> None:
    log = EpochLog(tmp_path)
    log.write(dataclasses.replace(progress(1), tiles_per_second=math.nan))
    log.write(progress(2))
    found = curves(tmp_path / "plateau")
    assert found["plateau/tiles_per_second"] == [(2, 128.0)]
    assert [step for step, _ in found["plateau/score"]] == [1, 2]
