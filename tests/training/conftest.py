"""A fold that several files train in one start, to compare with."""

from __future__ import annotations

import pytest
import torch
from trained_folds import result_of, task_of

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment
from salt_ray.survey.folds import FoldTable
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.training.loop import train_fold
from salt_ray.training.progress import Progress


@pytest.fixture(scope="module")
def undisturbed(
    one_thread: None,
    tiny: Experiment,
    tiny_tiles: TrainingTiles,
    tiny_folds: FoldTable,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[dict, list[Progress]]:
    """What the fold leaves behind, and what it reports."""
    run, task, reports = RunDirectory(tmp_path_factory.mktemp("run")), task_of(tiny, tiny_folds), []
    train_fold(task, tiny_tiles, run, torch.device("cpu"), reports.append)
    return result_of(task, run), reports
