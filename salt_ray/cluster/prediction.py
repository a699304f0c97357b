"""Predictions of many models by remote actors, streamed to the disk chunk by chunk."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from salt_ray.cluster.session import ClusterError, fold_resources, slots  # isort: skip (sets Ray's environment)
import numpy as np
import ray
import torch

from salt_ray.artifacts import Folder, save_array, save_zeros
from salt_ray.cluster.folds import worker_device
from salt_ray.config import Experiment
from salt_ray.errors import SaltRayError
from salt_ray.inference.predict import Model, Probabilities
from salt_ray.survey.padding import Frame

CHUNK = 128  # tiles a call: 2.6 MB of float16 masks on the way back, seconds of work on a CPU
BLOCK = 8  # chunks that one model predicts before the next one does
MODELS_ON_GPU = 16  # kept by a worker: the seed's 11 take 2.8 GB. On CPUs, with a worker a core, one has to do


@dataclass(frozen=True)
class PredictionTask:
    """One model and the tiles that it predicts.

    Attributes:
        checkpoint: the model's weights.
        tiles: (n,) int64, increasing: positions in the survey.
        order: (n,) int64: the rows of ``tiles`` in the order in which they are wanted.
        folder: where its probabilities go.
    """

    checkpoint: Path
    tiles: np.ndarray
    order: np.ndarray
    folder: Folder


@ray.remote(max_restarts=3, max_task_retries=3)
class Predictor:
    """Predicts chunks of tiles; keeps the models that it has loaded. A restarted one loads what it needs again."""

    def __init__(self, experiment: Experiment, frame: Frame, cpus: int, gpu: bool) -> None:
        torch.set_num_threads(cpus)
        self._experiment, self._frame, self._gpu = experiment, frame, gpu
        self._models: dict[Path, Model] = {}

    def ready(self) -> None:
        """Answers once the actor has its place.

        Raises:
            ClusterError: its GPU cannot be used.
        """
        worker_device(self._gpu)

    def predict(self, checkpoint: Path, padded: np.ndarray, tiles: np.ndarray) -> Probabilities:
        """Predict ``padded[tiles]``; ``padded`` is mapped from the object store, not copied."""
        if checkpoint not in self._models:
            if len(self._models) == (MODELS_ON_GPU if self._gpu else 1):
                del self._models[next(iter(self._models))]
            self._models[checkpoint] = Model(self._experiment, checkpoint, self._frame, worker_device(self._gpu))
        return self._models[checkpoint].predict(padded[tiles])


class Results:
    """A model's arrays on the disk, filled chunk by chunk; a tile whose P(salt) is NaN has not been predicted yet."""

    def __init__(self, task: PredictionTask, tile_px: int) -> None:
        self._task, path = task, task.folder.path
        task.folder.open()
        masks, salt = path / "masks.npy", path / "salt.npy"
        if not salt.exists():  # written last: with it the others are whole
            save_array(path / "tiles.npy", task.tiles)
            save_zeros(masks, np.float16, (len(task.tiles), tile_px, tile_px))
            save_array(salt, np.full(len(task.tiles), np.nan, np.float32))
        self._masks, self._salt = np.load(masks, mmap_mode="r+"), np.load(salt, mmap_mode="r+")

    def chunks(self) -> Iterator[tuple[np.ndarray, bool]]:
        """The rows of each chunk and whether it is done; an interrupted run has the same chunks again."""
        for start in range(0, len(self._task.order), CHUNK):
            rows = self._task.order[start : start + CHUNK]
            yield rows, bool(np.isfinite(self._salt[rows]).all())

    def write(self, rows: np.ndarray, probabilities: Probabilities) -> None:
        """Keep a chunk; the marker follows the last one.

        Raises:
            ClusterError: the model's answer is no number.
        """
        if not np.isfinite(probabilities.salt).all():
            raise ClusterError(f"{self._task.checkpoint} predicts NaN: train this fold again")
        self._masks[rows] = probabilities.masks
        self._masks.flush()
        self._salt[rows] = probabilities.salt
        self._salt.flush()
        self.finish_if_whole()

    def finish_if_whole(self) -> None:
        if np.isfinite(self._salt).all():
            self._task.folder.finish(tiles=len(self._salt))


def predict_models(
    tasks: Sequence[PredictionTask],
    padded: np.ndarray,
    frame: Frame,
    experiment: Experiment,
    arrived: Callable[[np.ndarray], None],
) -> None:
    """Predict with every model on all of the cluster's slots, the first tiles of every model's order first.

    Each folder gets its marker when it is whole; what an earlier call left in it is kept.

    Args:
        padded: (N, P, P) uint8, the survey's padded tiles.
        arrived: called with the positions of the tiles that one model has just predicted, or had before.
    """
    wanted = fold_resources(experiment.resources)
    shared = ray.put(padded)
    results = [Results(task, frame.tile_px) for task in tasks]
    chunks = []
    for i, (task, result) in enumerate(zip(tasks, results, strict=True)):
        for number, (rows, done) in enumerate(result.chunks()):
            if done:
                arrived(task.tiles[rows])
            else:
                chunks.append((number, i, rows))
        result.finish_if_whole()
    chunks.sort(key=lambda chunk: (chunk[0] // BLOCK, chunk[1], chunk[0]))  # all models of a tile soon after another
    options = {"num_cpus": wanted["CPU"], "num_gpus": wanted.get("GPU", 0)}
    actors = [
        Predictor.options(**options).remote(experiment, frame, int(wanted["CPU"]), "GPU" in wanted)
        for _ in range(min(slots(wanted), len(chunks)))
    ]
    for i, rows, probabilities in _answers(actors, tasks, chunks, shared):
        results[i].write(rows, probabilities)
        arrived(tasks[i].tiles[rows])


def _answers(
    actors: list, tasks: Sequence[PredictionTask], chunks: list[tuple[int, int, np.ndarray]], padded: ray.ObjectRef
) -> Iterator[tuple[int, np.ndarray, Probabilities]]:
    """Every chunk's probabilities as they come, two calls in flight per actor so that none waits for the driver.

    An actor gets work once it has answered, and is given up when none is left for it: another one, restarted after it
    lost its node, may be waiting for that place.

    Raises:
        ClusterError: a worker failed more often than it is restarted.
        SaltRayError: what a worker found that a person can put right.
    """
    waiting, flying, busy = deque(chunks), {actor.ready.remote(): (actor, None) for actor in actors}, Counter()
    unanswered = len(chunks)
    while unanswered:
        (reference,), _ = ray.wait(list(flying))
        actor, chunk = flying.pop(reference)
        try:
            probabilities = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, SaltRayError) else _lost(error)) from error
        except ray.exceptions.RayError as error:
            raise _lost(error) from error
        busy[actor] -= chunk is not None
        while waiting and busy[actor] < 2:
            _, i, rows = following = waiting.popleft()
            flying[actor.predict.remote(tasks[i].checkpoint, padded, tasks[i].tiles[rows])] = (actor, following)
            busy[actor] += 1
        if not busy[actor]:
            ray.kill(actor)
        if chunk is not None:
            unanswered -= 1
            yield chunk[1], chunk[2], probabilities
    for actor, _ in flying.values():
        ray.kill(actor)


def _lost(error: Exception) -> ClusterError:
    reason = str(error).strip().splitlines()[-1]
    return ClusterError(f"a prediction worker failed for good ({reason}): the same command goes on with what is left")
