"""Runs or resumes a search, and confirms its result on another fold."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial

from salt_ray.config import Experiment
from salt_ray.errors import TrainingFailed
from salt_ray.pipeline.engine import Engine
from salt_ray.pipeline.run import Run
from salt_ray.pipeline.steps import prepare, train
from salt_ray.pipeline.trial import SearchWork
from salt_ray.report.plan import search_plan
from salt_ray.report.study import best_experiment, confirmation_line, report_study
from salt_ray.report.trials import TrialView
from salt_ray.training.speed import remembered_speed
from salt_ray.tuning.results import Confirmation, Summary
from salt_ray.tuning.space import BASELINE, Space
from salt_ray.tuning.study import Study
from salt_ray.tuning.trial import Step, folds_of


def search(run: Run, engine: Engine, trials: int | None = None) -> Summary:
    """Run or resume the search of the experiment's ``tune`` section; write ``best.json`` and pictures.

    Args:
        trials: total number of trials, instead of ``tune.trials``.

    Raises:
        ExperimentError: the search space is invalid.
        RunError: this run directory contains another search.
        SearchStopped: an error would affect all trials.
        TrainingFailed: no trial completed.
    """
    Space(run.experiment)  # report mistakes in it before reading tiles
    folds_of(run.experiment)
    if trials is not None:
        run.experiment = run.experiment.replace(tune=run.experiment.tune.replace(trials=trials))
    prepare(run)
    study = Study(run.experiment, run.directory, run.study_folder)
    for trial in study.ended:  # for trackers that were unavailable, or added since
        run.tracking.trial_ends(trial, _stages(run.experiment))
    if study.left:
        from salt_ray.model.network import try_network  # imports timm, which is slow

        for encoder in study.space.encoders():
            network = run.experiment.network.replace(encoder=encoder)
            try_network(network, run.prepared.frame.crop_px, download=True)
        decision, models = run.trial_judgement
        experiment = run.experiment.replace(prediction=run.experiment.prediction.replace(models=models))
        work = SearchWork(experiment, run.tables, run.directory, decision)
        first = work.tasks(study.space.baseline)[0]
        tiles = np.count_nonzero(first.folds.trains(first.fold))
        run.terminal.say(search_plan(experiment, study.left, study.asked, tiles, remembered_speed(experiment)))
        with run.terminal.trials(list(study.space.baseline), study.asked, study.ended) as view:
            engine.search(study, work, run.prepared.training_tiles(run.experiment), TrackedTrials(view, run))
    else:
        run.terminal.say(f"{len(study.ended)} trials have already ended; use --trials for more")
    summary = report_study(run.directory, run.terminal)
    if summary.best is None:
        raise TrainingFailed(
            f"no trial in {run.directory.path} completed: change the ranges in tune.parameters "
            "and use another --run-dir"
        )
    if run.experiment.tune.confirm is not None and summary.best.number != BASELINE:
        confirm(run, engine, summary, run.experiment.tune.confirm)
    return summary


class TrackedTrials:
    """A view of trials (``report.trials.TrialView``) that also updates the run's trackers."""

    def __init__(self, view: TrialView, run: Run) -> None:
        self._view, self._tracking, self._stages = view, run.tracking, _stages(run.experiment)
        self.say = view.say

    def begin(self, number: int, values: Mapping[str, Any]) -> None:
        self._view.begin(number, values)
        self._tracking.trial_begins(number, values)

    def step(self, number: int, step: Step) -> None:
        self._view.step(number, step)
        if step.progress is not None:
            self._tracking.progress(step.progress, number)

    def end(self, trial: FrozenTrial) -> None:
        self._view.end(trial)
        self._tracking.trial_ends(trial, self._stages)


def _stages(experiment: Experiment) -> list[tuple[str, int, list[str]]]:
    """Training, fold and stage names of every fold of a trial."""
    return [(one.name, fold, [stage.name for stage in one.stages]) for one, fold in folds_of(experiment)]


def confirm(run: Run, engine: Engine, summary: Summary, fold: int) -> None:
    """Train the best settings and the baseline on a fold not used in the search; print and save both scores.

    Raises:
        SaltRayError: as ``train``.
    """
    scores = []
    for number in (BASELINE, summary.best.number):
        experiment = best_experiment(run.directory, number).replace(tune=None)
        one = Run(experiment, run.data, run.directory.confirmed(number), run.terminal, skip_bad=run.skip_bad)
        with one.held():
            prepare(one)
            train(one, engine, (fold,))
            scores.append(fmean(model.score for task in one.chosen for model in one.models(task)))
    found = Confirmation(fold, summary.best.number, *scores)
    found.save(run.directory)
    run.terminal.say(confirmation_line(found))
