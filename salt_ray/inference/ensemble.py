"""Many models' probabilities made one, and probabilities made masks (method section 5).

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
        rows: (n,) int64: where the record of each tile lies.
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


def mean_blocks(models: Sequence[ModelPrediction], tiles: np.ndarray) -> Iterator[tuple[np.ndarray, Probabilities]]:
    """The mean over all models that predicted a tile, for (n,) positions, in blocks.

    The blocks follow the order in which the tiles were predicted, because they lie in storage in that order.

    Yields:
        (b,) places in ``tiles`` and their probabilities, float32 throughout.

    Raises:
        ValueError: a tile was predicted by no model.
    """
    order = _order_of_prediction(models, tiles)
    for start in range(0, len(tiles), BLOCK):
        block = order[start : start + BLOCK]
        total: Probabilities | None = None
        count = np.zeros(len(block), np.int64)
        for model in models:
            found, rows = model.find(tiles[block])
            if not len(rows):
                continue
            records = model.records[rows]
            if total is None:
                edges = records["mask"].shape[1:]
                total = Probabilities(np.zeros((len(block), *edges), np.float32), np.zeros(len(block), np.float32))
            total.masks[found] += records["mask"]
            total.salt[found] += records["salt"]
            count[found] += 1
        if total is None or not count.all():
            raise ValueError(f"{(count == 0).sum()} tiles were predicted by no model: run predict again")
        yield (
            block,
            Probabilities(total.masks / count[:, None, None].astype(np.float32), total.salt / count.astype(np.float32)),
        )


def _order_of_prediction(models: Sequence[ModelPrediction], tiles: np.ndarray) -> np.ndarray:
    """(n,) int64: places in ``tiles``, first predicted first; where models differ, by the earliest."""
    rank = np.full(len(tiles), np.inf)
    for model in models:
        found, rows = model.find(tiles)
        rank[found] = np.minimum(rank[found], rows / len(model.tiles))
    return np.argsort(rank, kind="stable")


def decide(probabilities: Probabilities, settings: Decision) -> np.ndarray:
    """Masks (n, S, S) bool: pixels above the threshold; empty where P(salt) is not above its own.

    Where the inside of salt is labelled empty (method section 1) a mask that fills its tile is empty too.
    """
    masks = probabilities.masks > settings.mask_threshold
    masks[probabilities.salt <= settings.salt_threshold] = False
    if settings.full_tiles == "empty":
        masks[masks.all(axis=(1, 2))] = False
    return masks


def decided_masks(models: Sequence[ModelPrediction], tiles: np.ndarray, settings: Decision) -> np.ndarray:
    """``decide`` on the mean of the models, for (n,) positions: (n, S, S) bool."""
    assert len(tiles), "nothing to decide on"
    masks: np.ndarray | None = None
    for block, probabilities in mean_blocks(models, tiles):
        decided = decide(probabilities, settings)
        if masks is None:
            masks = np.empty((len(tiles), *decided.shape[1:]), bool)
        masks[block] = decided
    return masks
