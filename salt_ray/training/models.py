"""Which trained models a fold has, and which of them predict; every command asks here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Literal

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Training
from salt_ray.storage import StoragePath, load_fields
from salt_ray.training.checkpoint import CheckpointFolder
from salt_ray.training.task import fold_name

Choice = Literal["best", "last", "snapshots"]


@dataclass(frozen=True)
class FoldModel:
    """The best checkpoint of one finished stage of a fold, or the mean of the stage's snapshots (Huang et al., 2017).

    Snapshots are one model: what they predict is averaged before it is stored, so that every fold has the same weight.

    Attributes:
        index: of the stage in its training.
        folder: of the stage.
        marker: what the stage came to: ``epochs``, ``best_epoch``, ``best_score``, and where some are kept
            ``snapshots``.
        of_snapshots: whether it is the mean of the snapshots.
        better: the model that would be taken today, where this one has predicted and does worse.
    """

    training: str
    fold: int
    stage: str
    index: int
    folder: StoragePath
    marker: dict[str, Any]
    of_snapshots: bool = False
    better: FoldModel | None = None

    @property
    def epochs(self) -> dict[int, float]:
        """Of each epoch whose network it has, the score on the tiles that validate the fold."""
        if self.of_snapshots:
            return {snapshot["epoch"]: snapshot["score"] for snapshot in self.marker["snapshots"]}
        return {self.marker["best_epoch"]: self.marker["best_score"]}

    @property
    def checkpoints(self) -> tuple[StoragePath, ...]:
        """One for each of ``epochs``."""
        folder = CheckpointFolder(self.folder)
        return tuple(map(folder.snapshot_path, self.epochs)) if self.of_snapshots else (folder.best_path,)

    @property
    def score(self) -> float:
        """Mean over ``epochs``. That of the mean of several networks is not known before it has predicted."""
        return fmean(self.epochs.values())

    @property
    def when(self) -> str:
        """Its epochs, for people."""
        numbers = ", ".join(map(str, self.epochs))
        return f"snapshots of epochs {numbers}" if self.of_snapshots else f"epoch {numbers}"

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.stage} (scored {self.score:.4f} in {self.when})"

    def predictions(self, results: RunDirectory) -> StoragePath:
        """Where its probabilities are in a directory of results."""
        return results.prediction(self.training, self.fold, self.stage, self.of_snapshots)

    @property
    def remark(self) -> str | None:
        """What to say where there is a better one."""
        if self.better is None:
            return None
        name = fold_name(self.training, self.fold)
        return (
            f"{name} has predicted with stage {self.text}; best is {self.better.text}: "
            "predict --again predicts with that"
        )


def trained_stages(run: RunDirectory, training: Training, fold: int) -> list[FoldModel]:
    """The finished stages of a fold, in order; it is trained when these are all.

    Raises:
        RunError: a marker is damaged.
    """
    found = []
    for index, stage in enumerate(training.stages):
        folder = run.stage(training.name, fold, stage.name)
        if not (folder / "done.json").exists():
            break
        marker = load_fields(folder / "done.json", folder, "epochs", "best_epoch", "best_score")
        found.append(FoldModel(training.name, fold, stage.name, index, folder, marker))
    return found


def fold_models(run: RunDirectory, training: Training, fold: int, choice: Choice) -> list[FoldModel]:
    """The model that predicts for the fold; empty until all stages are trained.

    A model that has predicted stays until ``predict --again``, or until a later stage does better: a run's scores, its
    masks and what it says of other tiles come from the same models.

    Raises:
        RunError: a marker is damaged.
    """
    stages = trained_stages(run, training, fold)
    if len(stages) < len(training.stages):
        return []
    chosen = preferred(stages, choice)
    predicted = [stage for stage in stages if (stage.predictions(run) / "inputs.json").exists()]
    if not predicted or chosen.of_snapshots or predicted[-1].index <= chosen.index:
        return [chosen]
    return [replace(predicted[-1], better=chosen if chosen.score > predicted[-1].score else None)]


def preferred(stages: list[FoldModel], choice: Choice) -> FoldModel:
    """The best of a fold's stages, of equal ones the first; the last one; or the last snapshots, if there are any."""
    if choice == "snapshots" and (kept := _snapshots(stages)):
        return kept[-1]
    return stages[-1] if choice == "last" else max(stages, key=lambda stage: stage.score)


def other_predictions(run: RunDirectory, training: Training, fold: int, choice: Choice) -> list[StoragePath]:
    """Folders of predictions that do not come from the model that would be taken today."""
    stages = trained_stages(run, training, fold)
    if len(stages) < len(training.stages):
        return []
    chosen = preferred(stages, choice)
    folders = [model.predictions(run) for model in [*stages, *_snapshots(stages)] if model != chosen]
    return [folder for folder in folders if (folder / "inputs.json").exists()]


def _snapshots(stages: list[FoldModel]) -> list[FoldModel]:
    return [replace(stage, of_snapshots=True) for stage in stages if "snapshots" in stage.marker]
