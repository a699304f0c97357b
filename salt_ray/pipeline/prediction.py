"""Predictions of many models, written chunk by chunk: of a run's own tiles and of another survey's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from salt_ray.artifacts import Folder, RunDirectory
from salt_ray.inference.stored import CHUNK, StoredPrediction
from salt_ray.pipeline.engine import Chunk, Engine, Predicting
from salt_ray.report.terminal import Terminal
from salt_ray.training.models import FoldModel

BLOCK = 8  # chunks that one model predicts before the next one does


@dataclass(frozen=True)
class PredictionTask:
    """One model and the tiles that it predicts.

    Attributes:
        tiles: (n,) int64: positions in the survey, in the order in which they are wanted.
        folder: where the model's probabilities go.
    """

    model: FoldModel
    tiles: np.ndarray
    folder: Folder

    @classmethod
    def of(
        cls,
        model: FoldModel,
        stage: Folder,
        tiles: np.ndarray,
        flip: bool,
        results: RunDirectory,
        also: Mapping[str, Any],
    ) -> PredictionTask:
        """What a fold's model predicts in a directory of results.

        Args:
            stage: the model's folder.
            also: what else its predictions depend on.
        """
        depends = {
            "model": stage.inputs,
            "trained": stage.done,  # a model that was trained again has other weights
            "flip": flip,
            "chunk": CHUNK,
            **also,
        }
        return cls(model, tiles, Folder(model.predictions(results), depends, again=frozenset({"flip"})))


def predict_missing(
    tasks: Sequence[PredictionTask],
    work: Predicting,
    engine: Engine,
    terminal: Terminal,
    arrived: Callable[[np.ndarray], None] = lambda tiles: None,
) -> None:
    """Predict with every model, the first tiles of every model's order first; what an earlier call left is kept.

    Each folder gets its marker when it is whole.

    Args:
        tasks: those that have no marker.
        arrived: called with positions of the tiles that one model has just predicted, or had before.
    """
    if not tasks:
        return
    for task in tasks:
        say_outdated(task.folder, terminal)
    with terminal.bar("predicting", sum(len(task.tiles) for task in tasks), "tiles") as advance:

        def follow(tiles: np.ndarray) -> None:
            advance(len(tiles))
            arrived(tiles)

        chunks, left = [], Counter()
        stored = {task.model.checkpoints: StoredPrediction.open(task.folder, task.tiles) for task in tasks}
        for checkpoints, prediction in stored.items():
            for number, (tiles, path, done) in enumerate(prediction.chunks()):
                if done:
                    follow(tiles)
                else:
                    chunks.append((number // BLOCK, Chunk(checkpoints, tiles, path)))
                    left[checkpoints] += 1
            if not left[checkpoints]:
                prediction.finish_if_whole()
        if not chunks:
            return
        chunks.sort(key=lambda chunk: chunk[0])  # within a block they stay model by model
        for chunk in engine.predict([chunk for _, chunk in chunks], work, terminal.say):
            left[chunk.checkpoints] -= 1
            if not left[chunk.checkpoints]:
                stored[chunk.checkpoints].finish_if_whole()
            follow(chunk.tiles)


def say_outdated(folder: Folder, terminal: Terminal) -> None:
    """Why results that are there will be made again."""
    if outdated := folder.outdated:
        terminal.say(f"{folder.path} is made again ({'; '.join(outdated[:4])})")
