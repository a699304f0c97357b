"""What a run tells the experiment trackers that its experiment names: MLflow, Weights & Biases.

The driver alone tells them: it holds the run, so one process writes; workers need neither the libraries nor a login,
and a lost one leaves nothing half written. What happened stands in the run directory (``history.csv``,
``scores.json``); a tracker is a copy. ``tracking/NAME.json`` says what it has: it is noted before it is sent, so that
nothing is sent twice, and taken back where sending fails, so that the next command sends it.

Ray's own callbacks (``ray.air.integrations``) do not fit: they follow trials of Ray Tune alone, and the folds of a
training are none; MLflow's begins a new run at every start, and that of Weights & Biases takes Tune's number of a trial
as its id, which is another one after a restart of ours, with ``resume=False``.
"""

from __future__ import annotations

import importlib.util
import io
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment
from salt_ray.errors import RunError
from salt_ray.storage import StoragePath, fields_if_there, readable, write_atomically
from salt_ray.tracking.mlflow import MlflowTracker
from salt_ray.tracking.tracker import Epoch, State, Tracker
from salt_ray.tracking.wandb import WandbTracker
from salt_ray.training.progress import Progress
from salt_ray.training.task import fold_name
from salt_ray.tuning.trial import trial_name

#: What is told of an epoch.
VALUES = ("score", "best_score", "loss", "validation_loss", "lr", "tiles_per_second")
#: What the run itself is called among its units; trials have their names.
RUN = "run"
TRACKERS = {"mlflow": MlflowTracker, "wandb": WandbTracker}


class Tracking:
    """Tells every tracker of an experiment about a run; one that fails is left out, and the run goes on.

    As a context it checks, before anything is begun, that the trackers can be used, and at the end it says there how
    the run ended. Nothing is loaded or connected to before there is something to tell.

    Args:
        say: gets lines for people.
    """

    def __init__(self, directory: RunDirectory, experiment: Experiment, say: Callable[[str], None]) -> None:
        self._directory, self._experiment, self._say = directory, experiment, say
        names = [name for name in experiment.tracking if name != "tensorboard"]
        self._mirrors = [Mirror(name, directory, experiment) for name in dict.fromkeys(names)]

    def __enter__(self) -> Tracking:
        """Raises: RunError: a package is missing, or there is no place where a tracker could write."""
        for mirror in self._mirrors:
            mirror.check()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        state: State = "finished" if kind is None else "failed" if issubclass(kind, Exception) else "killed"
        self._tell(lambda mirror: mirror.close(state))

    def progress(self, progress: Progress, trial: int | None = None) -> None:
        """An epoch has ended, in a fold of the run or of a trial."""
        values = {name: getattr(progress, name) for name in VALUES}
        epoch = Epoch(progress.epoch, _known(values), progress.time)
        self._tell(lambda mirror: mirror.epochs(_unit(trial), _series(progress.name, progress.stage), [epoch]))

    def stages(self, folds: Iterable[tuple[str, int, Sequence[str]]], trial: int | None = None) -> None:
        """Tell what is missing of stages that have ended.

        Args:
            folds: training, number and stages of each.
        """
        if not self._mirrors:
            return
        directory = self._directory if trial is None else self._directory.trial(trial)
        for training, fold, stages in folds:
            for stage in stages:
                path = directory.stage(training, fold, stage) / "history.csv"
                if path.exists():
                    series, epochs = _series(fold_name(training, fold), stage), _history(path)
                    self._tell(lambda mirror, s=series, e=epochs: mirror.epochs(_unit(trial), s, e))

    def trial_begins(self, number: int, values: Mapping[str, Any]) -> None:
        """A trial begins, or goes on."""
        parameters = {name: str(value) for name, value in values.items()}
        self._tell(lambda mirror: mirror.begin(trial_name(number), parameters))

    def trial_ends(self, trial: FrozenTrial, folds: Iterable[tuple[str, int, Sequence[str]]]) -> None:
        """A trial has ended, now or in an earlier command.

        Args:
            folds: those of a trial.
        """
        name = trial_name(trial.number)
        if all(mirror.has_ended(name) for mirror in self._mirrors):
            return
        self.trial_begins(trial.number, trial.params)
        self.stages(folds, trial.number)
        complete = trial.state is TrialState.COMPLETE
        state: State = "finished" if complete else "failed" if trial.state is TrialState.FAIL else "killed"
        values = {"value": trial.value} if complete else {}
        self._tell(lambda mirror: mirror.values(name, values))
        self._tell(lambda mirror: mirror.end(name, state))

    def scores(self, scores: Mapping[str, float]) -> None:
        """The final scores, by name."""
        self._tell(lambda mirror: mirror.values(RUN, {f"scores/{name}": value for name, value in scores.items()}))

    def file(self, path: StoragePath, kind: str) -> None:
        """Keep a file with the run, such as its report."""
        self._tell(lambda mirror: mirror.file(path, kind))

    def _tell(self, what: Callable[[Mirror], None]) -> None:
        for mirror in list(self._mirrors):
            try:
                what(mirror)
            except Exception as error:  # whatever a library, a server or a network does: no training ends by it
                self._mirrors.remove(mirror)
                reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
                self._say(
                    f"{mirror.name} cannot be written to ({reason}): the run goes on without it; "
                    "the same command, given again, sends what is missing"
                )


