"""What becomes of the tiles of a prediction worker that is lost."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from salt_ray.cluster import prediction
from salt_ray.cluster.prediction import RESTARTS, Workers
from salt_ray.cluster.restarts import Loss
from salt_ray.cluster.session import ClusterError
from salt_ray.errors import RunError

from ray.exceptions import ActorDiedError, RayTaskError  # isort: skip

FULL = OSError(errno.ENOSPC, "No space left on device", "/to/slabs/inline/00001.npy")


class Inquiry:
    """Knows why a worker was lost at the second look."""

    def __init__(self, loss: Loss) -> None:
        self._loss, self._looks, self.settled = loss, 0, True

    def look(self) -> Loss | None:
        self._looks += 1
        return self._loss if self._looks > 1 else None


class Scene:
    """Workers that answer at once, or are lost; ``lost`` says of which cause, by (worker, how many chunks it had).

    Attributes:
        raised: what a worker raises at its first chunk.
    """

    raised: Exception | None = None

    def __init__(self, patch: pytest.MonkeyPatch, lost: Callable[[int, int], str | None]) -> None:
        self.lost, self.started, self.ended, self.lines = lost, 0, set(), []
        self.places, self.asked, self.naps, self.telling = 2, [], 0, False
        self._calls: list[tuple[int, object]] = []
        self._causes: dict[BaseException, str] = {}
        patch.setattr(prediction.ray, "wait", lambda references, timeout: (references[:1], references[1:]))
        patch.setattr(prediction.ray, "get", self._answer)
        patch.setattr(prediction.ray, "kill", self.ended.add)
        patch.setattr(prediction.time, "sleep", self._nap)
        of_error = lambda error: Inquiry(Loss(self._causes[error], "its reason"))  # noqa: E731
        patch.setattr(prediction, "WorkerInquiry", SimpleNamespace(of_error=of_error))

    def _start(self) -> tuple[int, object]:
        self.started += 1
        return self.started, self._call(self.started)

    def _call(self, worker: int) -> object:
        self._calls.append((worker, object()))
        return self._calls[-1][1]

    def _predict(self, worker: int, chunk: int) -> object:
        assert worker not in self.ended
        self.asked.append((worker, chunk))
        return self._call(worker)

    def _answer(self, reference: object) -> list[str]:
        (worker,) = (worker for worker, call in self._calls if call is reference)
        had = [chunk for owner, chunk in self.asked if owner == worker]
        if had and self.raised is not None:
            raise RayTaskError("predict", "its traceback\nits end", self.raised)
        if cause := self.lost(worker, len(had)):
            error = ActorDiedError()
            self._causes[error] = cause
            raise error
        return ["a line"] if self.telling else []

    def _nap(self, seconds: float) -> None:
        self.naps += 1
        self.places = max(1, self.places)

    def answers(self, count: int) -> Iterator[int]:
        return Workers(range(count), self._start, self._predict, self.lines.append).answers(lambda: self.places)


def test_nodes_may_be_lost_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every worker but the last ones goes down with its node, each with two chunks begun."""
    scene = Scene(monkeypatch, lambda worker, had: "node" if had and worker < 20 else None)
    assert sorted(scene.answers(9)) == list(range(9))
    assert len(scene.lines) == 19 and "another one takes over its work: its reason" in scene.lines[0]
    assert scene.ended == set(range(1, scene.started + 1))


def test_what_every_worker_tells_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch, lambda worker, had: None)
    scene.telling = True
    assert len(list(scene.answers(9))) == 9 and scene.lines == ["a line"]


@pytest.mark.parametrize("cause", ["worker", "memory"])
def test_a_worker_that_fails_too_often_is_the_end(cause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of two places is bad: the worker there fails, however often another one takes it."""
    scene = Scene(monkeypatch, lambda worker, had: cause if worker != 2 and had else None)
    with pytest.raises(ClusterError, match=r"failed permanently \(its reason\): run the same command again to resume"):
        list(scene.answers(1000))
    assert len(scene.lines) == RESTARTS and scene.started == 2 + RESTARTS


@pytest.mark.parametrize(
    ("error", "told"), [(FULL, OSError), (RunError("put it back"), RunError), (ValueError("no"), ClusterError)]
)
def test_what_a_person_can_cure_comes_as_it_is(
    error: Exception, told: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(monkeypatch, lambda worker, had: None)
    scene.raised = error
    with pytest.raises(told) as caught:
        list(scene.answers(9))
    assert (caught.value is error) == (type(error) is not ValueError)


def test_places_that_come_later_are_used_and_are_waited_for_where_there_are_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(monkeypatch, lambda worker, had: None)
    scene.places = 0
    found = []
    for chunk in scene.answers(20):
        found.append(chunk)
        scene.places = 3 if len(found) > 4 else 1
    assert sorted(found) == list(range(20)) and scene.naps == 1
    assert scene.started == 3 and {worker for worker, _ in scene.asked} == {1, 2, 3}
