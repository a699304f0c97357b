"""The engine that places a run's work on Ray: folds, predictions, mosaics and trials (``pipeline.engine``)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

from salt_ray.cluster.session import connect, fold_resources, slots  # isort: skip (sets Ray's environment)
from salt_ray.artifacts import RunDirectory
from salt_ray.cluster.prediction import predict_pieces
from salt_ray.cluster.tasks import RayTasks
from salt_ray.cluster.training import train_folds
from salt_ray.cluster.trials import run_trials
from salt_ray.cluster.visibility import check_nodes_see
from salt_ray.config import Experiment, Resources
from salt_ray.pipeline.engine import Piece, Work
from salt_ray.pipeline.fold import Outcome
from salt_ray.pipeline.trial import SearchWork
from salt_ray.report.trials import TrialView
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.training.progress import Progress, StepProgress
from salt_ray.training.task import FoldTask
from salt_ray.tuning.study import Study


class RayEngine:
    """Connects when the first work comes; the connection ends with the block.

    Args:
        address: a Ray cluster; None: the one that this process runs on, or a local one.
        show: is told the dashboard's address, ``host:port``, or None where there is none.
    """

    def __init__(self, address: str | None, show: Callable[[str | None], None]) -> None:
        self._address, self._show = address, show
        self._open, self._connected = contextlib.ExitStack(), False

    def __enter__(self) -> RayEngine:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()

    def places(self, experiment: Experiment) -> int:
        self._connect()
        return max(1, slots(fold_resources(experiment.resources, len(experiment.all_folds))))

    def train(
        self,
        tasks: Sequence[FoldTask],
        tiles: TrainingTiles,
        run: RunDirectory,
        report: Callable[[Progress | StepProgress], None],
        say: Callable[[str], None],
    ) -> list[Outcome]:
        self._connect()
        return train_folds(tasks, tiles, run, report, say)

    def predict(self, pieces: Sequence[Piece], work: Work[Piece], say: Callable[[str], None]) -> Iterator[Piece]:
        self._connect()
        return predict_pieces(pieces, work, say)

    def tasks(self, task: Callable[[int], Callable[[], Any]], run: RunDirectory, beside: Resources) -> RayTasks:
        self._connect()
        check_nodes_see(run)
        return RayTasks(task, beside)

    def search(self, study: Study, work: SearchWork, tiles: TrainingTiles, view: TrialView) -> None:
        self._connect()
        run_trials(study, work, tiles, view)

    def _connect(self) -> None:
        if not self._connected:
            self._show(self._open.enter_context(connect(self._address)))
            self._connected = True
