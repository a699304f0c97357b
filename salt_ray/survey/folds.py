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
        left_out: bool (L, K), True where a fold's model is not trained on a tile that another fold validates, because
            it is a near copy of one that this fold validates; None: nowhere.
    """

    ids: np.ndarray
    folds: np.ndarray
    count: int
    left_out: np.ndarray | None = None

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.folds) or len(np.unique(self.ids)) != len(self.ids):
            raise FoldError("every tile must be in the fold table exactly once")
        missing = sorted(set(range(self.count)) ^ set(self.folds.tolist()))
        if missing:
            raise FoldError(f"folds {missing} are empty or unknown, of {self.count} folds")
        if self.left_out is not None:
            untrained = [k for k in range(self.count) if not ((self.folds != k) & ~self.left_out[:, k]).any()]
            if untrained:
                raise FoldError(
                    f"fold {untrained[0]} has no windows left to train on, because all are too near to those that it "
                    "validates; cut smaller windows (volume tiles --window) or label lines that are further apart. A "
                    "smaller gap works too, but its score is too high (--set trainings.all.folds.kind=lines --set "
                    "trainings.all.folds.gap=LINES)"
                )

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the table's content."""
        return hashlib.sha256(self._csv().encode()).hexdigest()

    def split(self, fold: int, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions within ``ids`` (str) that train a fold's model, and that validate it.

        Tiles outside the table are in neither, nor are those that the fold leaves out.

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
        return positions[self.trains(fold)], positions[self.folds == fold]

    def trains(self, fold: int) -> np.ndarray:
        """(n,) bool: which tiles of the table train a fold's model."""
        others = self.folds != fold
        return others if self.left_out is None else others & ~self.left_out[:, fold]

    def save(self, path: StoragePath) -> None:
        """Write ``id,fold`` rows, whole or not at all; where tiles are left out, by which folds: ``0 2``."""
        write_atomically(path, self._csv())

    def _csv(self) -> str:
        table = pd.DataFrame({"id": self.ids, "fold": self.folds})
        if self.left_out is not None:
            table["left_out"] = [" ".join(map(str, np.flatnonzero(row))) for row in self.left_out]
        return table.to_csv(index=False)


def load_folds(path: StoragePath, count: int) -> FoldTable:
    """Read a saved table.

    Raises:
        FoldError: columns are missing, an id stands twice, or its folds are not 0 … count - 1.
    """
    try:
        table = pd.read_csv(
            io.BytesIO(path.read_bytes()), dtype={"id": str, "fold": np.int64, "left_out": str}, keep_default_na=False
        )
        table = table.sort_values("id")
        left_out = _left_out(table["left_out"].tolist(), count) if "left_out" in table else None
        return FoldTable(table["id"].to_numpy(str), table["fold"].to_numpy(np.int64), count, left_out)
    except (FoldError, KeyError, OSError, ValueError, pd.errors.ParserError) as error:
        raise FoldError(
            f"{path} is not a table of {count} folds ({error}): delete {path.parent} to regenerate it"
        ) from error


def _left_out(cells: list[str], count: int) -> np.ndarray:
    """Bool (L, K) of the folds that cells name; ValueError where one is named that is not there."""
    names = [str(fold) for fold in range(count)]
    left_out = np.zeros((len(cells), count), bool)
    for row, cell in zip(left_out, cells, strict=True):
        row[[names.index(name) for name in cell.split()]] = True
    return left_out


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
            f"cannot split {len(ids)} labelled tiles into {count} folds: lower the training's folds.count or add tiles"
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
            f"cannot split {len(names)} sections with labelled tiles into {count} folds: lower the training's "
            "folds.count, or use folds of another kind"
        )
    fold_of, tiles = np.empty(len(names), np.int64), np.zeros(count, np.int64)
    for section in np.argsort(-sizes, kind="stable"):
        fold_of[section] = tiles.argmin()
        tiles[fold_of[section]] += sizes[section]
    by_id = np.argsort(ids)
    return FoldTable(np.asarray(ids)[by_id].astype(str), fold_of[members][by_id], count)


def line_folds(
    ids: np.ndarray, places: np.ndarray, count: int, window_px: int, gap: int | tuple[int, int]
) -> FoldTable:
    """Blocks of neighbouring lines; a fold leaves out what is too near to those that it validates.

    Args:
        ids: (L,) str.
        places: int (L, 4), as ``window.Windows.places``.
        count: K, at most the number of lines, or of places along them.
        window_px: width of a window.
        gap: inlines and crosslines, or one number for both, between what trains a fold and what it validates.

    Raises:
        FoldError: there are too few lines and places; or a fold has nothing left to be trained on.
    """
    blocks, left_out = line_blocks(places, count), np.zeros((len(ids), count), bool)
    for fold in range(count):
        own = blocks == fold
        left_out[~own, fold] = near(places[~own], places[own], window_px, gap)
    by_id = np.argsort(ids)
    return FoldTable(np.asarray(ids)[by_id].astype(str), blocks[by_id], count, left_out[by_id])


def line_blocks(places: np.ndarray, count: int) -> np.ndarray:
    """(n,) int64: blocks 0 … count - 1 of windows, each of neighbouring lines, about equally many; inlines come first.

    Where there are fewer lines than blocks, lines are divided along their traces.

    Raises:
        FoldError: there are not even as many places along the lines.
    """
    for axes in (2, 3):  # lines, or lines and first traces
        units, unit = np.unique(places[:, :axes], axis=0, return_inverse=True)
        if len(units) >= count:
            return np.ravel(unit) * count // len(units)
    raise FoldError(
        f"cannot split windows at {len(units)} places along lines into {count} blocks: lower the training's "
        "folds.count, or label more lines"
    )


def near(places: np.ndarray, others: np.ndarray, window_px: int, gap: int | tuple[int, int]) -> np.ndarray:
    """(n,) bool: whether a window is nearer to one of the others than the gap, along both axes, whatever their samples.

    Args:
        places, others: int (n, 4) and (m, 4), as ``window.Windows.places``.
        window_px: width of all windows, in traces.
        gap: inlines and crosslines, or one number for both; with 1 those that share a trace are near.
    """
    boxes, box = np.unique(places[:, :3], axis=0, return_inverse=True)
    first, last = _sides(boxes, window_px)
    found = np.zeros(len(boxes), bool)
    for low, high in zip(*_sides(np.unique(others[:, :3], axis=0), window_px), strict=True):
        apart = np.maximum(low - last, first - high)
        found |= (apart < gap).all(axis=1)
    return found[np.ravel(box)]


def _sides(places: np.ndarray, window_px: int) -> tuple[np.ndarray, np.ndarray]:
    """The first and the last inline and crossline, (n, 2) each, of windows (n, 3)."""
    direction, line, trace = places.T
    first = np.where(direction[:, None] == 0, np.stack([line, trace], 1), np.stack([trace, line], 1))
    return first, first + (window_px - 1) * np.stack([direction, 1 - direction], 1)
