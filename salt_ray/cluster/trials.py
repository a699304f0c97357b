"""Trials of a search under Ray Tune: Optuna proposes, Tune places, watches and restarts, the study remembers.

Tune's own snapshots are not used: its search algorithm, its scheduler and its list of trials would have to be caught in
one moment, and a killed driver lost trials that way. Every start runs a fresh Tune experiment over what ``Study`` says
is left; a trial resumes from the training loop's own checkpoints in its folder.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from salt_ray.cluster.session import fold_resources, has_gpus, slots  # isort: skip (sets Ray's environment)
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from salt_ray.cluster import private
from salt_ray.cluster.gauges import Gauges
from salt_ray.cluster.lost_workers import CUT_OFF, WorkerInquiry, halve
from salt_ray.cluster.restarts import GivenUp, Inquiry, Restarts
from salt_ray.cluster.room import POLL_SECONDS, Demand, Waiting, wait_for_room
from salt_ray.cluster.training import worker_device
from salt_ray.cluster.visibility import check_nodes_see
from salt_ray.config import Experiment
from salt_ray.errors import RunError
from salt_ray.pipeline.trial import SearchStopped, SearchWork, TrialEnd, try_trial
from salt_ray.pipeline.workplace import keep_memory
from salt_ray.report.trials import TrialView, short
from salt_ray.section import ExperimentError
from salt_ray.storage import remove_tree
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.training.models import fold_models
from salt_ray.tuning.study import Study
from salt_ray.tuning.trial import Step, trial_name

EXPERIMENT = "trials"  # Tune's name for the whole search
GPU_PARTS = 10_000  # Ray counts fractions of a GPU in parts of this size, and rounds up


def trial_resources(experiment: Experiment) -> dict[str, float]:
    """What Ray reserves for one trial.

    Raises:
        ClusterError: no node has that much.
    """
    resources = experiment.resources
    if resources.gpus_per_fold is None and has_gpus():
        share = math.floor(GPU_PARTS / experiment.tune.trials_per_gpu) / GPU_PARTS
        resources = resources.replace(gpus_per_fold=share)
    return fold_resources(resources)


@dataclass(frozen=True)
class WorkersPart:
    """What a trial's worker has to know besides: the run directory's identity, its threads, whether it has a GPU."""

    identity: str
    threads: int
    gpu: bool


def run_trials(study: Study, work: SearchWork, tiles: TrainingTiles, view: TrialView) -> None:
    """Run every trial that is left, as many at once as there is room for; more where the cluster grows for them.

    Raises:
        ClusterError: no node has what one trial takes.
        SearchStopped: something is in the way that is no trial's fault; what was running can resume.
    """
    wanted, identity = trial_resources(work.experiment), check_nodes_see(work.run)
    part = WorkersPart(identity, int(wanted["CPU"]), "GPU" in wanted)
    trainable = tune.with_resources(
        tune.with_parameters(_train_in_worker, work=work, part=part, tiles=tiles),
        {kind.lower(): n for kind, n in wanted.items()},
    )
    remove_tree(work.run.ray / EXPERIMENT)
    # It misses result files of Tune's own, which are never read.
    logging.getLogger("ray.tune.analysis.experiment_analysis").setLevel(logging.ERROR)
    obstacle = Obstacle()
    limit = work.experiment.tune.max_concurrent or study.left
    follower = Follower(study, view, Gauges(work.experiment.name), obstacle)
    wait_for_room(identity, wanted, min(limit, study.left), ("trial", "trials"), view.say)
    with Demand(identity, wanted) as demand:
        tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                metric="value",
                mode="max",
                search_alg=StudySearch(study, wanted, limit, view, obstacle),
                scheduler=StudyScheduler(study, work, view, obstacle),
                num_samples=study.left,
                trial_name_creator=_name,
                trial_dirname_creator=_name,
            ),
            run_config=tune.RunConfig(
                name=EXPERIMENT,
                storage_path=str(work.run.ray),
                failure_config=tune.FailureConfig(max_failures=-1),  # its limit would count lost nodes as well
                callbacks=[follower, Places(study, wanted, limit, demand, view, obstacle)],
                stop=obstacle,
                verbose=0,
            ),
        ).fit()
    if obstacle.reason is not None:
        raise SearchStopped(obstacle.reason)


class Obstacle(tune.Stopper):
    """What is in the way of all trials, once something is; Tune then stops them without calling them ended."""

    def __init__(self) -> None:
        self.reason: str | None = None

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.reason is not None

    @contextlib.contextmanager
    def met(self) -> Iterator[None]:
        """Take an error of the study's files for one; Tune would blame a trial, or end with a traceback."""
        try:
            yield
        except (RunError, OSError) as error:
            self.reason = self.reason or str(error)


