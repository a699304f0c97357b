"""Whose fault a lost worker is, and what follows from it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from salt_ray.artifacts import RunDirectory
from salt_ray.cluster import lost_workers
from salt_ray.cluster.lost_workers import FoldLosses, GivenUp, why_lost, why_trial_lost
from salt_ray.config import Experiment, Resources
from salt_ray.survey.folds import FoldTable
from salt_ray.training.loop import FoldTask
from salt_ray.training.micro_batch import MicroBatch

from ray.core.generated.common_pb2 import ActorDeathCause, ActorDiedErrorContext, OomContext  # isort: skip
from ray.exceptions import ActorDiedError, ActorUnavailableError, OutOfMemoryError  # isort: skip
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError  # isort: skip

ACTOR = bytes(range(16))
DIED = ActorDiedError(ActorDiedErrorContext(actor_id=ACTOR, error_message="The actor is dead"))
CUT_OFF = ActorUnavailableError("RpcError", ACTOR)


def died(reason: int) -> ActorDeathCause:
    return ActorDeathCause(actor_died_error_context=ActorDiedErrorContext(reason=reason, node_ip_address="10.0.0.3"))


NODE_DIED, CRASHED = died(ActorDiedErrorContext.NODE_DIED), died(ActorDiedErrorContext.WORKER_DIED)
NO_MEMORY = ActorDeathCause(oom_context=OomContext(error_message="low on memory"))


@pytest.fixture
def verdict(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets Ray's head node know these deaths, one at every question; None: it calls the actor alive."""

    def known(*deaths: ActorDeathCause | None) -> None:
        answers = iter([{"State": "DEAD" if death else "ALIVE", "DeathCause": death} for death in deaths])
        monkeypatch.setattr(
            lost_workers.state, "actor_table", lambda actor: next(answers) if actor == ACTOR.hex() else {}
        )
        monkeypatch.setattr(lost_workers.time, "sleep", lambda seconds: None)

    return known


@pytest.mark.parametrize("error", [DIED, WorkerHealthCheckFailedError("a check failed", DIED), CUT_OFF])
@pytest.mark.parametrize(
    ("deaths", "cause", "words"),
    [
        ((NODE_DIED,), "node", "10.0.0.3 died"),
        ((None, None, NODE_DIED), "node", "10.0.0.3 died"),  # at first it is only unavailable
        ((CRASHED,), "worker", "10.0.0.3 was killed or crashed"),
        ((NO_MEMORY,), "memory", "out of memory"),
    ],
)
def test_rays_head_node_knows_why_a_worker_died(
    error: Exception, deaths: tuple, cause: str, words: str, verdict: Any, tmp_path: Path
) -> None:
    verdict(*deaths)
    loss = why_lost(error)
    assert loss.cause == cause and words in loss.reason
    seen_by_tune = getattr(error, "health_check_failure", error)
    earlier = "Failure # 1 (occurred at noon)\nValueError: no\n"
    (tmp_path / "error.txt").write_text(f"{earlier}Failure # 2 (occurred later)\n{seen_by_tune}\n")
    verdict(*deaths)
    assert why_trial_lost(SimpleNamespace(error_file=tmp_path / "error.txt")) == loss


def test_who_stays_cut_off_is_not_to_blame(verdict: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict(*[None] * 10)
    monkeypatch.setattr(lost_workers, "VERDICT_SECONDS", -1)
    assert why_lost(CUT_OFF).cause == "node"


def test_an_exception_is_the_workers_own() -> None:
    loss = why_lost(ValueError("no such tile\nhint"))
    assert loss.cause == "worker" and loss.reason == "ValueError: no such tile"


@pytest.fixture
def fold_losses(tiny: Experiment, tiny_folds: FoldTable, tmp_path: Path) -> FoldLosses:
    task = FoldTask(tiny.replace(resources=Resources(max_failures=1)), tiny.trainings[0], 0, tiny_folds)
    said: list[str] = []
    board = SimpleNamespace(say=SimpleNamespace(remote=said.append), said=said)
    return FoldLosses(task, RunDirectory(tmp_path), board)


def test_lost_nodes_do_not_count_and_crashes_do(fold_losses: FoldLosses, verdict: Any) -> None:
    verdict(*[NODE_DIED] * 20, CRASHED, NODE_DIED, CRASHED)
    for _ in range(22):
        fold_losses.after_exception(None, {0: DIED})
    with pytest.raises(GivenUp, match=r"10\.0\.0\.3 was killed or crashed"):
        fold_losses.after_exception(None, {0: DIED})


def test_a_worker_killed_for_memory_gets_smaller_batches_until_they_are_smallest(
    fold_losses: FoldLosses, tmp_path: Path
) -> None:
    """Batches of 4 go in two parts of 2; what is killed then counts as a failure of its own."""
    memory = MicroBatch(RunDirectory(tmp_path).stage("random", 0, "plateau").parent)
    killed = WorkerHealthCheckFailedError("a check failed", OutOfMemoryError("1 worker(s) were killed"))
    fold_losses.after_exception(None, {0: killed})
    assert memory.parts("training", 4) == 2
    assert fold_losses._board.said == [
        "random-fold-0: killed because its node ran out of memory; going on with batches in 2 parts"
    ]
    fold_losses.after_exception(None, {0: killed})
    with pytest.raises(GivenUp, match="out of memory"):
        fold_losses.after_exception(None, {0: killed})
    assert memory.parts("training", 4) == 2
