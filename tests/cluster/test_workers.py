"""What workers of folds and trials return as final, what they raise to be begun again, and who hears of it; no Ray."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from salt_ray.artifacts import RunDirectory
from salt_ray.cluster import training as folds
from salt_ray.cluster import trials
from salt_ray.cluster.restarts import GivenUp, Loss
from salt_ray.cluster.training import STARTS, Fits, FoldWork
from salt_ray.cluster.trials import Obstacle, Places, StudyScheduler, WorkersPart
from salt_ray.config import Experiment, Resources
from salt_ray.decision import ARGUS
from salt_ray.errors import RunError, TrainingFailed
from salt_ray.object_store import StorageError
from salt_ray.pipeline import trial as trial_module
from salt_ray.pipeline.fold import Outcome
from salt_ray.pipeline.trial import SearchWork
from salt_ray.survey.folds import FoldTable
from salt_ray.training import loop
from salt_ray.training.checkpoint import CheckpointError, Superseded
from salt_ray.training.task import FoldTask

import ray  # isort: skip
from ray.core.generated.common_pb2 import ActorDiedErrorContext  # isort: skip

FULL = OSError(errno.ENOSPC, "No space left on device", "/run/epoch.pt")
IN_THE_WAY = NotADirectoryError(errno.ENOTDIR, "Not a directory", "/run/trainings/random")
PASSING = (
    Superseded("another worker"),
    StorageError("s3://run cannot be read"),
    OSError(errno.EIO, "bad sector"),
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    MemoryError(),
)
SHAPE = RuntimeError("Sizes of tensors must match except in dimension 1.\nExpected size 8")
BOARD = SimpleNamespace(say=SimpleNamespace(remote=print), post=SimpleNamespace(remote=print))


def raising(error: Exception) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> None:
        raise error

    return call


@pytest.fixture
def task(tiny: Experiment, tiny_folds: FoldTable) -> FoldTask:
    return FoldTask(tiny.replace(resources=Resources(max_failures=0)), tiny.trainings[0], 0, tiny_folds)


@pytest.fixture
def fold(task: FoldTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], Outcome]:
    """What a fold's worker makes of an error."""
    run = RunDirectory(tmp_path)
    work = FoldWork(None, run, run.identity(), BOARD, {"CPU": 1.0})
    monkeypatch.setattr(folds.ray, "get", lambda reference: None)

    def end(error: Exception) -> Outcome:
        monkeypatch.setattr(loop, "train_fold", raising(error))
        return folds._train_in_worker({"task": task, "work": work})

    return end


@pytest.fixture
def trial(
    task: FoldTask, tiny_folds: FoldTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Exception], dict[str, Any]]:
    """What a trial's worker makes of an error."""
    run = RunDirectory(tmp_path)
    work = SearchWork(task.experiment, {"random": tiny_folds}, run, ARGUS)
    part = WorkersPart(run.identity(), threads=1, gpu=False)
    monkeypatch.setattr(SearchWork, "tasks", lambda self, values: [task])

    def end(error: Exception) -> dict[str, Any]:
        monkeypatch.setattr(trial_module, "run_trial", raising(error))
        return trials._train_in_worker({"number": 3, "values": {}}, work, part, None)

    return end


@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("worker", ["fold", "trial"])
def test_what_may_pass_is_raised_so_that_the_worker_is_begun_again(
    worker: str, error: Exception, request: pytest.FixtureRequest
) -> None:
    end = request.getfixturevalue(worker)
    with pytest.raises(type(error)):
        end(error)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FULL, "random-fold-0: No space left on device (/run/epoch.pt): make room there, then run the same command"),
        (IN_THE_WAY, "random-fold-0: Not a directory (/run/trainings/random): remove what is in its place, then"),
        (CheckpointError("restore it"), "restore it"),
        (TrainingFailed("it is NaN"), "it is NaN"),
        (SHAPE, "random-fold-0: RuntimeError: Sizes of tensors must match except in dimension 1. ("),
        (KeyError("stage"), "random-fold-0: KeyError: 'stage' ("),
    ],
)
def test_a_fold_returns_what_another_try_cannot_cure(fold: Callable, error: Exception, words: str) -> None:
    assert fold(error).failure.startswith(words)