class Mirror:
    """One tracker's copy of a run, and the note of what it has."""

    def __init__(self, name: str, directory: RunDirectory, experiment: Experiment) -> None:
        self.name, self._directory, self._experiment = name, directory, experiment
        self._place = directory.tracking / f"{name}.json"
        self._open: dict[str, str] = {}
        self._tracker: Tracker | None = None
        self._noted: dict[str, Any] | None = None

    def check(self) -> None:
        """Raises: RunError: its package is missing, or there is no place where it could write."""
        kind = TRACKERS[self.name]
        if importlib.util.find_spec(self.name) is None:
            raise RunError(
                f"tracking names {self.name}, which is not installed: pip install {kind.package}, or take it out of "
                "tracking"
            )
        if not isinstance(self._directory.path, Path) and not kind.online():
            raise RunError(
                f"{self._directory.path} is in an object store, where {self.name} cannot keep its files: "
                f"set {kind.server}, or take it out of tracking"
            )

    @property
    def tracker(self) -> Tracker:
        """The tracker, loaded when it is first told something."""
        if self._tracker is None:
            folder = self._directory.tracking if isinstance(self._directory.path, Path) else None
            self._tracker = TRACKERS[self.name](folder, self._experiment.name)
        return self._tracker

    @property
    def noted(self) -> dict[str, Any]:
        """``runs``: ids by unit; ``epochs``: by unit and series, the first and last of each row without gaps;
        ``values``: the newest by unit; ``ended``: trials.
        """
        if self._noted is None:
            there = fields_if_there(self._place, self._directory.tracking)
            self._noted = there or {"runs": {}, "epochs": {}, "values": {}, "ended": []}
        return self._noted

    def _note(self) -> None:
        write_atomically(self._place, json.dumps(self.noted, indent=1))

    def begin(self, unit: str, parameters: Mapping[str, str] | None = None) -> str:
        """The tracker's run of a unit, begun or gone on with; returns its id."""
        if unit not in self._open:
            parent = None if unit == RUN else self.begin(RUN)
            known, name = self.noted["runs"].get(unit), self._directory.path.name
            parameters = flat(self._experiment) if unit == RUN else parameters or {}
            found = self.tracker.begin(known, name if unit == RUN else f"{name}/{unit}", parent, parameters)
            self._open[unit] = found
            if found != known:
                self.noted["runs"][unit] = found
                self._note()
        return self._open[unit]

    def epochs(self, unit: str, series: str, epochs: Sequence[Epoch]) -> None:
        """Send those that have not been sent."""
        key = f"{unit}/{series}"
        rows = self.noted["epochs"].get(key, [])
        new = [epoch for epoch in epochs if not any(first <= epoch.number <= last for first, last in rows)]
        if new:
            before = sum(
                last - first + 1
                for name, rows in self.noted["epochs"].items()
                if name.startswith(f"{unit}/")
                for first, last in rows
            )
            now = joined(rows, [epoch.number for epoch in new])
            self._send("epochs", key, now, lambda: self.tracker.epochs(self.begin(unit), series, new, before))

    def values(self, unit: str, values: Mapping[str, float]) -> None:
        """Send final values that are not those sent last."""
        before = self.noted["values"].get(unit, {"step": -1, "values": {}})
        if values and values != before["values"]:
            now = {"step": before["step"] + 1, "values": dict(values)}
            self._send("values", unit, now, lambda: self.tracker.values(self.begin(unit), values, now["step"]))

    def _send(self, part: str, key: str, now: Any, send: Callable[[], None]) -> None:
        """Note first, then send; where that fails, the note is taken back."""
        before = self.noted[part].get(key)
        self.noted[part][key] = now
        self._note()
        try:
            send()
        except BaseException:
            self.noted[part].pop(key) if before is None else self.noted[part].update({key: before})
            self._note()
            raise

    def file(self, path: StoragePath, kind: str) -> None:
        """Send a file; an object is fetched first."""
        if isinstance(path, Path):
            self.tracker.file(self.begin(RUN), path, kind)
            return
        with TemporaryDirectory(prefix="salt-ray-") as folder:
            here = Path(folder) / path.name
            here.write_bytes(path.read_bytes())
            self.tracker.file(self.begin(RUN), here, kind)

    def has_ended(self, trial: str) -> bool:
        """Whether the tracker knows that a trial has ended."""
        return trial in self.noted["ended"]

    def end(self, trial: str, state: State) -> None:
        """A trial has ended."""
        if trial in self._open:
            self.tracker.end(self._open.pop(trial), state)
            self.noted["ended"].append(trial)
            self._note()

    def close(self, state: State) -> None:
        """The command ends: trials that run go on with the next one."""
        for unit in reversed(list(self._open)):  # the run itself last
            self.tracker.end(self._open.pop(unit), state if unit == RUN else "killed")
        if self._tracker is not None:
            self._tracker.close()


