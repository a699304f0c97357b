"""Trials of a search under Ray Tune: Optuna proposes, Tune places, watches and restarts, the study remembers.

Tune's own snapshots are not used: its search algorithm, its scheduler and its list of trials would have to be caught in
one moment, and a killed driver lost trials that way. Every start runs a fresh Tune experiment over what ``Study`` says
is left; a trial goes on from the training loop's own checkpoints in its folder.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salt_ray.cluster.session import fold_resources, slots  # isort: skip (sets Ray's environment)
import ray
import torch
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from salt_ray.artifacts import RunDirectory
from salt_ray.cluster.folds import worker_device
from salt_ray.cluster.gauges import Gauges
from salt_ray.config import Experiment, ExperimentError
from salt_ray.errors import SaltRayError
from salt_ray.model.encoder import weights_digest
from salt_ray.report.tensorboard import EpochLog
from salt_ray.report.trials import TrialView
from salt_ray.survey.folds import FoldTable
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.training.loop import FoldTask
from salt_ray.tuning.space import Space
from salt_ray.tuning.study import STUDY_NAME, Study
from salt_ray.tuning.trial import Step, folds_of, run_trial, trial_name

EXPERIMENT = "trials"  # Tune's name for the whole search


@dataclass(frozen=True)
class TrialWork:
    """What the trials of a search have in common."""

    experiment: Experiment
    tables: Mapping[str, FoldTable]
    run: RunDirectory
    threads: int
    gpu: bool

    def tasks(self, values: Mapping[str, Any]) -> list[FoldTask]:
        """The folds of a trial with these values, in order."""
        effective = Space(self.experiment).effective(dict(values))
        weights = weights_digest(effective.network.pretrained)
        return [
            FoldTask(effective, training, fold, self.tables[training.name], weights)
            for training, fold in folds_of(effective)
        ]


def trial_resources(experiment: Experiment) -> dict[str, float]:
    """What Ray reserves for one trial.

    Raises:
        ClusterError: no node has that much.
    """
    resources = experiment.resources
    if resources.gpus_per_fold is None and ray.cluster_resources().get("GPU"):
        resources = resources.replace(gpus_per_fold=1 / experiment.tune.trials_per_gpu)
    return fold_resources(resources)


def run_trials(study: Study, work: TrialWork, tiles: TrainingTiles, wanted: dict[str, float], view: TrialView) -> None:
    """Run every trial that is left, as many at once as there is room for.

    Args:
        wanted: what one trial takes (``trial_resources``).
        view: is told how far every trial is.
    """
    at_once = max(1, slots(wanted))
    if work.experiment.tune.max_concurrent is not None:
        at_once = min(at_once, work.experiment.tune.max_concurrent)
    trainable = tune.with_resources(
        tune.with_parameters(_train_in_worker, work=work, tiles=tiles), {kind.lower(): n for kind, n in wanted.items()}
    )
    shutil.rmtree(work.run.ray / EXPERIMENT, ignore_errors=True)
    # It misses result files of Tune's own, which nobody reads.
    logging.getLogger("ray.tune.analysis.experiment_analysis").setLevel(logging.ERROR)
    follower = Follower(study, view, Gauges(work.experiment.name))
    tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            metric="value",
            mode="max",
            search_alg=StudySearch(study),
            scheduler=StudyScheduler(study),
            num_samples=study.left,
            max_concurrent_trials=at_once,
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            name=EXPERIMENT,
            storage_path=str(work.run.ray),
            failure_config=tune.FailureConfig(max_failures=work.experiment.resources.max_failures),
            callbacks=[follower],
            verbose=0,
        ),
    ).fit()


class _Unsaved:
    """Leaves nothing of itself in Tune's snapshots: nobody reads them, and locks and terminals cannot be pickled."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class StudySearch(_Unsaved, OptunaSearch):
    """Ray's OptunaSearch over a ``Study``, which also hands out what an earlier driver left running.

    What becomes of a trial is told by ``StudyScheduler``: OptunaSearch would call pruned trials complete and forget why
    one failed.
    """

    def __init__(self, study: Study) -> None:
        super().__init__(study.space, metric="value", mode="max", study_name=STUDY_NAME, storage=study.storage)
        self._study = study

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        while (trial := self._study.ask()) is not None:
            self._ot_trials[trial_id] = trial
            values = super().suggest(trial_id)
            try:
                self._study.begin(trial)
            except ExperimentError as error:
                self._study.fail(trial.number, str(error))
                continue
            return {"number": trial.number, "values": values}
        return Searcher.FINISHED

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Told by the scheduler."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Told by the scheduler."""

    def save(self, checkpoint_path: str) -> None:
        """The storage is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """The storage is the state."""


class StudyScheduler(_Unsaved, FIFOScheduler):
    """Starts trials in order, and tells the study how they go and end; Optuna's pruner decides which end early."""

    def __init__(self, study: Study) -> None:
        super().__init__()
        self._study = study
        self._pruned: set[int] = set()

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        number = trial.config["number"]
        step = result.get("step")
        if step is not None and self._study.record(number, step):
            self._pruned.add(number)
            return TrialScheduler.STOP
        return TrialScheduler.CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        number = trial.config["number"]
        if result.get("failure"):
            self._study.fail(number, result["failure"])
        elif number in self._pruned:
            self._study.prune(number)
        else:
            self._study.complete(number)