def test_a_fault_of_the_program_comes_with_its_traceback(fold: Callable) -> None:
    end = fold(SHAPE)
    assert end.failure.endswith("retrying would fail the same way")
    assert end.traceback.startswith("Traceback") and "Expected size 8" in end.traceback


@pytest.mark.parametrize("error", [FULL, IN_THE_WAY, CheckpointError("restore it")])
def test_what_no_trial_can_cure_is_in_the_way_of_all(trial: Callable, error: Exception) -> None:
    result = trial(error)
    assert result["obstacle"].startswith("trial-0003: ") and result["failure"] is None


def test_a_loss_that_is_no_number_is_the_trials_own(trial: Callable) -> None:
    result = trial(TrainingFailed("it is NaN"))
    assert result["failure"] == "it is NaN" and result["obstacle"] is None


def test_what_a_trials_values_would_raise_again_is_its_own_too(trial: Callable) -> None:
    result = trial(SHAPE)
    assert result["failure"].startswith("RuntimeError: Sizes of tensors") and result["obstacle"] is None


class Fitting:
    """Ray Train for one fold, which ends as it is told each time it is begun."""

    def __init__(self, task: FoldTask, *ends: Exception | Outcome, patch: pytest.MonkeyPatch) -> None:
        self._ends, self.lines, self.begun = list(ends), [], 0
        patch.setattr(folds.ray, "get", self._get)
        self.fits = Fits([task], self._start, self.lines.append)

    def _start(self, task: FoldTask) -> tuple[None, int]:
        self.begun += 1
        return None, self.begun

    def _get(self, reference: int) -> Outcome:
        end = self._ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return end

    def run(self) -> Outcome:
        while self.fits.waiting:
            self.fits.fill(1)
            self.fits.collect(list(self.fits.running))
        (outcome,) = self.fits.outcomes.values()
        return outcome


def train_failed(cause: Exception) -> ray.exceptions.RayTaskError:
    """What comes of Fit where Ray Train's controller says that this has happened."""
    return ray.exceptions.RayTaskError("fold", f"Traceback\n{cause}", ray.train.ControllerError(cause))