def flat(experiment: Experiment) -> dict[str, str]:
    """An experiment's fields by their paths, as ``--set`` names them, without ``tune`` and ``tracking``."""
    found: dict[str, str] = {}

    def visit(value: Any, path: str) -> None:
        if isinstance(value, dict):
            for name, below in value.items():
                visit(below, f"{path}.{name}".lstrip("."))
        elif isinstance(value, list) and value and all(isinstance(member, dict) for member in value):
            for position, member in enumerate(value):
                visit(member, f"{path}.{member.get('name', position)}")
        else:
            found[path] = value if isinstance(value, str) else json.dumps(value)

    visit(experiment.model_dump(mode="json", exclude={"tune", "tracking"}), "")
    return found


def joined(rows: Sequence[Sequence[int]], numbers: Iterable[int]) -> list[list[int]]:
    """Rows of consecutive numbers, as first and last, with more numbers in them."""
    found: list[list[int]] = []
    for first, last in sorted([*map(tuple, rows), *((number, number) for number in numbers)]):
        if found and first <= found[-1][1] + 1:
            found[-1][1] = max(last, found[-1][1])
        else:
            found.append([first, last])
    return found


def _history(path: StoragePath) -> list[Epoch]:
    """The epochs of a stage that has ended; when each of them did is not kept there."""
    with readable(path, path.parent):
        table = pd.read_csv(io.BytesIO(path.read_bytes()))
        table["best_score"] = table["score"].cummax()
    names = [name for name in VALUES if name in table]
    return [
        Epoch(int(row["epoch"]), _known({name: float(row[name]) for name in names}), time.time())
        for row in table.to_dict("records")
    ]


def _known(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if not math.isnan(value)}


def _series(fold: str, stage: str) -> str:
    return f"{fold}/{stage}"


def _unit(trial: int | None) -> str:
    return RUN if trial is None else trial_name(trial)
