"""Which losses of a worker count, and when it is not begun again: one rule for folds and for trials.

Ray counts all losses alike, except that of a node whose end was announced. A fold on spot nodes may lose many of them,
and must still be given up after a few crashes of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True)
class Loss:
    """The end of a worker.

    Attributes:
        cause: "node": it went down with its node; "superseded": another worker has taken its fold over; "memory": Ray
            killed it, because its node ran out of memory; "worker": anything else, its own exceptions among it.
        reason: one line.
    """

    cause: Literal["node", "superseded", "memory", "worker"]
    reason: str

    @property
    def own(self) -> bool:
        """Whether it counts as a failure of the worker's own."""
        return self.cause in ("memory", "worker")


class Inquiry(Protocol):
    """What is known of one loss; ``settled``: what ``look`` returned last will stay."""

    settled: bool

    def look(self) -> Loss | None:
        """What it looks like now; None: nothing is known yet."""


class GivenUp(Exception):
    """A worker failed more often than it is restarted."""


class Restarts:
    """The losses of one fold or trial.

    Args:
        allowed: failures of its own after which it is begun again.
        halve: asks for smaller batches, for a reason; returns the line that says so, None where they are the smallest.
    """

    def __init__(self, allowed: int, halve: Callable[[str], str | None]) -> None:
        self._allowed, self._halve = allowed, halve
        self._own: list[Inquiry] = []

    def after(self, inquiry: Inquiry) -> str | None:
        """How it continues, for people; None: not known yet, ask again.

        That a node has died is known later than that a worker on it has. While restarts are left no one waits for
        that; before the last word is said, earlier losses are looked at once more.

        Raises:
            GivenUp: it has failed too often.
        """
        loss = inquiry.look()
        if loss is None:
            return None
        if loss.cause == "memory" and (line := self._halve(loss.reason)) is not None:
            return line
        if loss.own:
            self._own = [earlier for earlier in self._own if earlier.look().own]
            if len(self._own) >= self._allowed:
                if not inquiry.settled:
                    return None
                raise GivenUp(loss.reason)
            self._own.append(inquiry)
        return f"its worker was lost and resumes from its checkpoint: {loss.reason}"