class Follower(_Unsaved, tune.Callback):
    """Shows how far trials are, in the terminal and as metrics on the dashboard, and says which are lost.

    A scheduler's ``on_trial_error`` would not do for that: it is called for trials that start again, too.
    """

    def __init__(self, study: Study, view: TrialView, gauges: Gauges) -> None:
        self._study, self._view, self._gauges = study, view, gauges

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._view.begin(trial.config["number"], trial.config["values"])

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict[str, Any], **info: Any) -> None:
        number, step = trial.config["number"], result.get("step")
        for line in result.get("lines", ()):
            self._view.say(f"{trial_name(number)}: {line}")
        if step is not None:
            self._view.step(number, step)
            if step.progress is not None:
                self._gauges.export(step.progress, trial_name(number))

    def on_trial_recover(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._view.say(f"{trial_name(trial.config['number'])} died and goes on from its checkpoint: {_reason(trial)}")

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._view.end(self._study.frozen(trial.config["number"]))

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._study.fail(trial.config["number"], f"its worker failed for good: {_reason(trial)}")
        self._view.end(self._study.frozen(trial.config["number"]))


def _name(trial: Any) -> str:
    return trial_name(trial.config["number"])


def _reason(trial: Any) -> str:
    """Why a trial's worker was lost, in one line: an exception in it, or what Ray says of its process."""
    _, *lines = Path(trial.error_file).read_text().rpartition("Failure # ")[2].strip().splitlines()
    return lines[-1] if any("Traceback" in line for line in lines) else lines[0]


class _Named:
    """Gives a trial's actor the name under which the dashboard lists it: its number and its values."""

    def setup(self, config: dict[str, Any]) -> None:
        values = " ".join(
            f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in config["values"].items()
        )
        self._name = f"{trial_name(config['number'])} {values}"
        super().setup(config)


def _train_in_worker(config: dict[str, Any], work: TrialWork, tiles: TrainingTiles) -> dict[str, Any] | None:
    """Ray Tune's worker: one trial, from its newest checkpoints; errors that a retry cannot cure are returned."""
    torch.set_num_threads(work.threads)
    number = config["number"]
    lines: list[str] = []
    logs: dict[str, EpochLog] = {}

    def report(step: Step) -> None:
        said, lines[:] = list(lines), []
        if step.progress is not None:
            fold = step.progress.name
            if fold not in logs:
                logs[fold] = EpochLog(work.run.tensorboard / trial_name(number) / fold)
            logs[fold].write(step.progress)
        tune.report({"value": step.value, "step": step, "lines": said})

    try:
        run_trial(
            work.tasks(config["values"]), tiles, work.run.trial(number), worker_device(work.gpu), report, lines.append
        )
    except SaltRayError as error:
        return {"value": float("nan"), "failure": str(error), "lines": lines}
    finally:
        for log in logs.values():
            log.close()
    return None


_train_in_worker.__mixins__ = (_Named,)
