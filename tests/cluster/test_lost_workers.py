"""Whose fault a lost worker is, and what follows from it."""

from __future__ import annotations

import math
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from salt_ray.artifacts import RunDirectory
from salt_ray.cluster import lost_workers, private
from salt_ray.cluster.lost_workers import FoldLosses, WorkerInquiry
from salt_ray.cluster.restarts import GivenUp, Loss
from salt_ray.config import Experiment, Resources
from salt_ray.object_store import StorageError
from salt_ray.survey.folds import FoldTable
from salt_ray.training.checkpoint import Superseded
from salt_ray.training.micro_batch import MicroBatch
from salt_ray.training.task import FoldTask

from ray.core.generated.common_pb2 import ActorDeathCause, ActorDiedErrorContext, OomContext  # isort: skip
from ray.exceptions import ActorDiedError, ActorUnavailableError, OutOfMemoryError  # isort: skip
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError  # isort: skip

ACTOR = bytes(range(16))
DIED = ActorDiedError(ActorDiedErrorContext(actor_id=ACTOR, error_message="The actor is dead"))
CUT_OFF = ActorUnavailableError("RpcError", ACTOR)


def died(reason: int) -> ActorDeathCause:
    return ActorDeathCause(actor_died_error_context=ActorDiedErrorContext(reason=reason, node_ip_address="10.0.0.3"))


NODE_DIED, CRASHED = died(ActorDiedErrorContext.NODE_DIED), died(ActorDiedErrorContext.WORKER_DIED)
DROPPED = died(ActorDiedErrorContext.REF_DELETED)
NO_MEMORY = ActorDeathCause(oom_context=OomContext(error_message="low on memory"))
NODE = "0a" * 28


class Clock:
    """Stands still but for sleeping."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class HeadNode:
    """What Ray's head node knows: one death at every question, the last one for ever; None: the actor is alive.

    Attributes:
        node_dies: when the worker's node is called dead.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock, self.node, self.node_dies = clock, NODE, math.inf

    def knows(self, *deaths: ActorDeathCause | None) -> None:
        self.deaths = list(deaths)

    def actor_table(self, actor: str) -> dict[str, Any]:
        if actor != ACTOR.hex():
            return {}
        death = self.deaths.pop(0) if len(self.deaths) > 1 else self.deaths[0]
        address = {"NodeID": self.node, "IPAddress": "10.0.0.3"}
        return {"State": "DEAD" if death else "ALIVE", "DeathCause": death, "Address": address}

    def node_table(self) -> list[dict[str, Any]]:
        return [{"NodeID": NODE, "Alive": self.clock.now < self.node_dies}, {"NodeID": "0b" * 28, "Alive": True}]


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> HeadNode:
    clock = Clock()
    head = HeadNode(clock)
    monkeypatch.setattr(private, "state", head)
    monkeypatch.setattr(lost_workers, "time", clock)
    return head


def verdict(inquiry: WorkerInquiry, clock: Clock) -> Loss:
    """The last word on a loss."""
    inquiry.look()
    while not inquiry.settled:
        clock.sleep(lost_workers.LOOK_SECONDS)
        inquiry.look()
    return inquiry.look()


def trial_with(folder: Path, error: object) -> SimpleNamespace:
    """A trial of Ray Tune after this error, which was not its first one."""
    file = folder / "error.txt"
    file.write_text(f"Failure # 1 (occurred at noon)\nValueError: no\nFailure # 2 (occurred later)\n{error}\n")
    return SimpleNamespace(error_file=file)