def test_a_node_lost_while_a_worker_starts_is_no_end_of_its_fold(
    task: FoldTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray Train calls that an error of its controller, and does not begin again."""
    died = ray.exceptions.ActorDiedError(cause=ActorDiedErrorContext(actor_id=bytes(16), error_message="gone"))
    monkeypatch.setattr(
        folds, "WorkerInquiry", SimpleNamespace(of_error=lambda error: SimpleNamespace(look=lambda: None))
    )
    fitting = Fitting(task, train_failed(died), died, Outcome(task, {"epochs": 3}), patch=monkeypatch)
    assert fitting.run().marker == {"epochs": 3} and fitting.begun == 3
    assert (
        fitting.lines == ["random-fold-0: a process of Ray Train was lost and starts again: it cannot be reached"] * 2
    )
    fitting = Fitting(task, *[train_failed(died)] * STARTS, patch=monkeypatch)
    assert "failed permanently" in fitting.run().failure and fitting.begun == STARTS


def test_a_fold_that_was_given_up_is_not_begun_again(task: FoldTask, monkeypatch: pytest.MonkeyPatch) -> None:
    fitting = Fitting(task, train_failed(GivenUp("it crashed")), patch=monkeypatch)
    assert "it crashed" in fitting.run().failure and fitting.begun == 1


class TuneTrial:
    def __init__(self, number: int, status: str = "RUNNING") -> None:
        self.config, self.status = {"number": number, "values": {}}, status

    def is_finished(self) -> bool:
        return self.status in ("ERROR", "TERMINATED")


class Tune:
    """What of Ray Tune's controller a scheduler may use."""

    def __init__(self, *trials: TuneTrial) -> None:
        self._trials = trials

    def get_trials(self) -> list[TuneTrial]:
        return list(self._trials)

    def _set_trial_status(self, trial: TuneTrial, status: str) -> None:
        trial.status = status

    def stop_trial(self, trial: TuneTrial) -> None:
        trial.status = "TERMINATED"

    def lose(self, scheduler: StudyScheduler, trial: TuneTrial) -> None:
        """As Tune does where it begins a trial again."""
        trial.status = "ERROR"
        scheduler.on_trial_error(self, trial)
        trial.status = "PENDING"


class Told:
    """An inquiry that can be told the answer."""

    loss: Loss | None = None
    settled = False

    def look(self) -> Loss | None:
        return self.loss


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    told = Told()
    monkeypatch.setattr(trials, "WorkerInquiry", SimpleNamespace(of_trial=lambda trial: told))
    return told


def test_a_lost_trial_is_put_by_until_it_is_known_whose_fault_it_is(
    task: FoldTask, told: Told, tiny_folds: FoldTable, tmp_path: Path
) -> None:
    failed, lines = {}, []
    study = SimpleNamespace(fail=failed.__setitem__)
    work = SearchWork(task.experiment, {"random": tiny_folds}, RunDirectory(tmp_path), ARGUS)
    scheduler = StudyScheduler(study, work, SimpleNamespace(say=lines.append), Obstacle())
    lost, other = TuneTrial(0), TuneTrial(1, "PENDING")
    tune = Tune(lost, other)
    tune.lose(scheduler, lost)
    for told.loss in (None, Loss("worker", "it crashed")):  # the latter is not sure yet
        assert scheduler.choose_trial_to_run(tune) is other and lost.status == "PAUSED"
    told.loss = Loss("node", "its node died")
    assert scheduler.choose_trial_to_run(tune) is lost and lost.status == "PENDING"
    assert lines == ["trial-0000: its worker was lost and resumes from its checkpoint: its node died"]

    tune.lose(scheduler, lost)
    told.loss, told.settled = Loss("worker", "it crashed"), True
    assert scheduler.choose_trial_to_run(tune) is other and lost.status == "TERMINATED"
    assert failed == {0: "its worker failed permanently: it crashed"}
    assert scheduler.choose_trial_to_run(tune) is other and len(lines) == 1


def test_what_fails_while_a_loss_is_judged_is_in_the_way_of_all(
    task: FoldTask, told: Told, tiny_folds: FoldTable, tmp_path: Path
) -> None:
    told.loss, told.settled = Loss("worker", "it crashed"), True
    obstacle = Obstacle()
    work = SearchWork(task.experiment, {"random": tiny_folds}, RunDirectory(tmp_path), ARGUS)
    study = SimpleNamespace(fail=raising(RunError("the study cannot be written")))
    scheduler = StudyScheduler(study, work, SimpleNamespace(say=print), obstacle)
    lost = TuneTrial(0)
    tune = Tune(lost)
    tune.lose(scheduler, lost)
    assert scheduler.choose_trial_to_run(tune) is None
    assert obstacle.stop_all() and obstacle.reason == "the study cannot be written"


def test_places_are_asked_for_and_missed_while_trials_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not more than once a second, but again and again: what is not repeated is forgotten after three minutes."""
    asked, lines, now = [], [], 0.0
    study = SimpleNamespace(left=5, live=3)
    demand = SimpleNamespace(ask=lambda who, places: asked.append((who, places)))
    monkeypatch.setattr(trials, "slots", lambda wanted: 1)
    monkeypatch.setattr(trials, "time", SimpleNamespace(monotonic=lambda: now))
    places = Places(study, {"CPU": 2.0}, 4, demand, SimpleNamespace(say=lines.append), Obstacle())
    for step in range(101):
        now = step / 10
        places.on_step_begin(step, [])
    assert asked == [("trials", 4)] * 11
    assert lines == ["waiting for a node with 2 CPU: 2 trials without a place"]
