"""What an experiment tracker is told of a run: the one interface between a run and MLflow or Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Protocol

#: How a run or a trial ended.
State = Literal["finished", "failed", "killed"]


@dataclass(frozen=True)
class Epoch:
    """An epoch of a series, which is one stage of one fold.

    Attributes:
        values: by name, such as score and loss.
        time: when it ended, in seconds since 1970.
    """

    number: int
    values: Mapping[str, float]
    time: float


class Tracker(Protocol):
    """Keeps runs, each with parameters, curves, final values and files.

    A salt-ray run is one of its runs, and so is every trial of a search. ``run`` is what the tracker calls it. Any
    method may raise whatever its library does.

    Attributes:
        package: what pip installs.
        server: what to set so that it needs no folder on a disk.
    """

    package: ClassVar[str]
    server: ClassVar[str]

    @staticmethod
    def online() -> bool:
        """Whether it writes elsewhere than in a folder."""

    def begin(self, run: str | None, name: str, parent: str | None, parameters: Mapping[str, str]) -> str:
        """Begin a run, or go on with one.

        Args:
            run: the one to go on with; None: a new one.
            parent: the run that a trial belongs to.
            parameters: those that the run has already may stay as they were.
        """

    def epochs(self, run: str, series: str, epochs: Sequence[Epoch], before: int) -> None:
        """Add epochs to a curve; their numbers may come in any order.

        Args:
            before: how many epochs the run has of all its series.
        """

    def values(self, run: str, values: Mapping[str, float], step: int) -> None:
        """Add final values; those of a higher step replace earlier ones."""

    def file(self, run: str, path: Path, kind: str) -> None:
        """Keep a file with the run, in the place of an earlier one of its name."""

    def end(self, run: str, state: State) -> None:
        """The run or trial has ended, so far."""

    def close(self) -> None:
        """Send what has not been sent."""
