"""What is trained: one fold of one training of an experiment."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from salt_ray.artifacts import Folder, RunDirectory
from salt_ray.compatibility import ADDED
from salt_ray.config import Experiment, Training
from salt_ray.decision import ARGUS, Decision
from salt_ray.storage import fields_if_there
from salt_ray.survey.folds import FoldTable


def fold_name(training: str, fold: int) -> str:
    """How a fold is called in messages, runs and tables."""
    return f"{training}-fold-{fold}"


def decisive(experiment: Experiment) -> dict[str, Any]:
    """What of an experiment, beside the stages, decides its models' weights, or how they have to be used."""
    return experiment.model_dump(mode="json", include={"seed", "geometry", "augmentation", "network", "precision"})


def begun_decision(run: RunDirectory, experiment: Experiment) -> Decision | None:
    """The decision that the run's trainings began with: all epochs of a run are compared by the same one.

    None where nothing has begun.

    Raises:
        RunError: the inputs of a stage are damaged.
    """
    for training in experiment.trainings:
        for fold in range(training.folds.count):
            folder = run.stage(training.name, fold, training.stages[0].name)
            inputs = fields_if_there(folder / "inputs.json", folder)
            if inputs is not None:
                return Decision(**inputs.get("decision", ADDED["decision"]))
    return None


@dataclass(frozen=True)
class FoldTask:
    """One fold of one training: everything that decides its weights."""

    experiment: Experiment
    training: Training
    fold: int
    folds: FoldTable
    #: SHA-256 of the file that the encoder's first weights come from; None where there is no file.
    weights: str | None = None
    #: How an epoch's validation masks are decided; epochs, learning rate and stopping follow their score.
    decision: Decision = ARGUS

    @property
    def name(self) -> str:
        return fold_name(self.training.name, self.fold)

    def inputs(self, stages: int, survey_key: str) -> dict[str, Any]:
        """What the first ``stages`` stages depend on, for ``artifacts.Folder``."""
        return {
            "experiment": decisive(self.experiment),
            "stages": [stage.model_dump(mode="json") for stage in self.training.stages[:stages]],
            "fold": self.fold,
            "folds": self.folds.digest,
            "survey": survey_key,
            "weights": self.weights,
            "decision": self.decision.model_dump(mode="json"),
        }

    def stage_folder(self, run: RunDirectory, stage: int, survey_key: str) -> Folder:
        path = run.stage(self.training.name, self.fold, self.training.stages[stage].name)
        return Folder(path, self.inputs(stage + 1, survey_key))

    def epochs_after(self, stage: int) -> int:
        """How many epochs the stages after this one may take."""
        return sum(later.epochs for later in self.training.stages[stage + 1 :])

    def seed(self, *parts: int) -> int:
        """A seed for one use (``parts``), independent of every other."""
        entropy = [self.experiment.seed, zlib.crc32(self.training.name.encode()), self.fold, *parts]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])
