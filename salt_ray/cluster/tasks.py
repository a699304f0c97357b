"""Numbered tasks as Ray tasks of one core each, several of them in a call where many wait.

They take CPUs only, so that they run alongside inference on GPUs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from salt_ray.cluster.session import asked_for, may_grow, slots  # isort: skip (sets Ray's environment)
import ray

from salt_ray.config import Resources
from salt_ray.pipeline.engine import Failed
from salt_ray.pipeline.local import attempt
from salt_ray.postprocessing.selection import LeakError

CALLS_PER_CPU = 2  # in flight: enough that no CPU waits for the driver, few enough that memory does not fill
#: Tasks of one call at most. A call costs 5 ms of the driver's core and of its worker's, as much as a small mosaic.
TASKS_PER_CALL = 16
ONE_CPU = {"CPU": 1.0}


@ray.remote(num_cpus=1, max_retries=3)
def attempt_all(tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    """One that fails, for whatever reason, leaves the others of its call alone."""
    return [attempt(task) for task in tasks]


class RayTasks:
    """Tasks of which a few are in flight at a time; the others wait, so that their data need no memory.

    Where the cluster may grow none waits in Ray's queue: that would start a machine, with GPUs if it is of that kind.

    Args:
        task: what is to be done for a number, with all of its data.
        beside: what the prediction workers take that the tasks run beside.
    """

    def __init__(self, task: Callable[[int], Callable[[], Any]], beside: Resources) -> None:
        self._task = task
        self._grows = may_grow(ONE_CPU)
        self._worker = asked_for(beside)
        self._waiting: deque[int] = deque()
        self._suspects: deque[int] = deque()  # one of those that were together in a call brought it down
        self._flying: dict[ray.ObjectRef, list[int]] = {}

    def add(self, number: int) -> None:
        self._waiting.append(number)

    def __bool__(self) -> bool:
        return bool(self._waiting or self._suspects or self._flying)

    def answers(self, wait: bool) -> Iterator[tuple[int, Any]]:
        limit = self._limit(predicting=not wait)
        self._fill(limit)
        if not self._flying:
            return
        if wait:
            ray.wait(list(self._flying))
        finished, _ = ray.wait(list(self._flying), num_returns=len(self._flying), timeout=0)
        for reference in finished:
            numbers = self._flying.pop(reference)
            try:
                answers = ray.get(reference)
            except ray.exceptions.RayError as error:
                if isinstance(getattr(error, "cause", None), LeakError):
                    raise error.cause from error
                if len(numbers) > 1:
                    self._suspects.extend(numbers)
                    continue
                answers = [Failed(str(error).strip().splitlines()[-1])]
            yield from zip(numbers, answers, strict=True)
        self._fill(limit)

    def _limit(self, predicting: bool) -> int:
        """How many calls may be in flight now: nodes come and go."""
        cpus = slots(ONE_CPU)
        if not self._grows:
            return CALLS_PER_CPU * max(1, cpus)
        if predicting:  # the workers hold theirs, or are about to
            return cpus - slots(self._worker) * int(self._worker["CPU"])
        return max(1, cpus)  # without a node one of them asks for it

    def _fill(self, limit: int) -> None:
        while (self._suspects or self._waiting) and len(self._flying) < limit:
            if self._suspects:
                numbers = [self._suspects.popleft()]
            else:  # fewer and fewer, so that all workers end at nearly the same time
                count = min(TASKS_PER_CALL, max(1, len(self._waiting) // (2 * limit)))
                numbers = [self._waiting.popleft() for _ in range(count)]
            tasks = [self._task(number) for number in numbers]
            # The dashboard lists calls by what they do.
            call = attempt_all.options(name=getattr(tasks[0], "func", tasks[0]).__name__)
            self._flying[call.remote(tasks)] = numbers
