"""Chunks of tiles, and slabs of volumes, predicted by remote actors, which write them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from salt_ray.cluster.session import ClusterError, fold_resources, slots  # isort: skip (sets Ray's environment)
import ray

from salt_ray.artifacts import RunDirectory
from salt_ray.cluster.lost_workers import WorkerInquiry
from salt_ray.cluster.restarts import GivenUp, Restarts
from salt_ray.cluster.room import POLL_SECONDS, Demand, Waiting
from salt_ray.cluster.training import worker_device
from salt_ray.cluster.visibility import check_nodes_see
from salt_ray.errors import SaltRayError, incurable
from salt_ray.pipeline.engine import Piece, Work
from salt_ray.pipeline.workplace import keep_memory

MODELS_ON_GPU = 16  # kept by a worker: the 11 of Argus take 2.8 GB. On CPUs, with a worker a core, one has to do
RESTARTS = 3  # of one worker, after failures of its own


@ray.remote  # Ray's own restarts would count lost nodes as failures
class Predictor:
    """Predicts pieces; keeps the models that it has loaded. ``work`` is mapped from the object store, not copied."""

    def __init__(self, work: Work[Piece], cpus: int, gpu: bool) -> None:
        import torch  # here and below: the driver does not wait for it

        torch.set_num_threads(cpus)
        keep_memory()
        self._work, self._gpu = work, gpu
        self._lines: list[str] = []

    def ready(self, directories: Sequence[tuple[RunDirectory, str]]) -> None:
        """Answers once the actor has its place.

        Raises:
            ClusterError: its GPU cannot be used.
            RunError: its node does not see one of the run directories, each with its identity.
            SaltRayError: or what else the work needs.
        """
        device = worker_device(self._gpu)
        for directory, identity in directories:
            directory.check_visible(identity)
        self._write = self._work.begin(device, self._lines.append, MODELS_ON_GPU if self._gpu else 1)

    def predict(self, piece: Piece) -> list[str]:
        """Predict a piece into its file.

        Returns:
            Lines for people.
        """
        self._write(piece)
        lines = list(self._lines)
        self._lines.clear()
        return lines


def predict_pieces(pieces: Sequence[Piece], work: Work[Piece], say: Callable[[str], None]) -> Iterator[Piece]:
    """Predict on all of the cluster's slots, the first pieces first; workers write what they predict.

    Args:
        say: gets lines for people.

    Yields:
        Every piece once its file is there.
    """
    directories = [(directory, check_nodes_see(directory)) for directory in work.directories]
    wanted = fold_resources(work.experiment.resources)
    predictor = Predictor.options(num_cpus=wanted["CPU"], num_gpus=wanted.get("GPU", 0))
    shared = ray.put(work)
    what = ("model to predict with", "models to predict with")
    without_place = Waiting(wanted, what, say)
    left = set(pieces)

    def start() -> tuple[ray.actor.ActorHandle, ray.ObjectRef]:
        actor = predictor.remote(shared, int(wanted["CPU"]), "GPU" in wanted)
        return actor, actor.ready.remote(directories)

    def predict(actor: ray.actor.ActorHandle, piece: Piece) -> ray.ObjectRef:
        return actor.predict.remote(piece)

    with Demand(directories[-1][1], wanted) as demand:

        def places() -> int:
            count, workers = slots(wanted), work.workers(left)
            if not count:
                demand.ask(what[1], workers)
            without_place.now(0 if count else workers)
            return count

        for piece in Workers(pieces, start, predict, say).answers(places):
            left.remove(piece)
            yield piece


@dataclass(eq=False)
class _Worker:
    """A remote actor, with the losses of those in whose place it came."""

    actor: ray.actor.ActorHandle
    restarts: Restarts
    ready: bool = False
    busy: int = 0


class Workers:
    """Predict pieces with as many workers as there are places; when one is lost another one takes its pieces.

    Args:
        pieces: in the order in which they are wanted.
        start: starts a worker; returns its actor and a call that answers once it has its place.
        predict: gives it a piece; the call answers with lines for people, of which equal ones are said once.
        say: gets lines for people.
    """

    def __init__(
        self,
        pieces: Sequence[Piece],
        start: Callable[[], tuple[ray.actor.ActorHandle, ray.ObjectRef]],
        predict: Callable[[ray.actor.ActorHandle, Piece], ray.ObjectRef],
        say: Callable[[str], None],
    ) -> None:
        self._start, self._predict, self._say = start, predict, say
        self._waiting, self._unanswered = deque(pieces), len(pieces)
        self._workers: list[_Worker] = []
        self._flying: dict[ray.ObjectRef, tuple[_Worker, Piece | None]] = {}
        self._lost: list[tuple[_Worker, WorkerInquiry]] = []  # it is not known yet whose fault that was
        self._heritage: deque[Restarts] = deque()
        self._said: set[str] = set()

    def answers(self, places: Callable[[], int]) -> Iterator[Piece]:
        """Every piece once it is written, two calls in flight per worker so that none waits for the driver.

        A worker gets work once it has answered, and is given up when none is left for it: another one may be waiting
        for that place.

        Args:
            places: how many workers the live nodes can hold; asked again each time, because nodes come and go.

        Raises:
            ClusterError: a worker failed more often than it is restarted; nodes that are lost do not count.
            SaltRayError, OSError: what a worker found that a person can put right.
        """
        while self._unanswered:
            self._inquire()
            self._fill(places())
            if not self._flying:
                time.sleep(POLL_SECONDS)
                continue
            for reference in ray.wait(list(self._flying), timeout=POLL_SECONDS)[0]:
                worker, piece = self._flying.pop(reference)
                if not self._answered(reference, worker, piece):
                    continue
                self._give_work(worker)
                if piece is not None:
                    self._unanswered -= 1
                    yield piece
        for worker in self._workers:
            ray.kill(worker.actor)

    def _fill(self, places: int) -> None:
        """Start workers while there are places for them and pieces that are not started."""
        starting = sum(not worker.ready for worker in self._workers)
        while len(self._workers) + len(self._lost) < places and starting < len(self._waiting):
            actor, ready = self._start()
            restarts = self._heritage.popleft() if self._heritage else Restarts(RESTARTS, lambda reason: None)
            worker = _Worker(actor, restarts)
            self._workers.append(worker)
            self._flying[ready] = worker, None
            starting += 1

    def _answered(self, reference: ray.ObjectRef, worker: _Worker, piece: Piece | None) -> bool:
        """Whether a worker has answered; one that is lost leaves what it has begun to others."""
        try:
            lines = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            # A full disk is, like an error of ours, for a person to cure.
            told = isinstance(error.cause, SaltRayError) or (
                isinstance(error.cause, OSError) and incurable(error.cause)
            )
            raise (error.cause if told else _given_up(str(error))) from error
        except ray.exceptions.RayError as error:
            if getattr(error, "actor_init_failed", False):
                raise _given_up(str(error)) from error
            begun = [piece, *(its for owner, its in self._flying.values() if owner is worker)]
            self._waiting.extendleft(its for its in reversed(begun) if its is not None)
            self._flying = {call: (owner, its) for call, (owner, its) in self._flying.items() if owner is not worker}
            self._workers.remove(worker)
            self._lost.append((worker, WorkerInquiry.of_error(error)))
            return False
        for line in lines or ():
            if line not in self._said:
                self._said.add(line)
                self._say(line)
        worker.ready = True
        worker.busy -= piece is not None
        return True

    def _give_work(self, worker: _Worker) -> None:
        while self._waiting and worker.busy < 2:
            piece = self._waiting.popleft()
            self._flying[self._predict(worker.actor, piece)] = worker, piece
            worker.busy += 1
        if not worker.busy:
            self._workers.remove(worker)
            ray.kill(worker.actor)

    def _inquire(self) -> None:
        """Free the places of lost workers of which it is known why; one that cannot be reached may hold its own."""
        lost, self._lost = self._lost, []
        for worker, inquiry in lost:
            try:
                known = worker.restarts.after(inquiry)
            except GivenUp as error:
                raise _given_up(str(error)) from error
            if known is None:
                self._lost.append((worker, inquiry))
                continue
            self._say(f"a prediction worker was lost; another one takes over its work: {inquiry.look().reason}")
            self._heritage.append(worker.restarts)
            ray.kill(worker.actor)


def _given_up(reason: str) -> ClusterError:
    last = reason.strip().splitlines()[-1]
    return ClusterError(f"a prediction worker failed permanently ({last}): run the same command again to resume")
