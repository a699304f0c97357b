"""The positions of tiles in their sections: mosaics as a table, saved as a CSV (method section 6)."""

from __future__ import annotations

import hashlib
import io
import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from salt_ray.errors import SaltRayError
from salt_ray.storage import StoragePath, write_atomically

COLUMNS = {"id": str, "mosaic_id": np.int64, "row": np.int64, "col": np.int64, "confidence": np.float64}


class MosaicError(SaltRayError):
    """Mosaics that contradict themselves, or a table that is none."""


@dataclass(frozen=True)
class MosaicTable:
    """The places of n tiles, in the order of mosaic, row and column. Tiles that found no neighbour are not in it.

    Attributes:
        ids: (n,) str.
        mosaics: (n,) int64, 0 … count - 1, the largest mosaic first.
        rows, cols: (n,) int64, from 0 in every mosaic; rows count downwards.
        confidence: (n,) float64 in 0 … 1: how well the tile's edges support its place.

    Raises:
        MosaicError: a tile is listed twice, or two tiles share a place.
    """

    ids: np.ndarray
    mosaics: np.ndarray
    rows: np.ndarray
    cols: np.ndarray
    confidence: np.ndarray

    def __post_init__(self) -> None:
        if len(np.unique(self.ids)) != len(self.ids):
            raise MosaicError("a tile is listed twice")
        largest = np.array([self.mosaics.max(initial=0), self.rows.max(initial=0), self.cols.max(initial=0)])
        smallest = np.array([self.mosaics.min(initial=0), self.rows.min(initial=0), self.cols.min(initial=0)])
        if (smallest < 0).any() or (largest >= max(1, len(self.ids))).any():
            raise MosaicError(f"mosaics, rows and columns must be 0 … {len(self.ids) - 1}, as many as there are tiles")
        places = np.stack([self.mosaics, self.rows, self.cols], axis=1)
        if len(np.unique(places, axis=0)) != len(places):
            raise MosaicError("two tiles share a place in a mosaic")
        if not np.array_equal(np.lexsort((self.cols, self.rows, self.mosaics)), np.arange(len(self.ids))):
            raise MosaicError("the rows are not in the order of mosaic, row and column")

    @property
    def count(self) -> int:
        """Number of mosaics."""
        return int(self.mosaics[-1]) + 1 if len(self.mosaics) else 0

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the table's content."""
        return hashlib.sha256(self._csv().encode()).hexdigest()

    @cached_property
    def members(self) -> list[slice]:
        """The rows of each mosaic in turn."""
        edges = np.searchsorted(self.mosaics, np.arange(self.count + 1)).tolist()
        return [slice(first, end) for first, end in itertools.pairwise(edges)]

    def save(self, path: StoragePath) -> None:
        """Write ``id,mosaic_id,row,col,confidence`` rows, whole or not at all."""
        write_atomically(path, self._csv())

    def _csv(self) -> str:
        columns = (self.ids, self.mosaics, self.rows, self.cols, self.confidence)
        return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True))).to_csv(index=False, float_format="%.4f")


def load_mosaics(path: StoragePath) -> MosaicTable:
    """Read a saved table.

    Raises:
        MosaicError: columns are missing or hold something else, or the places contradict themselves.
    """
    try:
        table = pd.read_csv(io.BytesIO(path.read_bytes()), dtype=COLUMNS, keep_default_na=False)
        return MosaicTable(*(table[name].to_numpy(str if kind is str else kind) for name, kind in COLUMNS.items()))
    except (MosaicError, KeyError, OSError, ValueError) as error:
        raise MosaicError(
            f"{path} is not a table of mosaics ({error}): delete {path.parent} to regenerate them"
        ) from error
