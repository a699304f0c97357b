"""The interface between the steps of a run and the engine that does the work, on Ray or not.

``salt_ray.cluster.engine`` places work on a Ray cluster; ``salt_ray.pipeline.local`` does it in this process. Both give
identical results.
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
    """Tiles that one model predicts, written to one file.

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
    """Prediction of pieces, each written to a file: chunks of tiles, or slabs of a volume.

    Attributes:
        experiment: the models' experiment.
        directories: where checkpoints are read and predictions written; every worker must be able to access them.
    """

    @property
    def experiment(self) -> Experiment: ...

    @property
    def directories(self) -> tuple[RunDirectory, ...]: ...

    def begin(
        self, device: torch.device, say: Callable[[str], None], most: int | None = None
    ) -> Callable[[Piece], None]:
        """Return a function that predicts and writes a piece in this process; loaded models are kept.

        Args:
            say: called with messages for users.
            most: largest number of models kept; None: all.

        Raises:
            SaltRayError: this process cannot access what it needs.
        """

    def workers(self, left: Collection[Piece]) -> int:
        """The largest useful number of workers."""


@dataclass(frozen=True)
class Predicting:
    """Data shared by all chunks (``Work``).

    Attributes:
        padded: (N, P, P) uint8, the survey's padded tiles.
        directories: where checkpoints are read and predictions written; every worker must be able to access them.
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
        """Add a task."""

    def __bool__(self) -> bool:
        """Whether any answer is outstanding."""

    def answers(self, wait: bool) -> Iterator[tuple[int, Any]]:
        """Available answers by number: the task's result, or ``Failed``.

        Args:
            wait: wait for at least one; False while predictions are running, which have priority.

        Raises:
            LeakError: a task saw a hidden label.
        """


class Engine(Protocol):
    """Does the work of runs."""

    def places(self, experiment: Experiment) -> int:
        """The number of folds trained at a time, at least one."""

    def train(
        self,
        tasks: Sequence[FoldTask],
        tiles: TrainingTiles,
        run: RunDirectory,
        report: Callable[[Progress | StepProgress], None],
        say: Callable[[str], None],
    ) -> list[Outcome]:
        """Train every fold; a failure does not stop the others.

        Args:
            report: called with every fold's progress.
            say: called with messages for users.
        """

    def predict(self, pieces: Sequence[Piece], work: Work[Piece], say: Callable[[str], None]) -> Iterator[Piece]:
        """Predict and write pieces in order; yields each piece once its file is complete.

        Raises:
            SaltRayError: a model cannot predict.
        """

    def tasks(self, task: Callable[[int], Callable[[], Any]], run: RunDirectory, beside: Resources) -> Tasks:
        """Tasks that use one core each.

        Args:
            task: returns the function for a number, with all of its data; called when its turn comes.
            run: where the tasks read and write.
            beside: resources taken by prediction workers that run at the same time.
        """

    def search(self, study: Study, work: SearchWork, tiles: TrainingTiles, view: TrialView) -> None:
        """Run all remaining trials.

        Args:
            view: shows the progress of every trial.

        Raises:
            SearchStopped: an error not caused by a trial; running trials can be resumed.
        """
