"""A search that survives its driver: Optuna's storage is the only state, and every trial begins and ends in it.

Trials are stored in ``study.db`` (SQLite: whole after any crash, and optuna-dashboard opens it). What a killed driver
leaves running is continued under its own number and with its own sample. Samplers are created again for every trial
from seeds of (experiment seed, trial number), so that what they draw depends on the storage alone.
"""

from __future__ import annotations

import contextlib
import shlex
import sqlite3
import warnings
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import numpy as np
import optuna
from optuna.samplers import BaseSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from salt_ray.artifacts import Folder, RunDirectory
from salt_ray.config import Experiment, Tune
from salt_ray.errors import PROGRAM, RunError
from salt_ray.object_store import ObjectPath
from salt_ray.storage import StoragePath, write_atomically
from salt_ray.tuning.pruning import build_pruner
from salt_ray.tuning.space import BASELINE, Space
from salt_ray.tuning.trial import Step, fold_ends

STUDY_NAME = "salt-ray"
LOCK_SECONDS = 60  # how long a write waits while optuna-dashboard reads
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


class Study:
    """The trials of one experiment's search in a run directory: begun, or gone on with.

    Args:
        experiment: with a ``tune`` section.
        folder: ``space.study_folder``.

    Raises:
        ExperimentError: the search space cannot be used.
        RunError: the run directory holds another search, or its storage cannot be read or written.
    """

    def __init__(self, experiment: Experiment, run: RunDirectory, folder: Folder) -> None:
        self.run, self.space = run, Space(experiment)
        self._tune: Tune = experiment.tune
        self._seed = experiment.seed
        ends = fold_ends(experiment)
        self._last_step = ends[-1]
        folder.open()
        self._storage = StudyStorage(folder.path / "study.db")
        with self._storage.errors():
            self.optuna = optuna.create_study(
                storage=self._storage,
                study_name=STUDY_NAME,
                direction="maximize",
                pruner=build_pruner(self._tune, ends[0]),
                load_if_exists=True,
            )
            if not self.optuna.get_trials(deepcopy=False):
                self.optuna.enqueue_trial(self.space.baseline)
            self._storage.keep()
            self._interrupted = self.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        self._live: dict[int, Trial] = {}
        self._swept: set[int] = set()
        self.sweep()

    @property
    def ended(self) -> list[FrozenTrial]:
        """Trials that are over, however they ended."""
        return self.optuna.get_trials(deepcopy=False, states=ENDED)

    @property
    def asked(self) -> int:
        """Trials that are wanted in all, and at least those that have begun."""
        return max(self._tune.trials, self._begun())

    @property
    def left(self) -> int:
        """Trials that are still to begin, or to be finished."""
        return self.asked - len(self.ended)

    @property
    def live(self) -> int:
        """Trials that this process has begun, or gone on with, and that have not ended."""
        return len(self._live)

    def ask(self) -> Trial | None:
        """The next trial with its sample: an interrupted one, a new one, or None when there are enough."""
        with self._storage.errors():
            if self._interrupted:
                frozen = self._interrupted.pop(0)
                self.optuna.sampler = self._sampler(frozen.number)
                trial = Trial(self.optuna, frozen._trial_id)  # what Study.ask does for a new one
            else:
                begun = self._begun()
                if begun >= self._tune.trials:
                    return None
                self.optuna.sampler = self._sampler(begun)
                trial = self.optuna.ask()
            self._live[trial.number] = trial
            self.space(trial)  # at once: the next trial has another sampler
            self._storage.keep()
            return trial

    def begin(self, trial: Trial) -> Experiment:
        """The effective experiment of a trial, written into its folder.

        Raises:
            ExperimentError: the sampled values are not allowed together.
        """
        effective = self.space.effective(trial.params)
        write_atomically(self.run.trial(trial.number).experiment, effective.model_dump_json(indent=1))
        return effective

    def record(self, number: int, step: Step) -> bool:
        """Take note of how far a trial is; True when it falls behind and should end.

        The experiment's own values are what all others are compared with: they never fall behind.
        """
        if not step.judged:
            return False
        with self._storage.errors():
            trial = self._live[number]
            if step.step not in self.frozen(number).intermediate_values:  # a resumed trial says its last epoch again
                trial.report(step.value, step.step)
                self._storage.keep()
            return trial.should_prune() and step.step < self._last_step and number != BASELINE

    def complete(self, number: int) -> None:
        """A trial has trained all its folds; the mean of their scores, reported last, is its value."""
        self._end(number, TrialState.COMPLETE, self.frozen(number).intermediate_values[self._last_step])

    def prune(self, number: int) -> None:
        """A trial has been ended early."""
        self._end(number, TrialState.PRUNED)

    def fail(self, number: int, reason: str) -> None:
        """A trial has no value."""
        with self._storage.errors():
            self._live[number].set_user_attr("reason", reason)
        self._end(number, TrialState.FAIL)

    def frozen(self, number: int) -> FrozenTrial:
        """A trial as the storage has it."""
        return self.optuna.get_trials(deepcopy=False)[number]

    def sweep(self, stopped: int | None = None) -> None:
        """Delete the checkpoints of ended trials, except those of the best ones; no folder is listed again and again.

        Args:
            stopped: the trial that has just ended. Its worker may still write once, so it is swept again the next time.
        """
        ended = self.ended
        complete = [trial for trial in ended if trial.state is TrialState.COMPLETE]
        ranked = sorted(complete, key=lambda trial: (-trial.value, trial.number))
        kept = {trial.number for trial in ranked[: self._tune.kept_checkpoints]}
        for number in sorted({trial.number for trial in ended} - kept - self._swept):
            for path in self.run.trial(number).path.rglob("*.pt"):
                path.unlink(missing_ok=True)
            if number != stopped:
                self._swept.add(number)

    def _end(self, number: int, state: TrialState, value: float | None = None) -> None:
        with self._storage.errors():
            self.optuna.tell(self._live[number], value, state)
            self._storage.keep()
        del self._live[number]
        self.sweep(number)

    def _begun(self) -> int:
        return sum(trial.state is not TrialState.WAITING for trial in self.optuna.get_trials(deepcopy=False))

    def _sampler(self, number: int) -> BaseSampler:
        """The sampler of one trial: what it draws depends on its number and on the trials in the storage only."""
        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        startup = self._tune.startup_trials
        match self._tune.sampler:
            case "tpe":
                return TPESampler(n_startup_trials=startup, multivariate=True, constant_liar=True, seed=seed)
            case "gp":
                return GPSampler(n_startup_trials=startup, seed=seed)
            case "qmc":  # one sequence, which all trials go along; the storage counts how far
                with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
                    return QMCSampler(scramble=True, seed=self._seed)
            case "random":
                return RandomSampler(seed=seed)