class _Unsaved:
    """Leaves nothing of itself in Tune's snapshots: they are never read, and locks and terminals cannot be pickled."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class StudySearch(_Unsaved, Searcher):
    """Hands Ray Tune the trials of a ``Study``: Optuna's new ones, and what an earlier driver left running.

    What becomes of a trial is told by ``StudyScheduler``. Ray's own OptunaSearch would call pruned trials complete, and
    forget why one failed.
    """

    def __init__(
        self,
        study: Study,
        wanted: dict[str, float],
        limit: int,
        view: TrialView,
        obstacle: Obstacle,
    ) -> None:
        super().__init__(metric="value", mode="max")
        self._study, self._wanted, self._limit = study, wanted, limit
        self._view, self._obstacle = view, obstacle

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        room = max(1, slots(self._wanted))  # asked again each time: nodes come and go
        if self._study.live >= min(room, self._limit):
            return None  # later: what is proposed later knows more
        with self._obstacle.met():
            while (trial := self._study.ask()) is not None:
                values = trial.params
                try:
                    self._study.begin(trial)
                except ExperimentError as error:
                    self._view.begin(trial.number, values)
                    self._study.fail(trial.number, str(error))
                    self._view.end(self._study.frozen(trial.number))
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
    """Starts trials in order, and tells the study how they go and end; Optuna's pruner decides which end early.

    A trial whose worker was lost is begun again, or ended after too many failures of its own. Until that is decided it
    is put by; the others continue meanwhile.
    """

    def __init__(self, study: Study, work: SearchWork, view: TrialView, obstacle: Obstacle) -> None:
        super().__init__()
        self._study, self._work, self._view, self._obstacle = study, work, view, obstacle
        self._pruned: set[int] = set()
        self._lost: dict[Trial, Inquiry] = {}
        self._restarts: dict[int, Restarts] = {}

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        self._lost[trial] = WorkerInquiry.of_trial(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """The next one to be begun; Tune asks several times a second."""
        for trial, inquiry in list(self._lost.items()):
            if trial.is_finished() or self._decided(tune_controller, trial, inquiry):
                del self._lost[trial]
        return next((trial for trial in tune_controller.get_trials() if trial.status == Trial.PENDING), None)

    def _decided(self, tune_controller: Any, trial: Trial, inquiry: Inquiry) -> bool:
        """Begin a lost trial again, or end it; False: that has to wait."""
        number, line = trial.config["number"], None
        if number not in self._restarts:
            allowed = self._work.experiment.resources.max_failures
            self._restarts[number] = Restarts(allowed, lambda reason: self._halve(trial, reason))
        try:
            with self._obstacle.met():
                line = self._restarts[number].after(inquiry)
        except GivenUp as error:
            with self._obstacle.met():
                self._study.fail(number, f"its worker failed permanently: {error}")
            tune_controller.stop_trial(trial)
            return True
        if line is None:
            if trial.status == Trial.PENDING:
                private.put_by(tune_controller, trial)
            return False
        if trial.status == Trial.PAUSED:
            private.let_begin(tune_controller, trial)
        self._view.say(f"{trial_name(number)}: {line}")
        return True

    def _halve(self, trial: Trial, reason: str) -> str | None:
        """Smaller batches for the fold in which the trial was."""
        run = self._work.run.trial(trial.config["number"])
        for task in self._work.tasks(trial.config["values"]):
            if not fold_models(run, task.training, task.fold, "last"):
                return halve(task, run, reason)
        return None

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        number = trial.config["number"]
        if result.get("obstacle"):
            self._obstacle.reason = self._obstacle.reason or result["obstacle"]
        with self._obstacle.met():
            if result.get("step") is not None and self._study.record(number, result["step"]):
                self._pruned.add(number)
                return TrialScheduler.STOP
        return TrialScheduler.CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        number = trial.config["number"]
        if self._obstacle.stop_all():
            return  # it has not ended
        with self._obstacle.met():
            if result.get("failure"):
                self._study.fail(number, result["failure"])
            elif number in self._pruned:
                self._study.prune(number)
            else:
                self._study.complete(number)


class Follower(_Unsaved, tune.Callback):
    """Shows how far trials are, in the terminal and as metrics on the dashboard."""

    def __init__(self, study: Study, view: TrialView, gauges: Gauges, obstacle: Obstacle) -> None:
        self._study, self._view, self._gauges, self._obstacle = study, view, gauges, obstacle

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

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._end(trial.config["number"])

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Tune ends a trial by itself where it cannot begin it again, whatever its limit."""
        number, loss = trial.config["number"], WorkerInquiry.of_trial(trial).look() or CUT_OFF
        with self._obstacle.met():
            self._study.fail(number, f"its worker failed permanently: {loss.reason}")
        self._end(number)

    def _end(self, number: int) -> None:
        if not self._obstacle.stop_all():
            self._view.end(self._study.frozen(number))


