"""Which trained models a fold has, and which of them predict; every command asks here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Training
from salt_ray.storage import StoragePath, load_fields
from salt_ray.training.checkpoint import CheckpointFolder
from salt_ray.training.task import fold_name

Choice = Literal["best", "last"]


@dataclass(frozen=True)
class FoldModel:
    """The best checkpoint of one finished stage of a fold.

    Attributes:
        index: of the stage in its training.
        folder: of the stage.
        marker: what the stage came to: ``epochs``, ``best_epoch``, ``best_score``.
        better: the model that would be taken today, where this one has predicted and does worse.
    """

    training: str
    fold: int
    stage: str
    index: int
    folder: StoragePath
    marker: dict[str, Any]
    better: FoldModel | None = None

    @property
    def checkpoint(self) -> StoragePath:
        return CheckpointFolder(self.folder).best_path

    @property
    def score(self) -> float:
        """On the tiles that validate the fold, in the model's best epoch."""
        return self.marker["best_score"]

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.stage} (scored {self.score:.4f} in epoch {self.marker['best_epoch']})"

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
    """The models whose mean is the fold's prediction; empty until all stages are trained.

    A model that has predicted stays until ``predict --again``, or until a later stage does better: a run's scores, its
    masks and what it says of other tiles come from the same models.

    Raises:
        RunError: a marker is damaged.
    """
    stages = trained_stages(run, training, fold)
    if len(stages) < len(training.stages):
        return []
    chosen = preferred(stages, choice)
    predicted = [stage for stage in stages if (_prediction(run, stage) / "inputs.json").exists()]
    if not predicted or predicted[-1].index <= chosen.index:
        return [chosen]
    return [replace(predicted[-1], better=chosen if chosen.score > predicted[-1].score else None)]


def preferred(stages: list[FoldModel], choice: Choice) -> FoldModel:
    """The best of a fold's stages, of equal ones the first; or the last one."""
    return stages[-1] if choice == "last" else max(stages, key=lambda stage: stage.score)


def other_predictions(run: RunDirectory, training: Training, fold: int, choice: Choice) -> list[StoragePath]:
    """Folders of predictions that do not come from the model that would be taken today."""
    stages = trained_stages(run, training, fold)
    if len(stages) < len(training.stages):
        return []
    chosen = preferred(stages, choice)
    folders = [_prediction(run, stage) for stage in stages if stage != chosen]
    return [folder for folder in folders if (folder / "inputs.json").exists()]


def _prediction(run: RunDirectory, model: FoldModel) -> StoragePath:
    return run.prediction(model.training, model.fold, model.stage)
