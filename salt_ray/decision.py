"""How probabilities become masks: one definition for validation, prediction, rules and reports (method section 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
from pydantic import StrictBool

from salt_ray.config import Experiment, FullTiles, Prediction
from salt_ray.section import Fraction, Section

if TYPE_CHECKING:
    import torch

Array = TypeVar("Array", np.ndarray, "torch.Tensor")


class Decision(Section):
    """Thresholds on mean probabilities, over two mirrored views or one."""

    #: A pixel is salt where its probability is above this.
    mask_threshold: Fraction
    #: A tile whose P(salt) is not above this is empty.
    salt_threshold: Fraction
    #: Probabilities are the mean over the tile and its mirror image.
    flip: StrictBool
    #: What a mask that is salt all over becomes: TGS labels the inside of salt as empty (method section 1).
    full_tiles: FullTiles = "empty"

    @classmethod
    def of(cls, prediction: Prediction, full_tiles: FullTiles = "empty") -> Decision:
        """The one that predictions are made with."""
        return cls(
            mask_threshold=prediction.mask_threshold,
            salt_threshold=prediction.salt_threshold,
            flip=prediction.flip,
            full_tiles=full_tiles,
        )

    @property
    def text(self) -> str:
        """In words, for people."""
        views = "with" if self.flip else "without"
        return f"mask threshold {self.mask_threshold:g}, salt threshold {self.salt_threshold:g}, {views} flip"

    def masks(self, masks: Array, salt: Array) -> Array:
        """Bool masks of n tiles of S x S pixels.

        Args:
            masks: (n, S, S) floating point, probability of salt for each pixel.
            salt: (n,) floating point, probability that the tile has any.
        """
        decided = masks > self.mask_threshold
        kept = salt > self.salt_threshold
        if self.full_tiles == "empty":
            kept = kept & ~decided.all(-1).all(-1)
        return decided & kept[:, None, None]


#: The published baseline validates at logit > 0, on one view (method section 4).
ARGUS = Decision(mask_threshold=0.5, salt_threshold=0.5, flip=False, full_tiles="salt")


def validation_decision(experiment: Experiment, full_tiles: FullTiles = "empty") -> Decision:
    """How the epochs of a training that begins now are compared."""
    return ARGUS if experiment.decision == "argus" else Decision.of(experiment.prediction, full_tiles)
