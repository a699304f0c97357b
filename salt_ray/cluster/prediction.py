"""Predictions of many models by remote actors, which write them chunk by chunk."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from salt_ray.cluster.session import ClusterError, fold_resources, slots  # isort: skip (sets Ray's environment)
import numpy as np
import ray
import torch

from salt_ray.artifacts import Folder, RunDirectory
from salt_ray.cluster.folds import worker_device
from salt_ray.cluster.room import wait_for_room
from salt_ray.cluster.visibility import check_nodes_see
from salt_ray.config import Experiment
from salt_ray.errors import SaltRayError
from salt_ray.inference.predict import Model
from salt_ray.inference.stored import StoredPrediction, write_chunk
from salt_ray.storage import StoragePath
from salt_ray.survey.padding import Frame

BLOCK = 8  # chunks that one model predicts before the next one does
MODELS_ON_GPU = 16  # kept by a worker: the seed's 11 take 2.8 GB. On CPUs, with a worker a core, one has to do


@dataclass(frozen=True)
class PredictionTask:
    """One model and the tiles that it predicts.

    Attributes:
        checkpoint: the model's weights.
        tiles: (n,) int64: positions in the survey, in the order in which they are wanted.
        folder: where its probabilities go.
    """

    checkpoint: StoragePath
    tiles: np.ndarray
    folder: Folder


@ray.remote(max_restarts=3, max_task_retries=3)
class Predictor:
    """Predicts chunks of tiles; keeps the models that it has loaded. A restarted one loads what it needs again."""

    def __init__(self, experiment: Experiment, frame: Frame, run: RunDirectory, cpus: int, gpu: bool) -> None:
        torch.set_num_threads(cpus)
        self._experiment, self._frame, self._run, self._gpu = experiment, frame, run, gpu
        self._models: dict[StoragePath, Model] = {}

    def ready(self, identity: str) -> None:
        """Answers once the actor has its place.

        Raises:
            ClusterError: its GPU cannot be used.
            RunError: its node does not see the run directory.
        """
        worker_device(self._gpu)
        self._run.check_visible(identity)

    def predict(self, checkpoint: StoragePath, padded: np.ndarray, tiles: np.ndarray, chunk: StoragePath) -> None:
        """Predict ``padded[tiles]`` into a chunk's file; ``padded`` is mapped from the object store, not copied."""
        if checkpoint not in self._models:
            if len(self._models) == (MODELS_ON_GPU if self._gpu else 1):
                del self._models[next(iter(self._models))]
            self._models[checkpoint] = Model(self._experiment, checkpoint, self._frame, worker_device(self._gpu))
        predict_chunk(self._models[checkpoint], checkpoint, padded[tiles], chunk)


def predict_chunk(model: Model, checkpoint: StoragePath, padded: np.ndarray, chunk: StoragePath) -> None:
    """Predict (n, P, P) padded tiles into a chunk's file.

    Raises:
        ClusterError: the model's answer is no number.
    """
    probabilities = model.predict(padded)
    if not np.isfinite(probabilities.salt).all():
        raise ClusterError(f"{checkpoint} predicts NaN: train this fold again")
    write_chunk(chunk, probabilities)


@dataclass(frozen=True)
class _Chunk:
    """What one call predicts."""

    number: int
    model: int
    tiles: np.ndarray
    path: StoragePath


def predict_models(
    tasks: Sequence[PredictionTask],
    padded: np.ndarray,
    frame: Frame,
    experiment: Experiment,
    run: RunDirectory,
    arrived: Callable[[np.ndarray], None],
    say: Callable[[str], None],
) -> None:
    """Predict with every model on all of the cluster's slots, the first tiles of every model's order first.

    Workers write what they predict; each folder gets its marker when it is whole, and what an earlier call left in it
    is kept.

    Args:
        padded: (N, P, P) uint8, the survey's padded tiles.
        run: where the folders lie.
        arrived: called with the positions of the tiles that one model has just predicted, or had before.
        say: gets lines for people.
    """
    stored = [StoredPrediction.open(task.folder, task.tiles) for task in tasks]
    chunks, left = [], Counter()
    for i, prediction in enumerate(stored):
        for number, (tiles, path, done) in enumerate(prediction.chunks()):
            if done:
                arrived(tiles)
            else:
                chunks.append(_Chunk(number, i, tiles, path))
                left[i] += 1
        if not left[i]:
            prediction.finish_if_whole()
    if not chunks:
        return
    chunks.sort(key=lambda chunk: (chunk.number // BLOCK, chunk.model, chunk.number))  # all of a tile's models soon
    wanted, identity = fold_resources(experiment.resources), check_nodes_see(run)
    wait_for_room(identity, wanted, len(left), ("model to predict with", "models to predict with"), say)
    options = {"num_cpus": wanted["CPU"], "num_gpus": wanted.get("GPU", 0)}
    shared = ray.put(padded)
    actors = [
        Predictor.options(**options).remote(experiment, frame, run, int(wanted["CPU"]), "GPU" in wanted)
        for _ in range(max(1, min(slots(wanted), len(chunks))))
    ]
    for chunk in _answers(actors, tasks, chunks, shared, identity):
        left[chunk.model] -= 1
        if not left[chunk.model]:
            stored[chunk.model].finish_if_whole()
        arrived(chunk.tiles)


def _answers(
    actors: list, tasks: Sequence[PredictionTask], chunks: list[_Chunk], padded: ray.ObjectRef, identity: str
) -> Iterator[_Chunk]:
    """Every chunk once it is written, two calls in flight per actor so that none waits for the driver.

    An actor gets work once it has answered, and is given up when none is left for it: another one, restarted after it
    lost its node, may be waiting for that place.

    Raises:
        ClusterError: a worker failed more often than it is restarted.
        SaltRayError: what a worker found that a person can put right.
    """
    waiting, flying = deque(chunks), {actor.ready.remote(identity): (actor, None) for actor in actors}
    busy: Counter = Counter()
    unanswered = len(chunks)
    while unanswered:
        (reference,), _ = ray.wait(list(flying))
        actor, chunk = flying.pop(reference)
        try:
            ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, SaltRayError) else _lost(error)) from error
        except ray.exceptions.RayError as error:
            raise _lost(error) from error
        busy[actor] -= chunk is not None
        while waiting and busy[actor] < 2:
            following = waiting.popleft()
            call = actor.predict.remote(tasks[following.model].checkpoint, padded, following.tiles, following.path)
            flying[call] = (actor, following)
            busy[actor] += 1
        if not busy[actor]:
            ray.kill(actor)
        if chunk is not None:
            unanswered -= 1
            yield chunk
    for actor, _ in flying.values():
        ray.kill(actor)


def _lost(error: Exception) -> ClusterError:
    reason = str(error).strip().splitlines()[-1]
    return ClusterError(f"a prediction worker failed for good ({reason}): the same command goes on with what is left")
