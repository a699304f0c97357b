"""The folder of a search, and what a search depends on."""

from __future__ import annotations

from typing import Any

from salt_ray.artifacts import Folder, RunDirectory
from salt_ray.config import Experiment

#: What may differ when a search goes on: it can be made longer, or wider.
CHANGEABLE = {"trials", "trials_per_gpu", "max_concurrent", "kept_checkpoints"}


def study_folder(experiment: Experiment, run: RunDirectory, inputs: dict[str, Any]) -> Folder:
    """The folder of an experiment's search.

    Args:
        inputs: what trials depend on beside the experiment: tiles, folds, first weights.
    """
    chosen = {"seed", "geometry", "augmentation", "network", "precision", "trainings"}
    tune = experiment.tune and experiment.tune.model_dump(mode="json", exclude=CHANGEABLE)
    return Folder(run.study, {"experiment": experiment.model_dump(mode="json", include=chosen), "tune": tune, **inputs})
