"""Many models' probabilities made one (method section 5).

Letters: N tiles of the survey, n of them predicted by a model, S tile edge in px.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from salt_ray.decision import Decision
from salt_ray.inference.probabilities import Probabilities
from salt_ray.inference.stored import StoredRecords
from salt_ray.storage import StoragePath, load_array

BLOCK = 2048  # tiles averaged at a time: 80 MB of float32 at 101 px


@dataclass(frozen=True)
class ModelPrediction:
    """What one model predicted.

    Attributes:
        tiles: (n,) int64, increasing: positions in the survey.
        rows: (n,) int64: the row of each tile's record.
        records: records[rows] gives ``salt`` (n,) float32 and ``mask`` (n, S, S) float16: an array, or stored ones.
    """

    tiles: np.ndarray
    rows: np.ndarray
    records: np.ndarray | StoredRecords

    @classmethod
    def load(cls, directory: StoragePath, edge: int | None = None) -> ModelPrediction:
        """Those in a folder, of masks of ``edge`` px where that is known; they are read when they are asked for."""
        return cls.of(load_array(directory / "tiles.npy"), StoredRecords(directory, edge))

    @classmethod
    def of(cls, tiles: np.ndarray, records: np.ndarray | StoredRecords) -> ModelPrediction:
        """Of tiles in any order, with the records in the same."""
        rows = np.argsort(tiles, kind="stable")
        return cls(tiles[rows], rows, records)

    def find(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which of the tiles (m,) it predicted: (m,) bool, and the rows of those."""
        if not len(self.tiles):
            return np.zeros(len(tiles), bool), self.rows
        places = np.minimum(np.searchsorted(self.tiles, tiles), len(self.tiles) - 1)
        found = self.tiles[places] == tiles
        return found, self.rows[places[found]]

    def part(self, tiles: np.ndarray) -> ModelPrediction:
        """The same of these tiles only: small enough to travel."""
        found, rows = self.find(tiles)
        order = np.argsort(tiles[found], kind="stable")
        return ModelPrediction(tiles[found][order], rows[order], self.records)


def judged_tiles(models: Sequence[ModelPrediction], tiles: np.ndarray) -> np.ndarray:
    """Those of the labelled tiles (n,) that a model predicted, and so was not trained on: all where every fold has."""
    judged = np.zeros(len(tiles), bool)
    for model in models:
        judged |= model.find(tiles)[0]
    return tiles[judged]


def mean_blocks(models: Sequence[ModelPrediction], tiles: np.ndarray) -> Iterator[tuple[np.ndarray, Probabilities]]:
    """The mean over all models that predicted a tile, for (n,) positions, in blocks.

    The blocks follow the order in which the tiles were predicted, because they are stored in that order.

    Yields:
        (b,) places in ``tiles`` and their probabilities, float32 throughout.

    Raises:
        ValueError: a tile was predicted by no model.
    """
    for block in _blocks(models, tiles):
        yield block, _mean(models, tiles[block])[0]


def spread_blocks(
    models: Sequence[ModelPrediction], tiles: np.ndarray
) -> Iterator[tuple[np.ndarray, Probabilities, Probabilities, np.ndarray]]:
    """``mean_blocks``, each also with how far the models are apart.

    Yields:
        (b,) places in ``tiles``, the mean, the standard deviation over the models that predicted a tile (divided by
        their number; 0 where it is one), and their number (b,) int64.
    """
    for block in _blocks(models, tiles):
        mean, count = _mean(models, tiles[block])
        squares = Probabilities(np.zeros_like(mean.masks), np.zeros_like(mean.salt))
        for found, records in _records(models, tiles[block]):
            squares.masks[found] += (records["mask"] - mean.masks[found]) ** 2
            squares.salt[found] += (records["salt"] - mean.salt[found]) ** 2
        yield block, mean, Probabilities(*(np.sqrt(part) for part in _divided(squares, count))), count


def _records(models: Sequence[ModelPrediction], tiles: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Of every model that predicted some of the tiles (b,): which, (b,) bool, and their records."""
    for model in models:
        found, rows = model.find(tiles)
        if len(rows):
            yield found, model.records[rows]


def _mean(models: Sequence[ModelPrediction], tiles: np.ndarray) -> tuple[Probabilities, np.ndarray]:
    """The mean over the models that predicted each of (b,) tiles, and how many those are.

    Raises:
        ValueError: a tile was predicted by no model.
    """
    total: Probabilities | None = None
    count = np.zeros(len(tiles), np.int64)
    for found, records in _records(models, tiles):
        if total is None:
            edges = records["mask"].shape[1:]
            total = Probabilities(np.zeros((len(tiles), *edges), np.float32), np.zeros(len(tiles), np.float32))
        total.masks[found] += records["mask"]
        total.salt[found] += records["salt"]
        count[found] += 1
    if total is None or not count.all():
        raise ValueError(f"{(count == 0).sum()} tiles were predicted by no model: run predict again")
    return _divided(total, count), count


def _divided(total: Probabilities, count: np.ndarray) -> Probabilities:
    count = count.astype(np.float32)
    return Probabilities(total.masks / count[:, None, None], total.salt / count)


def _blocks(models: Sequence[ModelPrediction], tiles: np.ndarray) -> Iterator[np.ndarray]:
    """(b,) int64 each: places in ``tiles``, first predicted first; where models differ, by the earliest."""
    rank = np.full(len(tiles), np.inf)
    for model in models:
        found, rows = model.find(tiles)
        rank[found] = np.minimum(rank[found], rows / len(model.tiles))
    order = np.argsort(rank, kind="stable")
    for start in range(0, len(tiles), BLOCK):
        yield order[start : start + BLOCK]


def decided_masks(models: Sequence[ModelPrediction], tiles: np.ndarray, decision: Decision) -> np.ndarray:
    """The masks that the mean of the models makes of the tiles at (n,) positions: (n, S, S) bool."""
    assert len(tiles), "nothing to decide on"
    masks: np.ndarray | None = None
    for block, probabilities in mean_blocks(models, tiles):
        decided = decision.masks(*probabilities)
        if masks is None:
            masks = np.empty((len(tiles), *decided.shape[1:]), bool)
        masks[block] = decided
    return masks