@pytest.mark.parametrize("error", [DIED, WorkerHealthCheckFailedError("a check failed", DIED), CUT_OFF])
@pytest.mark.parametrize(
    ("deaths", "node_dies", "cause", "words"),
    [
        ((NODE_DIED,), 0, "node", "10.0.0.3 died"),
        ((None, None, NODE_DIED), 0, "node", "10.0.0.3 died"),  # at first it is only unavailable
        ((CRASHED,), math.inf, "worker", "10.0.0.3 was killed or crashed"),
        ((CRASHED,), 15, "node", "10.0.0.3 died"),  # a node that went down has ended its workers first
        ((None, DROPPED), 65, "node", "10.0.0.3 died"),  # Tune let go of it before the node was called dead
        ((DROPPED,), math.inf, "worker", "Ray ended it"),
        ((NO_MEMORY,), math.inf, "memory", "out of memory"),
        ((None,), math.inf, "node", "cannot be reached"),  # it stays cut off
    ],
)
def test_rays_head_node_knows_why_a_worker_died(
    error: Exception, deaths: tuple, node_dies: float, cause: str, words: str, head: HeadNode, tmp_path: Path
) -> None:
    head.node_dies = node_dies
    head.knows(*deaths)
    loss = verdict(WorkerInquiry.of_error(error), head.clock)
    assert loss.cause == cause and words in loss.reason
    head.knows(*deaths)
    head.clock.now = 0.0
    trial = trial_with(tmp_path, getattr(error, "health_check_failure", error))
    assert verdict(WorkerInquiry.of_trial(trial), head.clock) == loss


def test_an_actor_without_a_node_was_not_lost_with_one(head: HeadNode) -> None:
    head.node = "f" * 56
    head.knows(died(ActorDiedErrorContext.OWNER_DIED))
    inquiry = WorkerInquiry.of_error(DIED)
    assert inquiry.look().cause == "worker" and inquiry.settled


@pytest.mark.parametrize(
    ("error", "cause", "reason"),
    [
        (ValueError("no such tile\nhint"), "worker", "ValueError: no such tile"),
        (StorageError("s3://here cannot be read"), "worker", "StorageError: s3://here cannot be read"),
        (Superseded("another worker has taken it over"), "superseded", "another worker has taken it over"),
    ],
)
def test_exceptions_are_the_workers_own_but_for_another_workers_token(
    error: Exception, cause: str, reason: str, tmp_path: Path
) -> None:
    inquiry = WorkerInquiry.of_error(error)
    assert inquiry.settled and inquiry.look() == Loss(cause, reason)
    try:
        raise error
    except Exception:
        loss = WorkerInquiry.of_trial(trial_with(tmp_path, traceback.format_exc())).look()
    assert loss.cause == cause and (cause == "worker" or loss.reason == reason)


@pytest.fixture
def fold_losses(tiny: Experiment, tiny_folds: FoldTable, tmp_path: Path) -> FoldLosses:
    task = FoldTask(tiny.replace(resources=Resources(max_failures=1)), tiny.trainings[0], 0, tiny_folds)
    said: list[str] = []
    board = SimpleNamespace(say=SimpleNamespace(remote=said.append), said=said)
    return FoldLosses(task, RunDirectory(tmp_path), board)


def test_lost_nodes_do_not_count_and_crashes_do(fold_losses: FoldLosses, head: HeadNode) -> None:
    head.knows(*[NODE_DIED] * 20, CRASHED, NODE_DIED, CRASHED)
    for _ in range(22):
        fold_losses.after_exception(None, {0: DIED})
    assert head.clock.now == 0  # while restarts are left nobody waits for what becomes of the node
    with pytest.raises(GivenUp, match=r"10\.0\.0\.3 was killed or crashed"):
        fold_losses.after_exception(None, {0: DIED})
    assert head.clock.now >= lost_workers.NODE_SECONDS


def test_a_worker_killed_for_memory_gets_smaller_batches_until_they_are_smallest(
    fold_losses: FoldLosses, tmp_path: Path
) -> None:
    """Batches of 4 go in two parts of 2; what is killed then counts as a failure of its own."""
    memory = MicroBatch(RunDirectory(tmp_path).stage("random", 0, "plateau").parent)
    killed = WorkerHealthCheckFailedError("a check failed", OutOfMemoryError("1 worker(s) were killed"))
    fold_losses.after_exception(None, {0: killed})
    assert memory.parts("training", 4) == 2
    assert fold_losses._board.said == [
        "random-fold-0: killed because its node ran out of memory; continuing with batches in 2 parts"
    ]
    fold_losses.after_exception(None, {0: killed})
    with pytest.raises(GivenUp, match="out of memory"):
        fold_losses.after_exception(None, {0: killed})
    assert memory.parts("training", 4) == 2
