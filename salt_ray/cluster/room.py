"""Waiting for places on a cluster that may grow, and telling its autoscaler what waits.

What waits is told as a request and not by pending placement groups: those would take the next free place themselves,
also one that belongs to a fold between two workers. Requests go through the actor with which Ray Train tells of its
own workers. It adds up what everybody asks for, and forgets what is not repeated: a driver that dies keeps no machine
running.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from salt_ray.cluster.session import may_grow, slots  # isort: skip (sets Ray's environment)
from salt_ray.cluster.private import autoscaling_coordinator

POLL_SECONDS = 1.0
REPEAT_SECONDS = 30.0
EXPIRY_SECONDS = 180.0  # Ray Train's own requests live as long
NOTICE_SECONDS = 300.0


class Demand:
    """Places that are wanted, as the autoscaler is told where there is one; the demand ends with the block.

    What is no longer asked for stays until ``withdraw``, or for three minutes: who has just begun to start holds
    nothing yet, and a node that came for it must not be taken away as idle.

    Args:
        run: the run directory's identity; it says whose demand this is, among everybody's on the cluster.
        wanted: what one place takes.
    """

    def __init__(self, run: str, wanted: dict[str, float]) -> None:
        self._run, self._wanted = run, wanted
        self._coordinator = autoscaling_coordinator() if may_grow(wanted) else None
        self._asked: dict[str, tuple[int, float]] = {}

    def __enter__(self) -> Demand:
        return self

    def __exit__(self, *error: object) -> None:
        for who in self._asked:
            self._coordinator.cancel_request.remote(requester(self._run, who))

    def ask(self, who: str, places: int = 1) -> None:
        """So many places for ``who``, besides what others ask for; to be called every second or so."""
        now = time.monotonic()
        before, asked = self._asked.get(who, (0, -math.inf))
        if self._coordinator is None or (places == before and now - asked < REPEAT_SECONDS):
            return
        self._asked[who] = places, now
        bundles = [dict(self._wanted)] * places
        self._coordinator.request_resources.remote(requester(self._run, who), bundles, expire_after_s=EXPIRY_SECONDS)


def requester(run: str, who: str) -> str:
    """The name of a demand on the cluster."""
    return f"salt-ray {run} {who}"


def withdraw(run: str, who: str) -> None:
    """End a demand from another process, one that is about to tell its own."""
    autoscaling_coordinator().cancel_request.remote(requester(run, who))


class Waiting:
    """Says what waits for a place when that begins or becomes more, and again every five minutes.

    Args:
        wanted: what one place takes.
        what: one of those that wait, and many of them.
        say: prints one line.
    """

    def __init__(self, wanted: dict[str, float], what: tuple[str, str], say: Callable[[str], None]) -> None:
        self._place, self._what, self._say = f"a node with {words(wanted)}", what, say
        self._count, self._time = 0, -math.inf

    def now(self, count: int) -> None:
        """So many wait now."""
        if count > 0 and (count > self._count or time.monotonic() - self._time >= NOTICE_SECONDS):
            one, many = self._what
            self._say(f"waiting for {self._place}: {count} {one if count == 1 else many} without a place")
            self._time = time.monotonic()
        self._count = count


def words(wanted: dict[str, float]) -> str:
    """Resources, as people read them."""
    return " and ".join(f"{amount:g} {kind}" for kind, amount in wanted.items())


def wait_for_room(
    run: str, wanted: dict[str, float], count: int, what: tuple[str, str], say: Callable[[str], None]
) -> None:
    """Return once there is a place; until then ask the autoscaler for ``count`` of them."""
    waiting = Waiting(wanted, what, say)
    with Demand(run, wanted) as demand:
        while not slots(wanted):
            demand.ask(what[1], count)
            waiting.now(count)
            time.sleep(POLL_SECONDS)
