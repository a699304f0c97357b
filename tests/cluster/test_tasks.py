"""How many calls are in flight, how many tasks they hold, and what becomes of a call that crashes; no Ray."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import pytest

from salt_ray.cluster import session, tasks
from salt_ray.cluster.tasks import RayTasks
from salt_ray.config import Resources
from salt_ray.pipeline.engine import Failed

import ray  # isort: skip


def task(number: int) -> functools.partial:
    return functools.partial(abs, number)


def sends(sent: list[list[int]], patch: pytest.MonkeyPatch) -> None:
    """Let calls be noted, by the numbers of their tasks, instead of being sent; their references count them."""

    def remote(tasks: list[functools.partial]) -> int:
        sent.append([task.args[0] for task in tasks])
        return len(sent) - 1

    def options(name: str) -> SimpleNamespace:
        assert name == "abs"  # what the dashboard shows
        return SimpleNamespace(remote=remote)

    patch.setattr(tasks, "attempt_all", SimpleNamespace(options=options))


@pytest.mark.parametrize(
    ("grows", "nodes", "predicting", "finishing"),
    [
        (False, [{"CPU": 2.0}], 4, 4),
        (True, [{"CPU": 8.0}], 8, 8),  # the head of a cluster whose GPU machines have gone
        (True, [{"CPU": 8.0}, {"CPU": 48.0, "GPU": 4.0}], 48, 56),  # four workers with two CPUs each
        (True, [], 0, 1),
    ],
)
def test_no_more_calls_fly_than_would_run_where_their_queue_would_start_machines(
    grows: bool, nodes: list[dict], predicting: int, finishing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = [{"Alive": True, "Resources": node} for node in nodes]
    monkeypatch.setattr(session.ray, "nodes", lambda: alive)
    monkeypatch.setattr(tasks, "may_grow", lambda wanted: grows)
    flying: list[list[int]] = []
    sends(flying, monkeypatch)
    calls = RayTasks(task, Resources(cpus_per_fold=2, gpus_per_fold=1.0))
    for limit, is_predicting in ((predicting, True), (finishing, False)):
        assert calls._limit(is_predicting) == limit
    for number in range(1000):
        calls.add(number)
    monkeypatch.setattr(tasks.ray, "wait", lambda references, **options: ([], references))
    assert list(calls.answers(wait=False)) == [] and len(flying) == predicting
    alive.append({"Alive": True, "Resources": {"CPU": 4.0}})
    assert list(calls.answers(wait=False)) == [] and len(flying) == predicting + (4 if grows else 8)


def test_calls_take_several_tasks_and_after_a_crash_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call that holds task 7 kills its worker: all others get their answers, 7 has failed."""
    monkeypatch.setattr(session.ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 2.0}}])
    monkeypatch.setattr(tasks, "may_grow", lambda wanted: False)
    sent: list[list[int]] = []
    sends(sent, monkeypatch)
    calls = RayTasks(task, Resources(cpus_per_fold=2, gpus_per_fold=1.0))

    def get(call: int) -> list[int]:
        if 7 in sent[call]:
            raise ray.exceptions.WorkerCrashedError
        return [-number for number in sent[call]]

    monkeypatch.setattr(tasks.ray, "wait", lambda references, **options: (references, []))
    monkeypatch.setattr(tasks.ray, "get", get)
    for number in range(200):
        calls.add(number)
    answers = []
    while calls:
        answers += calls.answers(wait=True)
    assert sorted(number for number, _ in answers) == list(range(200))
    assert all(answer == -number for number, answer in answers if number != 7)
    assert isinstance(dict(answers)[7], Failed)
    assert max(map(len, sent)) == tasks.TASKS_PER_CALL and len(sent[-1]) == 1
    assert [7] in sent
