"""Predictions of many models, written chunk by chunk, for a run's own survey or another one."""

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

BLOCK = 8  # chunks that one model predicts before the next model's turn


@dataclass(frozen=True)
class PredictionTask:
    """One model and the tiles it predicts.

    Attributes:
        tiles: (n,) int64: positions in the survey, in order of priority.
        folder: where the model's probabilities are written.
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
        """The task of a fold's model in a results directory.

        Args:
            stage: the model's folder.
            also: other inputs that its predictions depend on.
        """
        depends = {
            "model": stage.inputs,
            "trained": stage.done,  # changes if the model is trained again
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
    """Predict with every model, by priority of tiles; finished chunks of an earlier call are kept.

    Each folder gets its marker when it is complete.

    Args:
        tasks: tasks without a marker.
        arrived: called with positions of tiles that one model has predicted, now or earlier.
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
    """Print why existing results are regenerated."""
    if outdated := folder.outdated:
        terminal.say(f"regenerating {folder.path} ({'; '.join(outdated[:4])})")
