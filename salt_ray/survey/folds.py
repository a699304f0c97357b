"""Folds as data: computed once, saved as a CSV, hashed, and loaded by everyone (method section 4)."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass

import numpy as np
import pandas as pd

from salt_ray.errors import SaltRayError
from salt_ray.storage import StoragePath, write_atomically
from salt_ray.survey.problems import shown


class FoldError(SaltRayError):
    """A fold table and what it is used with do not fit together."""


@dataclass(frozen=True)
class FoldTable:
    """Which fold validates each labelled tile.

    Attributes:
        ids: (L,) str, sorted.
        folds: (L,) int64, 0 … count - 1; every fold has at least one tile.
        count: number of folds K.
    """

    ids: np.ndarray
    folds: np.ndarray
    count: int

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.folds) or len(np.unique(self.ids)) != len(self.ids):
            raise FoldError("every tile must stand in the fold table exactly once: it is no division into folds")
        missing = sorted(set(range(self.count)) ^ set(self.folds.tolist()))
        if missing:
            raise FoldError(
                f"folds {missing} are empty or unknown with {self.count} folds: it is no division into folds"
            )

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the table's content."""
        return hashlib.sha256(self._csv().encode()).hexdigest()

    def split(self, fold: int, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions within ``ids`` (str) that train a fold's model, and that validate it.

        Tiles outside the table are in neither.

        Raises:
            FoldError: the fold does not exist, or a tile of the table is missing from ``ids``.
        """
        if not 0 <= fold < self.count:
            raise FoldError(f"there is no fold {fold}: this table has 0 … {self.count - 1}")
        position = {tile: i for i, tile in enumerate(ids)}
        absent = [tile for tile in self.ids if tile not in position]
        if absent:
            raise FoldError(f"{len(absent)} tiles of the fold table are not in this survey (first: {shown(absent[0])})")
        positions = np.array([position[tile] for tile in self.ids])
        return positions[self.folds != fold], positions[self.folds == fold]

    def save(self, path: StoragePath) -> None:
        """Write ``id,fold`` rows, whole or not at all."""
        write_atomically(path, self._csv())

    def _csv(self) -> str:
        return pd.DataFrame({"id": self.ids, "fold": self.folds}).to_csv(index=False)


def load_folds(path: StoragePath, count: int) -> FoldTable:
    """Read a saved table.

    Raises:
        FoldError: columns are missing, an id stands twice, or its folds are not 0 … count - 1.
    """
    try:
        table = pd.read_csv(io.BytesIO(path.read_bytes()), dtype={"id": str, "fold": np.int64}, keep_default_na=False)
        table = table.sort_values("id")
        return FoldTable(table["id"].to_numpy(str), table["fold"].to_numpy(np.int64), count)
    except (FoldError, KeyError, OSError, ValueError, pd.errors.ParserError) as error:
        raise FoldError(
            f"{path} is not a table of {count} folds ({error}): delete {path.parent} to compute it anew"
        ) from error


def depth_folds(ids: np.ndarray, depths: np.ndarray, count: int) -> FoldTable:
    """Rank by depth modulo the number of folds; equal (or unknown) depths are ranked by id.

    Args:
        ids: (L,) str.
        depths: (L,) float, feet; NaN where a survey has none.
        count: K, at most L.
    """
    return _dealt(np.asarray(ids)[np.lexsort((ids, np.nan_to_num(depths, nan=np.inf)))], count)


def random_folds(ids: np.ndarray, count: int, seed: int) -> FoldTable:
    """A random division into folds whose sizes differ by at most one tile; the order of the tiles does not matter.

    Args:
        ids: (L,) str.
        count: K, at most L.
        seed: another one gives another division.
    """
    return _dealt(np.random.default_rng(seed).permutation(np.sort(ids)), count)


def _dealt(ids: np.ndarray, count: int) -> FoldTable:
    """(L,) str: the first tile to the first fold, the next to the next, and so on in turn."""
    if len(ids) < count:
        raise FoldError(
            f"{len(ids)} labelled tiles cannot make {count} folds: lower the training's folds.count or add tiles"
        )
    by_id = np.argsort(ids)
    return FoldTable(ids[by_id].astype(str), np.arange(len(ids))[by_id] % count, count)


def section_folds(ids: np.ndarray, sections: np.ndarray, count: int) -> FoldTable:
    """Whole sections, so that a fold judges a model on what it has seen nothing of; folds about equally large.

    The largest section comes first, each to the fold that has the fewest tiles so far.

    Args:
        ids: (L,) str.
        sections: (L,) str, what each tile was cut from.
        count: K, at most the number of sections.
    """
    names, members, sizes = np.unique(sections, return_inverse=True, return_counts=True)
    if len(names) < count:
        raise FoldError(
            f"{len(names)} sections with labelled tiles cannot make {count} folds: lower the training's folds.count, "
            "or use folds of another kind"
        )
    fold_of, tiles = np.empty(len(names), np.int64), np.zeros(count, np.int64)
    for section in np.argsort(-sizes, kind="stable"):
        fold_of[section] = tiles.argmin()
        tiles[fold_of[section]] += sizes[section]
    by_id = np.argsort(ids)
    return FoldTable(np.asarray(ids)[by_id].astype(str), fold_of[members][by_id], count)
