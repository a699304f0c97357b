"""How probabilities become masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from salt_ray.config import FullTiles, Prediction


@dataclass(frozen=True)
class Decision:
    """What every mask that a run writes, scores or shows is decided by.

    Attributes:
        mask_threshold: a pixel is salt above it.
        salt_threshold: a tile whose mean P(salt) is not above it is empty.
        flip: whether the probabilities are the mean of a tile and its mirror image.
        full_tiles: what a prediction that fills its tile becomes.
    """

    mask_threshold: float
    salt_threshold: float
    flip: bool
    full_tiles: FullTiles

    @classmethod
    def of(cls, settings: Prediction, full_tiles: FullTiles) -> Self:
        """The experiment's settings, and what the survey says of full tiles."""
        return cls(settings.mask_threshold, settings.salt_threshold, settings.flip, full_tiles)
