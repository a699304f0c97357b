"""What a run needs of whoever does its work: the one interface between the steps and Ray.

``salt_ray.cluster.engine`` places work on a Ray cluster; ``salt_ray.pipeline.local`` does it in this process. Both end
with the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment, Resources
from salt_ray.pipeline.fold import Outcome
from salt_ray.pipeline.trial import SearchWork
from salt_ray.report.trials import TrialView
from salt_ray.storage import StoragePath
from salt_ray.survey.padding import Frame
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.training.progress import Progress, StepProgress
from salt_ray.training.task import FoldTask
from salt_ray.tuning.study import Study

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class Chunk:
    """Tiles that one model predicts into one file.

    Attributes:
        checkpoints: the model's weights, a file for each of its networks.
        tiles: (n,) int64: positions in the survey.
        path: the file.
    """

    checkpoints: tuple[StoragePath, ...]
    tiles: np.ndarray
    path: StoragePath


Piece = TypeVar("Piece")


class Work(Protocol[Piece]):
    """Pieces that are predicted into a file each: chunks of tiles, or slabs of a volume.

    Attributes:
        experiment: of the models.
        directories: where checkpoints are read and predictions written; every worker has to see them.
    """

    @property
    def experiment(self) -> Experiment: ...

    @property
    def directories(self) -> tuple[RunDirectory, ...]: ...

    def begin(
        self, device: torch.device, say: Callable[[str], None], most: int | None = None
    ) -> Callable[[Piece], None]:
        """What predicts and writes a piece, in the process that calls it; models stay once they are loaded.

        Args:
            say: gets lines for people.
            most: how many models stay; None: all.

        Raises:
            SaltRayError: this process does not see what it needs.
        """

    def workers(self, left: Collection[Piece]) -> int:
        """How many workers are worth asking a cluster for."""


@dataclass(frozen=True)
class Predicting:
    """What chunks have in common (``Work``).

    Attributes:
        padded: (N, P, P) uint8, the survey's padded tiles.
        directories: where checkpoints are read and predictions written; every worker has to see them.
    """

    experiment: Experiment
    frame: Frame
    padded: np.ndarray
    directories: tuple[RunDirectory, ...]

    def begin(
        self, device: torch.device, say: Callable[[str], None], most: int | None = None
    ) -> Callable[[Chunk], None]:
        from salt_ray.inference.predict import Models  # PyTorch: not before it is needed

        models = Models(self.experiment, self.frame, device, say, most)
        return lambda chunk: models.write_chunk(chunk.checkpoints, self.padded[chunk.tiles], chunk.path)

    def workers(self, left: Collection[Chunk]) -> int:
        return len({chunk.checkpoints for chunk in left})


@dataclass(frozen=True)
class Failed:
    """In place of a task's answer, why there is none."""

    reason: str


class Tasks(Protocol):
    """Numbered tasks, done while the caller continues."""

    def add(self, number: int) -> None:
        """One more to be done."""

    def __bool__(self) -> bool:
        """Whether one has not been answered."""

    def answers(self, wait: bool) -> Iterator[tuple[int, Any]]:
        """Those that have come, by number: what the task returned, or ``Failed``.

        Args:
            wait: for at least one; otherwise predictions are being made, which go before.

        Raises:
            LeakError: a task saw a label that it must not see.
        """


class Engine(Protocol):
    """Does the work of runs."""

    def places(self, experiment: Experiment) -> int:
        """How many folds are trained at a time, at least one."""

    def train(
        self,
        tasks: Sequence[FoldTask],
        tiles: TrainingTiles,
        run: RunDirectory,
        report: Callable[[Progress | StepProgress], None],
        say: Callable[[str], None],
    ) -> list[Outcome]:
        """Train every fold; one that fails does not stop the others.

        Args:
            report: gets every fold's progress.
            say: gets lines for people.
        """

    def predict(self, pieces: Sequence[Piece], work: Work[Piece], say: Callable[[str], None]) -> Iterator[Piece]:
        """Predict and write pieces, the first ones first; each comes back once its file is there.

        Raises:
            SaltRayError: a model cannot predict.
        """

    def tasks(self, task: Callable[[int], Callable[[], Any]], run: RunDirectory, beside: Resources) -> Tasks:
        """Tasks that take a core each.

        Args:
            task: what is to be done for a number, with all of its data; asked when its turn comes.
            run: where the tasks read and write.
            beside: what the prediction workers take that these tasks run beside.
        """

    def search(self, study: Study, work: SearchWork, tiles: TrainingTiles, view: TrialView) -> None:
        """Run every trial that is left.

        Args:
            view: is told how far every trial is.

        Raises:
            SearchStopped: something is in the way that is no trial's fault; what was running can resume.
        """
