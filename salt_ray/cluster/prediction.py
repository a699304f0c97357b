"""Predictions of many models by remote actors, streamed to the disk chunk by chunk."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from salt_ray.cluster.session import ClusterError, fold_resources, slots  # isort: skip (sets Ray's environment)
import numpy as np
import ray
import torch

from salt_ray.artifacts import Folder, save_array
from salt_ray.cluster.folds import worker_device
from salt_ray.config import Experiment
from salt_ray.errors import SaltRayError
from salt_ray.inference.predict import Model, Probabilities
from salt_ray.survey.padding import Frame

CHUNK = 128  # tiles a call: 2.6 MB of float16 masks on the way back, seconds of work on a CPU


@dataclass(frozen=True)
class PredictionTask:
    """One model and the tiles that it predicts.

    Attributes:
        checkpoint: the model's weights.
        tiles: (n,) int64, increasing: positions in the survey.
        folder: where its probabilities go.
    """

    checkpoint: Path
    tiles: np.ndarray
    folder: Folder


@ray.remote(max_restarts=3, max_task_retries=3)
class Predictor:
    """Predicts chunks of tiles; keeps the model of the last call. A restarted one loads what it needs again."""

    def __init__(self, experiment: Experiment, frame: Frame, cpus: int, gpu: bool) -> None:
        torch.set_num_threads(cpus)
        self._experiment, self._frame, self._gpu = experiment, frame, gpu
        self._loaded: tuple[Path, Model] | None = None

    def ready(self) -> None:
        """Answers once the actor has its place.

        Raises:
            ClusterError: its GPU cannot be used.
        """
        worker_device(self._gpu)

    def predict(self, checkpoint: Path, padded: np.ndarray, tiles: np.ndarray) -> Probabilities:
        """Predict ``padded[tiles]``; ``padded`` is mapped from the object store, not copied."""
        if self._loaded is None or self._loaded[0] != checkpoint:
            self._loaded = checkpoint, Model(self._experiment, checkpoint, self._frame, worker_device(self._gpu))
        return self._loaded[1].predict(padded[tiles])


def predict_models(
    tasks: Sequence[PredictionTask],
    padded: np.ndarray,
    frame: Frame,
    experiment: Experiment,
    advance: Callable[[int], None],
) -> None:
    """Predict with every model on all of the cluster's slots; each folder gets its marker when it is whole.

    Args:
        padded: (N, P, P) uint8, the survey's padded tiles.
        advance: called with the number of tiles that just came back.
    """
    wanted = fold_resources(experiment.resources)
    shared = ray.put(padded)
    chunks = [
        (i, start, task.tiles[start : start + CHUNK])
        for i, task in enumerate(tasks)
        for start in range(0, len(task.tiles), CHUNK)
    ]
    options = {"num_cpus": wanted["CPU"], "num_gpus": wanted.get("GPU", 0)}
    actors = [
        Predictor.options(**options).remote(experiment, frame, int(wanted["CPU"]), "GPU" in wanted)
        for _ in range(min(slots(wanted), len(chunks)))
    ]
    arrays = [_arrays(task, frame.tile_px) for task in tasks]
    left = [len(task.tiles) for task in tasks]
    for i, start, probabilities in _answers(actors, tasks, chunks, shared):
        masks, salt = arrays[i]
        size = len(probabilities.salt)
        masks[start : start + size], salt[start : start + size] = probabilities
        left[i] -= size
        if not left[i]:
            masks.flush()
            save_array(tasks[i].folder.path / "salt.npy", salt)
            tasks[i].folder.finish(tiles=len(tasks[i].tiles))
        advance(size)


def _answers(
    actors: list, tasks: Sequence[PredictionTask], chunks: list[tuple[int, int, np.ndarray]], padded: ray.ObjectRef
) -> Iterator[tuple[int, int, Probabilities]]:
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
            i, _, tiles = following = waiting.popleft()
            flying[actor.predict.remote(tasks[i].checkpoint, padded, tiles)] = (actor, following)
            busy[actor] += 1
        if not busy[actor]:
            ray.kill(actor)
        if chunk is not None:
            unanswered -= 1
            yield chunk[0], chunk[1], probabilities
    for actor, _ in flying.values():
        ray.kill(actor)


def _lost(error: Exception) -> ClusterError:
    reason = str(error).strip().splitlines()[-1]
    return ClusterError(f"a prediction worker failed for good ({reason}): the same command goes on with what is left")


def _arrays(task: PredictionTask, tile_px: int) -> tuple[np.memmap, np.ndarray]:
    """Empty result arrays of a model: masks on the disk, P(salt) in memory."""
    task.folder.open()
    save_array(task.folder.path / "tiles.npy", task.tiles)
    shape = (len(task.tiles), tile_px, tile_px)
    masks_path = task.folder.path / "masks.npy"
    masks = np.lib.format.open_memmap(masks_path, "w+", np.float16, shape)
    with open(masks_path, "r+b") as file:  # a full disk is an error here, and not a dead process in the middle
        os.posix_fallocate(file.fileno(), 0, masks_path.stat().st_size)
    return masks, np.empty(len(task.tiles), np.float32)
