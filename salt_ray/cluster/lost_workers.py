"""Why a worker was lost, and what follows from it: nobody's fault, too much memory, or a failure of its own.

Ray counts all losses alike, except that of a node whose end was announced. A fold on spot nodes may lose many of them,
and must still be given up after a few crashes of its own.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from salt_ray.cluster.session import first_line  # isort: skip (sets Ray's environment)
from ray._private.state import state
from ray.core.generated.common_pb2 import ActorDeathCause, ActorDiedErrorContext
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
from ray.train.v2.api.callback import UserCallback

from salt_ray.artifacts import RunDirectory
from salt_ray.training.loop import FoldTask
from salt_ray.training.micro_batch import SMALLEST, MicroBatch

# A node that is cut off is called dead after 65 s at most; until then its workers are only unavailable.
VERDICT_SECONDS = 90.0


@dataclass(frozen=True)
class Loss:
    """The end of a worker.

    Attributes:
        cause: "node": it went down with its node; "memory": Ray killed it, because its node ran out of memory;
            "worker": anything else, its own exceptions among it.
        reason: one line.
    """

    cause: Literal["node", "memory", "worker"]
    reason: str


OUT_OF_MEMORY = Loss("memory", "killed because its node ran out of memory")
LOW_MEMORY = "killed due to the node running low on memory"  # in Ray's own words
ACTOR = re.compile(r"actor(?:_id:)? ([0-9a-f]{32})")  # in Ray's words for an actor that died or cannot be reached


def why_lost(error: BaseException) -> Loss:
    """What the error of a lost worker means; waits for Ray's verdict where it cannot be reached.

    Args:
        error: what a call of the worker raised, or what Ray Train makes of that.
    """
    if isinstance(error, WorkerHealthCheckFailedError):
        error = error.health_check_failure
    if isinstance(error, OutOfMemoryError):
        return OUT_OF_MEMORY
    if not isinstance(error, RayActorError):
        return Loss("worker", f"{type(error).__name__}: {first_line(error)}")
    if error.preempted:
        return Loss("node", "its node was taken away")
    return _why_actor_died(error.actor_id)


def why_trial_lost(trial: Any) -> Loss:
    """``why_lost`` for a trial of Ray Tune, which keeps its errors as text."""
    text = Path(trial.error_file).read_text().rpartition("Failure # ")[2].partition("\n")[2].strip()
    if LOW_MEMORY in text:
        return OUT_OF_MEMORY
    if "Traceback" not in text and (actor := ACTOR.search(text)):
        return _why_actor_died(actor[1])
    return Loss("worker", text.splitlines()[-1])


def _why_actor_died(actor_id: str | None) -> Loss:
    death = _verdict(actor_id)
    if death is None:
        return Loss("node", "its node cannot be reached")
    if death.HasField("oom_context"):
        return OUT_OF_MEMORY
    context = death.actor_died_error_context
    if context.reason == ActorDiedErrorContext.NODE_DIED:
        return Loss("node", f"its node {context.node_ip_address} died")
    if context.reason == ActorDiedErrorContext.WORKER_DIED:
        return Loss("worker", f"its process on {context.node_ip_address} was killed or crashed")
    return Loss("worker", (context.error_message or "Ray ended it").splitlines()[0])


def _verdict(actor_id: str | None) -> ActorDeathCause | None:
    """What Ray's head node knows of the death; None where it calls the actor alive or does not know it."""
    deadline = time.monotonic() + VERDICT_SECONDS
    while actor_id is not None and (actor := state.actor_table(actor_id)):
        if actor["State"] == "DEAD":
            return actor["DeathCause"]
        if time.monotonic() > deadline:
            break
        time.sleep(0.5)
    return None


class GivenUp(Exception):
    """A worker failed more often than it is restarted."""


class FoldLosses(UserCallback):
    """Looks at every loss of a fold's worker before Ray Train restarts it; lives in the controller of its run.

    Ray Train itself restarts without a limit then.
    """

    def __init__(self, task: FoldTask, run: RunDirectory, board: Any) -> None:
        self._task, self._run, self._board = task, run, board
        self._failures = 0

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Ask for smaller batches after a lack of memory; end the run after too many failures of the worker's own."""
        (error,) = worker_exceptions.values()
        loss = why_lost(error)
        if loss.cause == "memory" and (line := halve(self._task, self._run, loss.reason)):
            self._say(line)
            return
        if loss.cause != "node":
            self._failures += 1
            if self._failures > self._task.experiment.resources.max_failures:
                raise GivenUp(loss.reason)
        self._say(f"its worker was lost and goes on from its checkpoint: {loss.reason}")

    def _say(self, line: str) -> None:
        self._board.say.remote(f"{self._task.name}: {line}")


def halve(task: FoldTask, run: RunDirectory, reason: str) -> str | None:
    """Let a fold that was killed for memory go on with smaller batches; the line that says so, None if it cannot."""
    memory = MicroBatch(run.stage(task.training.name, task.fold, task.training.stages[0].name).parent)
    largest = max(stage.batch_size for stage in task.training.stages)
    if memory.parts("training", largest) >= largest // SMALLEST["training"]:
        return None
    return memory.halve(reason)