class Places(_Unsaved, tune.Callback):
    """Tells people which trials have no place, and the autoscaler how many places there should be.

    Tune itself asks for more trials only while few wait for a place; this continues while they do.
    """

    def __init__(
        self,
        study: Study,
        wanted: dict[str, float],
        limit: int,
        demand: Demand,
        view: TrialView,
        obstacle: Obstacle,
    ) -> None:
        self._study, self._wanted, self._limit = study, wanted, limit
        self._demand, self._obstacle = demand, obstacle
        self._without_place = Waiting(wanted, ("trial", "trials"), view.say)
        self._last = -math.inf

    def on_step_begin(self, iteration: int, trials: list, **info: Any) -> None:
        if time.monotonic() - self._last < POLL_SECONDS:
            return
        self._last = time.monotonic()
        with self._obstacle.met():
            self._demand.ask("trials", min(self._limit, self._study.left))
        self._without_place.now(self._study.live - slots(self._wanted))


def _name(trial: Any) -> str:
    return trial_name(trial.config["number"])


class _Named:
    """Gives a trial's actor the name under which the dashboard lists it: its number and its values."""

    def setup(self, config: dict[str, Any]) -> None:
        values = " ".join(f"{name}={short(value)}" for name, value in config["values"].items())
        self._name = f"{trial_name(config['number'])} {values}"
        super().setup(config)


def _train_in_worker(
    config: dict[str, Any], work: SearchWork, part: WorkersPart, tiles: TrainingTiles
) -> dict[str, Any] | None:
    """Ray Tune's worker: ``try_trial``."""
    import torch  # here: the driver of a search does not wait for it

    torch.set_num_threads(part.threads)
    keep_memory()
    lines: list[str] = []

    def report(step: Step) -> None:
        said, lines[:] = list(lines), []
        tune.report({"value": step.value, "step": step, "lines": said})

    def device() -> torch.device:
        work.run.check_visible(part.identity)
        return worker_device(part.gpu)

    end = try_trial(work, config["number"], config["values"], tiles, device, report, lines.append)
    if end == TrialEnd():
        return None
    return {"value": float("nan"), "failure": end.failure, "obstacle": end.obstacle, "lines": lines}


_train_in_worker = private.with_mixin(_train_in_worker, _Named)
