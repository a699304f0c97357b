"""Why a worker was lost: an outside cause, too much memory, or a failure of its own."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from salt_ray.cluster.session import first_line  # isort: skip (sets Ray's environment)
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.train.v2.api.callback import UserCallback

from salt_ray.artifacts import RunDirectory
from salt_ray.cluster import private
from salt_ray.cluster.private import DeathReason
from salt_ray.cluster.restarts import Loss, Restarts
from salt_ray.training.checkpoint import Superseded
from salt_ray.training.micro_batch import MicroBatch
from salt_ray.training.task import FoldTask

# A node that is cut off is called dead after 65 s at most; until then its workers are only unavailable.
VERDICT_SECONDS = 90.0
# A node that goes down may end its workers first; where it ends without a word it is called dead 15 s later.
NODE_SECONDS = 20.0
LOOK_SECONDS = 0.5
# Ways in which Ray ends an actor that no handle refers to any more. Ray Tune drops that of a trial as soon as the
# trial cannot be reached, and what Ray's head node would have found out about it is then lost.
DROPPED = (DeathReason.OUT_OF_SCOPE, DeathReason.REF_DELETED, DeathReason.RAY_KILL)
OUT_OF_MEMORY = Loss("memory", "killed because its node ran out of memory")
CUT_OFF = Loss("node", "its node cannot be reached")
LOW_MEMORY = "killed due to the node running low on memory"  # in Ray's own words
ACTOR = re.compile(r"actor(?:_id:)? ([0-9a-f]{32})")  # in Ray's words for an actor that died or cannot be reached
SUPERSEDED = f"{Superseded.__module__}.{Superseded.__qualname__}: "  # as a traceback's last line begins


class WorkerInquiry:
    """Why a worker was lost, as far as Ray's head node knows yet: a ``restarts.Inquiry``."""

    def __init__(self, loss: Loss | None = None, actor_id: str | None = None) -> None:
        self._loss, self._actor_id, self._since = loss, actor_id, time.monotonic()
        self.settled = loss is not None

    @classmethod
    def of_error(cls, error: BaseException) -> WorkerInquiry:
        """Into what a call of the worker raised, or what Ray Train makes of that."""
        error = getattr(error, "health_check_failure", error)  # in what Ray Train makes of it
        if isinstance(error, OutOfMemoryError):
            return cls(OUT_OF_MEMORY)
        if isinstance(error, Superseded):
            return cls(Loss("superseded", first_line(error)))
        if not isinstance(error, RayActorError):
            return cls(Loss("worker", f"{type(error).__name__}: {first_line(error)}"))
        if error.preempted:
            return cls(Loss("node", "its node was taken away"))
        return cls(actor_id=error.actor_id)

    @classmethod
    def of_trial(cls, trial: Any) -> WorkerInquiry:
        """Into the newest error of a trial of Ray Tune, which keeps them as text."""
        text = Path(trial.error_file).read_text().rpartition("Failure # ")[2].partition("\n")[2].strip()
        if LOW_MEMORY in text:
            return cls(OUT_OF_MEMORY)
        if "Traceback" not in text and (actor := ACTOR.search(text)):
            return cls(actor_id=actor[1])
        last = text.splitlines()[-1]
        return cls(Loss("superseded" if last.startswith(SUPERSEDED) else "worker", last.removeprefix(SUPERSEDED)))

    def look(self) -> Loss | None:
        if not self.settled:
            self._loss, patience = _seen_by_head_node(self._actor_id)
            self.settled = time.monotonic() - self._since >= patience
            if self.settled and self._loss is None:
                self._loss = CUT_OFF
        return self._loss


def _seen_by_head_node(actor_id: str | None) -> tuple[Loss | None, float]:
    """Why an actor died, None while it is called alive; and how long after its loss that may still change."""
    actor = private.actor(actor_id) if actor_id is not None else None
    if not actor:
        return CUT_OFF, 0
    if actor["State"] != "DEAD":
        return None, VERDICT_SECONDS
    if actor["DeathCause"].HasField("oom_context"):
        return OUT_OF_MEMORY, 0
    death, node = actor["DeathCause"].actor_died_error_context, actor["Address"]["NodeID"]
    placed = bool(node.strip("f"))  # it is empty or all ones for an actor that never had a node
    address = death.node_ip_address or actor["Address"]["IPAddress"]
    if death.reason == DeathReason.NODE_DIED or (placed and not private.node_is_alive(node)):
        return Loss("node", f"its node {address} died"), 0
    patience = VERDICT_SECONDS if death.reason in DROPPED else NODE_SECONDS
    if death.reason == DeathReason.WORKER_DIED:
        reason = f"its process on {address} was killed or crashed"
    else:
        reason = (death.error_message or "Ray ended it").splitlines()[0]
    return Loss("worker", reason), patience if placed else 0


class FoldLosses(UserCallback):
    """Looks at every loss of a fold's worker before Ray Train restarts it; lives in the controller of its run.

    Ray Train itself restarts without a limit then.
    """

    def __init__(self, task: FoldTask, run: RunDirectory, board: Any) -> None:
        self._task, self._run, self._board = task, run, board
        self._restarts = Restarts(task.experiment.resources.max_failures, self._halve)

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Ask for smaller batches after a lack of memory; end the run after too many failures of the worker's own."""
        (error,) = worker_exceptions.values()
        inquiry = WorkerInquiry.of_error(error)
        while (line := self._restarts.after(inquiry)) is None:
            time.sleep(LOOK_SECONDS)
        self._board.say.remote(f"{self._task.name}: {line}")

    def _halve(self, reason: str) -> str | None:
        return halve(self._task, self._run, reason)


def halve(task: FoldTask, run: RunDirectory, reason: str) -> str | None:
    """Let a fold that was killed for memory continue with smaller batches; the line that says so, None if it cannot."""
    memory = MicroBatch(run.fold(task.training.name, task.fold))
    largest = max(stage.batch_size for stage in task.training.stages)
    return memory.halve(reason) if memory.can_shrink("training", largest) else None
