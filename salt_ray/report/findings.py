"""Findings on the scored tiles: where the score is lost, and whether probabilities are calibrated.

These figures are not used for choosing anything. Letters: n judged tiles, S tile edge in px.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from salt_ray.mosaic.table import MosaicTable
from salt_ray.report.judged import Judged
from salt_ray.survey.folds import FoldTable

COVERAGE_CLASSES = 10  # tenths of a tile, in addition to "no salt"
DEPTH_PARTS, DOUBT_PARTS = 6, 5  # parts with equal numbers of tiles
CALIBRATION_BINS = 10
SIGMAS_95 = 1.959964  # two-sided, normal distribution


@dataclass(frozen=True)
class Group:
    """A group of scored tiles.

    Attributes:
        score: mean score.
        error: standard error of the mean; NaN if all are neighbours.
        lost: the group's share of the total loss, the sum of 1 - score over tiles.
    """

    name: str
    tiles: int
    score: float
    error: float
    lost: float


def groups(judged: Judged, members: Sequence[tuple[str, np.ndarray]]) -> list[Group]:
    """A group for each name and its tiles ((n,) bool, or places); names without a tile are left out."""
    all_lost = float((1 - judged.scores).sum())
    found = []
    for name, chosen in members:
        scores = judged.scores[chosen]
        if len(scores):
            lost = float((1 - scores).sum()) / all_lost if all_lost else 0.0
            error = standard_error(scores, judged.neighbours[chosen])
            found.append(Group(name, len(scores), float(scores.mean()), error, lost))
    return found


def standard_error(values: np.ndarray, neighbours: np.ndarray) -> float:
    """Standard error of the mean of values (n,), clustered by neighbours; NaN if all are neighbours.

    The limit of the bootstrap over mosaics (``inference.resampling``) in closed form (Cochran 1977, ratio estimator).

    Args:
        neighbours: (n,) of any type, as ``Judged.neighbours``.
    """
    groups, group = np.unique(neighbours, return_inverse=True)
    if len(groups) < 2:
        return math.nan
    return float(np.linalg.norm(np.bincount(group, values - values.mean()))) / len(values)


def by_coverage(judged: Judged) -> list[Group]:
    """No salt, then tenths of a tile's labelled pixels, each including its upper bound only."""
    salt, pixels = (part.sum(axis=(1, 2)) for part in (judged.truth > 0, judged.truth >= 0))
    tenth = -(-COVERAGE_CLASSES * salt // pixels)
    names = ["no salt", *(f"{10 * i} to {10 * (i + 1)}%" for i in range(COVERAGE_CLASSES))]
    return groups(judged, [(name, tenth == i) for i, name in enumerate(names)])


def by_depth(judged: Judged, depths: np.ndarray) -> list[Group]:
    """Parts with equal numbers of tiles, shallowest first; empty if any depth is unknown.

    Args:
        depths: (N,) feet, of all tiles of the survey.
    """
    depths = depths[judged.tiles]
    if not np.isfinite(depths).all():
        return []
    parts = np.array_split(np.argsort(depths, kind="stable"), DEPTH_PARTS)
    return groups(judged, [(f"{depths[p[0]]:,.0f} to {depths[p[-1]]:,.0f} ft", p) for p in parts if len(p)])


def by_section(judged: Judged, sections: np.ndarray) -> list[Group]:
    """Each section with scored tiles, ordered by name.

    Args:
        sections: (N,) str, of all tiles of the survey.
    """
    own = sections[judged.tiles]
    return groups(judged, [(str(name), own == name) for name in np.unique(own)])


def by_doubt(judged: Judged) -> list[Group]:
    """Parts with equal numbers of tiles, the most certain first."""
    parts = np.array_split(np.argsort(judged.doubt, kind="stable"), DOUBT_PARTS)
    names = ["surest fifth", "second", "third", "fourth", "most uncertain fifth"]
    return groups(judged, list(zip(names, parts, strict=True)))


def by_outcome(judged: Judged) -> list[Group]:
    """Up to four groups, by whether label and prediction have any salt on labelled pixels."""
    true, found = judged.has_salt, (judged.masks & (judged.truth >= 0)).any(axis=(1, 2))
    return groups(
        judged,
        [
            ("no salt, predicted empty", ~true & ~found),
            ("no salt, but some predicted", ~true & found),
            ("salt, but predicted empty", true & ~found),
            ("salt, and some predicted", true & found),
        ],
    )


def by_mosaic(judged: Judged, ids: np.ndarray, table: MosaicTable) -> tuple[list[Group], list[Group]]:
    """Every mosaic with scored tiles, by number ("mosaic 3"); and tiles inside and outside of mosaics.

    Args:
        ids: (N,) str, of all tiles of the survey.
    """
    mosaic = pd.Series(table.mosaics, table.ids).reindex(ids[judged.tiles], fill_value=-1).to_numpy()
    each = groups(judged, [(f"mosaic {n}", mosaic == n) for n in np.unique(mosaic[mosaic >= 0]).tolist()])
    return each, groups(judged, [("in a mosaic", mosaic >= 0), ("in no mosaic", mosaic < 0)])


def divided_mosaics(table: MosaicTable, folds: FoldTable) -> tuple[int, int]:
    """Number of mosaics divided between folds, and number of mosaics with two or more tiles in folds."""
    fold = pd.Series(folds.folds, folds.ids).reindex(table.ids).reset_index(drop=True)
    found = fold.groupby(table.mosaics).agg(["count", "nunique"])
    several = found[found["count"] > 1]
    return int((several["nunique"] > 1).sum()), len(several)


@dataclass(frozen=True)
class Calibration:
    """Observed frequency of salt by predicted P(salt), in bins of equal width; empty bins are skipped.

    Attributes:
        bins: one row per bin, in order: ``tiles``, their number; ``predicted``, mean P(salt); ``observed``, the share
            with salt; ``low`` and ``high``, Wilson's 95% interval of that share for the effective number of
            independent tiles.
        error: mean over tiles of |predicted - observed|.
        brier: mean over tiles of (P(salt) - [has salt])²; 0 is best.
        base_brier: the same when predicting the overall share for every tile.
    """

    bins: pd.DataFrame
    error: float
    brier: float
    base_brier: float


def calibration(judged: Judged) -> Calibration | None:
    """Calibration of P(salt) on tiles whose labels tell whether they have salt; None if there are none."""
    known = judged.knows_salt
    if not known.any():
        return None
    salt, truth, neighbours = judged.salt[known].astype(np.float64), judged.has_salt[known], judged.neighbours[known]
    bin_of = np.minimum((salt * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    means = {"tiles": ("salt", "size"), "predicted": ("salt", "mean"), "observed": ("truth", "mean")}
    bins = pd.DataFrame({"salt": salt, "truth": truth}).groupby(bin_of).agg(**means)
    observed, z2 = bins["observed"], SIGMAS_95**2
    tiles = pd.Series({one: _independent(truth[bin_of == one], neighbours[bin_of == one]) for one in bins.index})
    centre = (observed + z2 / (2 * tiles)) / (1 + z2 / tiles)
    half = SIGMAS_95 * np.sqrt(observed * (1 - observed) / tiles + z2 / (4 * tiles**2)) / (1 + z2 / tiles)
    bins["low"] = np.minimum(centre - half, observed)  # rounding may move a bound past the share itself
    bins["high"] = np.maximum(centre + half, observed)
    return Calibration(
        bins,
        error=float(((bins["predicted"] - observed).abs() * bins["tiles"]).sum() / len(salt)),
        brier=float(((salt - truth) ** 2).mean()),
        base_brier=float(truth.mean() * (1 - truth.mean())),
    )


def _independent(truth: np.ndarray, neighbours: np.ndarray) -> float:
    """Effective number of independent tiles for the share of (n,) bool: at most n, fewer if neighbours are similar."""
    share, error = truth.mean(), standard_error(truth.astype(np.float64), neighbours)
    if not error > 0:  # all are alike, or all are neighbours
        return float(len(np.unique(neighbours)))
    return min(float(len(truth)), share * (1 - share) / error**2)
