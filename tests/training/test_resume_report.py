"""What a stage reports that goes on from a checkpoint: every epoch at least once, whenever it was killed."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
import torch
from rich.console import Console

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment
from salt_ray.report.terminal import Terminal
from salt_ray.survey.folds import FoldTable
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.training.loop import train_fold
from salt_ray.training.progress import Progress
from salt_ray.training.task import FoldTask

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
EPOCHS = [("plateau", 1), ("plateau", 2), ("plateau", 3), ("cosine", 1), ("cosine", 2)]
FIELDS = ("training", "fold", "stage", "epoch", "epochs", "loss", "validation_loss", "score", "best_score", "lr")


class Killed(Exception):
    pass


def train_in_two_starts(task: FoldTask, tiles: TrainingTiles, run: RunDirectory, kill: int) -> list[list[Progress]]:
    """What two starts reported; the first is killed between the checkpoint of epoch ``kill`` and its report."""
    first, second = [], []

    def report(progress: Progress) -> None:
        if len(first) == kill - 1:
            raise Killed
        first.append(progress)

    with pytest.raises(Killed):
        train_fold(task, tiles, run, CPU, report)
    train_fold(task, tiles, run, CPU, second.append)
    return [first, second]


@pytest.mark.parametrize("kill", [1, 3, 5])
def test_the_epoch_of_the_checkpoint_is_reported_again(
    kill: int,
    undisturbed: tuple[dict, list[Progress]],
    tiny: Experiment,
    tiny_tiles: TrainingTiles,
    tiny_folds: FoldTable,
    tmp_path: Path,
) -> None:
    task = FoldTask(tiny, tiny.trainings[0], 0, tiny_folds)
    first, second = train_in_two_starts(task, tiny_tiles, RunDirectory(tmp_path), kill)
    assert [(p.stage, p.epoch) for p in first + second] == EPOCHS
    for ours, theirs in zip(first + second, undisturbed[1], strict=True):
        assert [getattr(ours, field) for field in FIELDS] == [getattr(theirs, field) for field in FIELDS]
    restored, *later = second
    assert math.isnan(restored.tiles_per_second) and math.isnan(restored.seconds_left)
    assert restored.time >= undisturbed[1][-1].time
    assert all(p.tiles_per_second > 0 and p.seconds_left >= 0 for p in first + later)


def test_an_epoch_without_times_is_shown(
    tiny: Experiment, tiny_tiles: TrainingTiles, tiny_folds: FoldTable, tmp_path: Path
) -> None:
    task = FoldTask(tiny, tiny.trainings[0], 0, tiny_folds)
    _, (restored, *_) = train_in_two_starts(task, tiny_tiles, RunDirectory(tmp_path), 5)
    stream = io.StringIO()
    with Terminal(Console(file=stream, width=160)).folds([restored.name]) as show:
        show(restored)
    assert stream.getvalue().rstrip().endswith("tiles/s ?  left ?")
