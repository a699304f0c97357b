"""A mosaic as the rules see it, tiles on a grid, and what a rule makes of one of them (method section 6).

Legend: n tiles of one mosaic; S tile edge in px; a tile is named by its position 0 … n - 1 in the arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from salt_ray.config import FullTiles
from salt_ray.mosaic.table import MosaicError


@dataclass(frozen=True)
class SeenMosaic:
    """The tiles of one mosaic and what is known of their salt. Places of the grid may be missing.

    Attributes:
        rows, cols: (n,) int64, from 0; rows count downwards.
        masks: (n, S, S) bool, S at least 5: the label where there is one, else the prediction.
        labelled: (n,) bool.
        corrected: (n,) bool: unlabelled tiles whose mask an earlier rule took from other tiles. Filling a
            prediction's own holes leaves it a prediction.
        full_tiles: what a mask that fills its tile becomes.

    Raises:
        MosaicError: the arrays do not fit one another, two tiles share a place, or a labelled tile is corrected.
    """

    rows: np.ndarray
    cols: np.ndarray
    masks: np.ndarray
    labelled: np.ndarray
    corrected: np.ndarray
    full_tiles: FullTiles = "empty"

    def __post_init__(self) -> None:
        count = len(self.masks)
        if any(array.shape != (count,) for array in (self.rows, self.cols, self.labelled, self.corrected)):
            raise MosaicError(
                f"{count} masks do not fit their rows, columns and flags: pass one of each for every tile"
            )
        if self.masks.ndim != 3 or self.masks.shape[1] != self.masks.shape[2] or self.masks.shape[1] < 5:
            raise MosaicError(f"masks of shape {self.masks.shape}: pass square tiles of at least 5 px, (n, S, S)")
        if any(array.dtype != bool for array in (self.masks, self.labelled, self.corrected)):
            raise MosaicError("masks and flags of a mosaic must be bool: compare them with their threshold first")
        if len(self.places) != count:
            raise MosaicError("two tiles share a place in a mosaic: keep one of them")
        if (self.labelled & self.corrected).any():
            raise MosaicError("a labelled tile is marked as corrected: labels stay as they are")

    @property
    def size(self) -> int:
        """S, px."""
        return self.masks.shape[1]

    @cached_property
    def places(self) -> dict[tuple[int, int], int]:
        """The tile at each (row, column) that has one."""
        return {place: tile for tile, place in enumerate(zip(self.rows.tolist(), self.cols.tolist(), strict=True))}

    @cached_property
    def columns(self) -> list[list[int]]:
        """The tiles of each column from top to bottom, columns from left to right."""
        columns: dict[int, list[int]] = {}
        for tile in np.lexsort((self.rows, self.cols)).tolist():
            columns.setdefault(int(self.cols[tile]), []).append(tile)
        return list(columns.values())

    @cached_property
    def salt_px(self) -> np.ndarray:
        """Pixels of salt in each tile, (n,) int64."""
        return np.array([np.count_nonzero(mask) for mask in self.masks], np.int64)


class Correction(NamedTuple):
    """A rule's mask for one tile; it may equal the one that the tile has.

    Attributes:
        tile: position in the mosaic, never a labelled tile.
        mask: (S, S) bool.
        sources: positions of the other tiles that the mask comes from; none where it comes from the tile itself.
    """

    tile: int
    mask: np.ndarray
    sources: tuple[int, ...]
