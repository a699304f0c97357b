"""What the rules made of the predictions: masks that changed, and what changed them (method section 6).

Letters: N tiles of the survey, c corrected tiles, S tile edge in px.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from salt_ray.config import RuleName
from salt_ray.decision import Decision
from salt_ray.postprocessing.predicted import MosaicTiles, PredictedMosaic, final_view
from salt_ray.postprocessing.rules import RULES, Change, apply_rules
from salt_ray.postprocessing.seen import SeenMosaic
from salt_ray.storage import StoragePath, load_array, readable, save_array, write_atomically


@dataclass(frozen=True)
class Corrections:
    """Tiles whose mask the rules changed.

    Attributes:
        tiles: (c,) int64, increasing: positions in the survey.
        masks: (c, S, S) bool.
    """

    tiles: np.ndarray
    masks: np.ndarray

    def apply(self, positions: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """A copy of the masks (n, S, S) of the tiles at ``positions`` in which the corrected ones are replaced."""
        corrected = masks.copy()
        _, here, there = np.intersect1d(positions, self.tiles, assume_unique=True, return_indices=True)
        corrected[here] = self.masks[there]
        return corrected

    def save(self, folder: StoragePath) -> None:
        """Write ``tiles.npy`` and ``masks.npy``."""
        save_array(folder / "tiles.npy", self.tiles)
        save_array(folder / "masks.npy", self.masks)

    @classmethod
    def none(cls, tile_px: int) -> Corrections:
        """No tile is changed."""
        return cls(np.empty(0, np.int64), np.empty((0, tile_px, tile_px), bool))

    @classmethod
    def join(cls, parts: Iterable[Corrections], tile_px: int) -> Corrections:
        """Those of many mosaics as one; no tile is in two parts."""
        parts = [cls.none(tile_px), *parts]
        tiles = np.concatenate([part.tiles for part in parts])
        order = np.argsort(tiles)
        return cls(tiles[order], np.concatenate([part.masks for part in parts])[order])

    @classmethod
    def load(cls, folder: StoragePath) -> Corrections:
        """Those in a folder.

        Raises:
            RunError: a file is missing or damaged, or the two do not belong together.
        """
        tiles, masks = load_array(folder / "tiles.npy"), load_array(folder / "masks.npy")
        with readable(folder / "masks.npy", folder):
            if tiles.ndim != 1 or masks.ndim != 3 or masks.dtype != bool or len(tiles) != len(masks):
                raise ValueError("it does not match tiles.npy")
        return cls(tiles, masks)


@dataclass(frozen=True)
class CorrectedMosaic:
    """One mosaic before and after the rules.

    Attributes:
        tiles: what the survey knows of it.
        before, after: (n, S, S) bool: labels where there are labels, predictions elsewhere.
        changes: what the rules did, in the order in which they did it.
    """

    tiles: MosaicTiles
    before: np.ndarray
    after: np.ndarray
    changes: tuple[Change, ...]

    @property
    def corrected(self) -> np.ndarray:
        """(n,) bool: the tiles that the rules changed."""
        return (self.before != self.after).any(axis=(1, 2))

    @property
    def corrections(self) -> Corrections:
        """A copy of the changed tiles, which holds nothing of the others in memory."""
        changed = np.flatnonzero(self.corrected)
        order = changed[np.argsort(self.tiles.tiles[changed])]
        return Corrections(self.tiles.tiles[order], self.after[order])


def correct(mosaic: PredictedMosaic, rules: Sequence[RuleName], decision: Decision) -> CorrectedMosaic:
    """Apply rules to a mosaic with all its labels."""
    return _apply(mosaic.tiles, final_view(mosaic, decision), rules)


def correct_with_each(
    mosaics: Iterable[PredictedMosaic], decision: Decision, tile_px: int
) -> dict[RuleName, Corrections]:
    """What each rule does alone. Mosaics are taken one at a time, and only changed tiles are kept of them."""
    found: dict[RuleName, list[Corrections]] = {name: [] for name in RULES}
    for mosaic in mosaics:
        seen = final_view(mosaic, decision)
        for name, parts in found.items():
            parts.append(_apply(mosaic.tiles, seen, (name,)).corrections)
    return {name: Corrections.join(parts, tile_px) for name, parts in found.items()}


def _apply(tiles: MosaicTiles, seen: SeenMosaic, rules: Sequence[RuleName]) -> CorrectedMosaic:
    masks, changes = apply_rules(seen, rules)
    return CorrectedMosaic(tiles, seen.masks, masks, tuple(changes))


def save_changes(path: StoragePath, mosaics: Sequence[CorrectedMosaic], ids: np.ndarray) -> None:
    """Write ``changes.csv``: id, rule, pixels added and removed, and the ids of the tiles they came from.

    Args:
        ids: (N,) str, of all tiles of the survey.
    """
    rows = [
        (names[change.tile], change.rule, change.added, change.removed, " ".join(names[list(change.sources)]))
        for mosaic in mosaics
        for names in [ids[mosaic.tiles.tiles]]
        for change in mosaic.changes
    ]
    table = pd.DataFrame(rows, columns=["id", "rule", "added", "removed", "sources"])
    write_atomically(path, table.to_csv(index=False))
