"""The live view of a search: one row per trial, and a summary."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from rich.table import Table

from salt_ray.tuning.trial import STATES, Step, trial_name

SHOWN = 24  # ended trials in the table, in addition to the best and the first one
STYLES = {"running": "cyan", "pruned": "dim", "failed": "red"}


@dataclass
class TrialRow:
    """A row of the table."""

    number: int
    values: Mapping[str, Any]
    state: str = "running"
    fold: str = ""
    epoch: str = ""
    #: Mean of the folds' best scores so far.
    score: float | None = None
    #: ``time.monotonic`` when it started in this process.
    started: float = 0.0


class TrialView:
    """Keeps a row for every trial, and calls ``changed`` after every change.

    Args:
        parameters: names of the searched parameters.
        asked: total number of trials.
        ended: trials that ended earlier.
        changed: called after every change; ``event`` is a message when a trial starts or ends.
        say: called with other messages for users.
    """

    def __init__(
        self,
        parameters: Sequence[str],
        asked: int,
        ended: Sequence[FrozenTrial],
        changed: Callable[[TrialView, str | None], None],
        say: Callable[[str], None],
    ) -> None:
        self.parameters, self.asked, self._changed, self.say = list(parameters), asked, changed, say
        self.rows: dict[int, TrialRow] = {}
        self._durations: list[float] = []
        self._at_once = 1
        for trial in ended:
            self._close(trial)

    def begin(self, number: int, values: Mapping[str, Any]) -> None:
        """A trial starts, or resumes."""
        self.rows[number] = TrialRow(number, values, started=time.monotonic())
        self._at_once = max(self._at_once, sum(row.state == "running" for row in self.rows.values()))
        self._changed(self, f"{trial_name(number)} begins: {_words(values)}")

    def step(self, number: int, step: Step) -> None:
        """A trial has made progress."""
        row = self.rows[number]
        row.score = step.value
        if step.progress is not None:
            row.fold, row.epoch = step.progress.name, f"{step.progress.epoch}/{step.progress.epochs}"
        self._changed(self, None)

    def end(self, trial: FrozenTrial) -> None:
        """A trial has ended, in whatever state."""
        self._durations.append(time.monotonic() - self.rows[trial.number].started)
        self._close(trial)
        row = self.rows[trial.number]
        score = "" if row.score is None else f", score {row.score:.4f}"
        reason = trial.user_attrs.get("reason", "") if trial.state is TrialState.FAIL else ""
        self._changed(
            self, f"{trial_name(trial.number)} {row.state}{score}{reason and ': ' + reason}; {self.caption()}"
        )

    def _close(self, trial: FrozenTrial) -> None:
        row = self.rows.setdefault(trial.number, TrialRow(trial.number, trial.params))
        row.state = STATES[trial.state]
        if row.score is None and trial.intermediate_values:
            row.score = trial.intermediate_values[trial.last_step]

    def _best(self) -> TrialRow | None:
        complete = [row for row in self.rows.values() if row.state == "complete"]
        return min(complete, key=lambda row: (-row.score, row.number), default=None)

    @property
    def ended(self) -> int:
        """Number of ended trials, including earlier ones."""
        return sum(row.state != "running" for row in self.rows.values())

    def caption(self) -> str:
        """Summary of the search in one line."""
        states, ended = [row.state for row in self.rows.values()], self.ended
        counts = ", ".join(f"{states.count(name)} {name}" for name in ("pruned", "failed") if name in states)
        text = f"{ended} of {self.asked} trials ended" + (f" ({counts})" if counts else "")
        if (best := self._best()) is not None:
            text += f", best {best.score:.4f} by {trial_name(best.number)}"
        if self._durations and ended < self.asked:
            seconds = fmean(self._durations) * (self.asked - ended) / self._at_once
            text += f", about {clock(seconds)} left"
        return text

    def table(self) -> Table:
        """Table of the newest trials, the first one and the best one."""
        table = Table("trial", *self.parameters, "state", "fold", "epoch", "score", box=None, caption=self.caption())
        table.caption_justify = "left"
        best = self._best()
        newest = sorted(self.rows)[-SHOWN:]
        chosen = sorted({*newest, *([best.number] if best else []), *([0] if 0 in self.rows else [])})
        for number in chosen:
            row = self.rows[number]
            score = "" if row.score is None else f"{row.score:.4f}"
            style = "bold green" if best is not None and number == best.number else STYLES.get(row.state)
            values = [short(row.values[name]) if name in row.values else "" for name in self.parameters]
            table.add_row(f"{number:04d}", *values, row.state, row.fold, row.epoch, score, style=style)
        return table


def clock(seconds: float) -> str:
    """Format a duration as h:mm:ss or m:ss; "?" if unknown (NaN)."""
    if math.isnan(seconds):
        return "?"
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def _words(values: Mapping[str, Any]) -> str:
    return "  ".join(f"{name} {short(value)}" for name, value in values.items())


def short(value: Any) -> str:
    """Format a sampled value."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
