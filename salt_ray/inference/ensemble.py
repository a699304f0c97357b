"""Many models' probabilities made one, and probabilities made masks (method section 5).

Letters: N tiles of the survey, n of them predicted by a model, S tile edge in px.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from salt_ray.config import Prediction
from salt_ray.inference.predict import Probabilities

BLOCK = 2048  # tiles averaged at a time: 80 MB of float32 at 101 px


@dataclass(frozen=True)
class ModelPrediction:
    """What one model predicted, as it lies on the disk.

    Attributes:
        tiles: (n,) int64, increasing: positions in the survey.
        masks: (n, S, S) float16; memory-mapped.
        salt: (n,) float32; memory-mapped. NaN where the model has not predicted a tile yet.
    """

    tiles: np.ndarray
    masks: np.ndarray
    salt: np.ndarray

    @classmethod
    def load(cls, directory: Path) -> ModelPrediction:
        return cls(
            np.load(directory / "tiles.npy"),
            np.load(directory / "masks.npy", mmap_mode="r"),
            np.load(directory / "salt.npy", mmap_mode="r"),
        )


def mean_blocks(models: Sequence[ModelPrediction], tiles: np.ndarray) -> Iterator[tuple[np.ndarray, Probabilities]]:
    """The mean over all models that predicted a tile, for (n,) increasing positions, in blocks.

    Yields:
        (b,) positions and their probabilities, float32 throughout.

    Raises:
        ValueError: a tile was predicted by no model.
    """
    for start in range(0, len(tiles), BLOCK):
        block = tiles[start : start + BLOCK]
        edge = models[0].masks.shape[-1]
        masks, salt = np.zeros((len(block), edge, edge), np.float32), np.zeros(len(block), np.float32)
        count = np.zeros(len(block), np.int64)
        for model in models:
            _, here, there = np.intersect1d(block, model.tiles, assume_unique=True, return_indices=True)
            masks[here] += model.masks[there]
            salt[here] += model.salt[there]
            count[here] += 1
        if not count.all():
            raise ValueError(f"{(count == 0).sum()} tiles were predicted by no model: run predict again")
        yield block, Probabilities(masks / count[:, None, None].astype(np.float32), salt / count.astype(np.float32))


def decide(probabilities: Probabilities, settings: Prediction) -> np.ndarray:
    """Masks (n, S, S) bool: pixels above the threshold; empty where P(salt) is not above its own, or where all is salt.

    No labelled tile of this survey type is completely salt (method section 1), so a full mask is always wrong.
    """
    masks = probabilities.masks > settings.mask_threshold
    masks[probabilities.salt <= settings.salt_threshold] = False
    masks[masks.all(axis=(1, 2))] = False
    return masks


def decided_masks(models: Sequence[ModelPrediction], tiles: np.ndarray, settings: Prediction) -> np.ndarray:
    """``decide`` on the mean of the models, for (n,) increasing positions: (n, S, S) bool."""
    return np.concatenate([decide(probabilities, settings) for _, probabilities in mean_blocks(models, tiles)])
