"""Small whole runs and searches, made in this process."""

from __future__ import annotations

from pathlib import Path

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment, FloatRange, Tune
from salt_ray.pipeline import steps
from salt_ray.pipeline.local import LocalEngine
from salt_ray.pipeline.run import Run
from salt_ray.report.terminal import Terminal
from salt_ray.tuning.study import Study
from salt_ray.tuning.trial import Step, fold_ends


def shortened(tiny: Experiment) -> Experiment:
    """The tiny experiment with an epoch a stage, all rules applied, and a learning rate to search."""
    (training,) = tiny.trainings
    stages = tuple(stage.replace(epochs=1, early_stopping=None) for stage in training.stages)
    rate = FloatRange(name="lr", fields=("trainings.all.stages.plateau.lr",), low=0.001, high=0.1, log=True)
    return tiny.replace(
        trainings=(training.replace(stages=stages),),
        prediction=tiny.prediction.replace(models="last"),  # cases name the files of the second stage
        postprocessing=tiny.postprocessing.replace(rules="argus"),
        tune=Tune(parameters=(rate,), trials=1, pruner="none"),
    )


def make_run(experiment: Experiment, data: Path, path: Path) -> None:
    """``pipeline``, step by step, up to the report."""
    engine = LocalEngine()
    with Run(experiment, data, RunDirectory(path), Terminal()).held() as run:
        steps.prepare(run)
        steps.train(run, engine)
        steps.predict(run, engine)
        steps.postprocess(run, engine)
        steps.submit(run)
        steps.score(run)


def make_search(experiment: Experiment, data: Path, path: Path) -> None:
    """``tune``: one trial, which is given a score instead of training."""
    with Run(experiment, data, RunDirectory(path), Terminal()).held() as run:
        steps.prepare(run)
        study = Study(experiment, run.directory, run.study_folder)
        trial = study.ask()
        study.begin(trial)
        study.record(trial.number, Step(fold_ends(experiment)[-1], 0.7, True, None))
        study.complete(trial.number)