class StudyStorage(RDBStorage):
    """Optuna's storage in the SQLite file of a study, where SQLite can work on it.

    On a disk that is its own place. Of an object store it is a working copy, which is uploaded after every change and
    stays as long as the storage does.

    Attributes:
        path: the file of the study.
        here: the file to work on.

    Raises:
        RunError: the file cannot be read, or is empty next to existing trials; or the object store cannot be
            reached.
        OSError: the working copy cannot be written.
    """

    def __init__(self, path: StoragePath) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.path = path
        self.here = path if isinstance(path, Path) else self._copy(path)
        trials = path.parent / "trials"
        if self.here.is_file() and self.here.stat().st_size == 0 and trials.exists():
            raise RunError(
                f"{path} is empty, and would begin a new search beside the trials of an old one in {trials}: "
                f"restore it, or delete {path.parent}"
            )
        with self.errors():
            super().__init__(storage_url(self.here), engine_kwargs={"connect_args": {"timeout": LOCK_SECONDS}})

    def _copy(self, path: ObjectPath) -> Path:
        self._folder = TemporaryDirectory(prefix="salt-ray-")
        here = Path(self._folder.name) / path.name
        try:
            content = path.read_bytes()
        except FileNotFoundError:  # a new study
            return here
        write_atomically(here, content)
        return here

    def keep(self) -> None:
        """Make what was written last.

        Raises:
            StorageError: the object store does not take it.
            sqlite3.Error: the working copy cannot be read.
        """
        if isinstance(self.path, ObjectPath):
            with contextlib.closing(sqlite3.connect(self.here)) as connection:
                self.path.write_bytes(connection.serialize())

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turns SQLite's failures into a RunError that names the fix."""
        try:
            yield
        except (optuna.exceptions.StorageInternalError, SQLAlchemyError, sqlite3.Error) as error:
            cause = getattr(error, "orig", None) or getattr(error.__cause__, "orig", None) or error
            if self.here == self.path:
                subject, remedy = self.path, "make room, end what else uses it, or restore it"
            else:
                subject = f"{self.here}, this machine's copy of {self.path},"
                remedy = f"make room in {self.here.parent.parent}, set TMPDIR to another folder, or restore {self.path}"
            raise RunError(
                f"{subject} cannot be read or written ({cause}): {remedy}, then run the same command again"
            ) from error


def storage_url(path: Path) -> str:
    """The address of a SQLite file, for Optuna and its dashboard."""
    return f"sqlite:///{quote(str(path))}"


def load_study(run: RunDirectory) -> optuna.Study:
    """The study of a run directory, to be looked at.

    Raises:
        RunError: there is none, or it cannot be read.
    """
    path, again = run.study / "study.db", f"run {PROGRAM} tune --run-dir {shlex.quote(str(run.path))} first"
    if not path.exists():
        raise RunError(f"{run.path} holds no study: {again}")
    storage = StudyStorage(path)
    with storage.errors():
        try:
            study = optuna.load_study(study_name=STUDY_NAME, storage=storage)
        except KeyError as error:
            raise RunError(f"the study in {run.path} was interrupted before its first trial: {again}") from error
        if not study.get_trials(deepcopy=False):
            raise RunError(f"the study in {run.path} has no trial yet: {again}")
        return study
