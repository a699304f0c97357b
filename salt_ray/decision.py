"""How probabilities become masks: one definition for validation, prediction, rules and reports (method section 5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

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
        return f"{self.thresholds}, {views} flip"

    @property
    def thresholds(self) -> str:
        """The thresholds in words."""
        return f"mask threshold {self.mask_threshold:g}, salt threshold {self.salt_threshold:g}"

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


@dataclass(frozen=True)
class FoldDecisions:
    """How each tile of a survey is decided: by what other folds than its own chose, where thresholds are chosen.

    Attributes:
        final: of the tiles that are in no fold.
        of_folds: of the tiles of each fold; empty where all tiles are decided alike.
        folds: (N,) int64, the fold of every tile of the survey, -1 where it is in none; not read while ``of_folds`` is
            empty.
    """

    final: Decision
    of_folds: Mapping[int, Decision] = field(default_factory=dict)
    folds: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    def divide(self, tiles: np.ndarray) -> Iterator[tuple[Decision, np.ndarray]]:
        """Every decision that decides any of the tiles at (n,) positions, and the places in ``tiles`` of those."""
        left = np.ones(len(tiles), bool)
        for fold, decision in self.of_folds.items():
            own = self.folds[tiles] == fold
            left &= ~own
            if own.any():
                yield decision, np.flatnonzero(own)
        if left.any():
            yield self.final, np.flatnonzero(left)

    def masks(self, tiles: np.ndarray, masks: np.ndarray, salt: np.ndarray) -> np.ndarray:
        """``Decision.masks`` of the tiles at (n,) positions."""
        if not self.of_folds:
            return self.final.masks(masks, salt)
        decided = np.empty(masks.shape, bool)
        for decision, places in self.divide(tiles):
            decided[places] = decision.masks(masks[places], salt[places])
        return decided

    def replace(self, **thresholds: float) -> FoldDecisions:
        """The same with other thresholds, for every tile."""
        of_folds = {fold: decision.replace(**thresholds) for fold, decision in self.of_folds.items()}
        return replace(self, final=self.final.replace(**thresholds), of_folds=of_folds)

    def part(self, tiles: np.ndarray) -> FoldDecisions:
        """Those of the tiles at (n,) positions alone, which then have the positions 0 … n - 1."""
        return replace(self, folds=self.folds[tiles]) if self.of_folds else self

    def as_json(self) -> dict[str, Any]:
        """The entries of a folder's inputs; where all tiles are decided alike those that older runs have."""
        of_folds = {str(fold): decision.model_dump(mode="json") for fold, decision in self.of_folds.items()}
        return {"prediction": self.final.model_dump(mode="json")} | ({"of_folds": of_folds} if of_folds else {})


#: The published baseline validates at logit > 0, on one view (method section 4).
ARGUS = Decision(mask_threshold=0.5, salt_threshold=0.5, flip=False, full_tiles="salt")


def validation_decision(experiment: Experiment, full_tiles: FullTiles = "empty") -> Decision:
    """How the epochs of a training that begins now are compared."""
    return ARGUS if experiment.decision == "argus" else Decision.of(experiment.prediction, full_tiles)
