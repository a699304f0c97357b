"""What the judged tiles say: where the score is lost, and whether the probabilities mean what they say.

Nothing is chosen by these figures. Letters: n judged tiles, S tile edge in px.
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

COVERAGE_CLASSES = 10  # tenths of a tile, beside "no salt"
DEPTH_PARTS, DOUBT_PARTS = 6, 5  # parts of equally many tiles
CALIBRATION_BINS = 10
SIGMAS_95 = 1.959964  # of a normal distribution, either side


@dataclass(frozen=True)
class Group:
    """Some of the judged tiles.

    Attributes:
        score: their mean.
        error: the standard error of that mean; NaN where all are neighbours.
        lost: their share of all points that the model lacks to a score of 1.
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
    """Of the mean of values (n,), where neighbours are drawn together; NaN where all are neighbours.

    What the bootstrap over mosaics (``inference.resampling``) tends to, in closed form (Cochran 1977, ratio estimator).

    Args:
        neighbours: (n,) of any type, as ``Judged.neighbours``.
    """
    groups, group = np.unique(neighbours, return_inverse=True)
    if len(groups) < 2:
        return math.nan
    return float(np.linalg.norm(np.bincount(group, values - values.mean()))) / len(values)


def by_coverage(judged: Judged) -> list[Group]:
    """No salt, then tenths of a tile's labelled pixels, each without its lower and with its upper bound."""
    salt, pixels = (part.sum(axis=(1, 2)) for part in (judged.truth > 0, judged.truth >= 0))
    tenth = -(-COVERAGE_CLASSES * salt // pixels)
    names = ["no salt", *(f"{10 * i} to {10 * (i + 1)}%" for i in range(COVERAGE_CLASSES))]
    return groups(judged, [(name, tenth == i) for i, name in enumerate(names)])


def by_depth(judged: Judged, depths: np.ndarray) -> list[Group]:
    """Parts of equally many tiles, the shallowest first; none where a depth is not known.

    Args:
        depths: (N,) feet, of all tiles of the survey.
    """
    depths = depths[judged.tiles]
    if not np.isfinite(depths).all():
        return []
    parts = np.array_split(np.argsort(depths, kind="stable"), DEPTH_PARTS)
    return groups(judged, [(f"{depths[p[0]]:,.0f} to {depths[p[-1]]:,.0f} ft", p) for p in parts if len(p)])


def by_section(judged: Judged, sections: np.ndarray) -> list[Group]:
    """Each section with judged tiles, in the order of their names.

    Args:
        sections: (N,) str, of all tiles of the survey.
    """
    own = sections[judged.tiles]
    return groups(judged, [(str(name), own == name) for name in np.unique(own)])


def by_doubt(judged: Judged) -> list[Group]:
    """Parts of equally many tiles, those of which the models are surest first."""
    parts = np.array_split(np.argsort(judged.doubt, kind="stable"), DOUBT_PARTS)
    names = ["surest fifth", "second", "third", "fourth", "most uncertain fifth"]
    return groups(judged, list(zip(names, parts, strict=True)))


def by_outcome(judged: Judged) -> list[Group]:
    """Whether label and prediction hold any salt on labelled pixels: four groups, as far as there are such tiles."""
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
    """Every mosaic with judged tiles, by number ("mosaic 3"); and tiles inside and outside of mosaics.

    Args:
        ids: (N,) str, of all tiles of the survey.
    """
    mosaic = pd.Series(table.mosaics, table.ids).reindex(ids[judged.tiles], fill_value=-1).to_numpy()
    each = groups(judged, [(f"mosaic {n}", mosaic == n) for n in np.unique(mosaic[mosaic >= 0]).tolist()])
    return each, groups(judged, [("in a mosaic", mosaic >= 0), ("in none", mosaic < 0)])


def divided_mosaics(table: MosaicTable, folds: FoldTable) -> tuple[int, int]:
    """How many mosaics have tiles in several folds, and how many have two or more tiles that are in any."""
    fold = pd.Series(folds.folds, folds.ids).reindex(table.ids).reset_index(drop=True)
    found = fold.groupby(table.mosaics).agg(["count", "nunique"])
    several = found[found["count"] > 1]
    return int((several["nunique"] > 1).sum()), len(several)


@dataclass(frozen=True)
class Calibration:
    """How often tiles with a certain P(salt) do hold salt, in bins of equal width; bins without a tile are left out.

    Attributes:
        bins: a row a bin, in order: ``tiles``, how many; ``predicted``, their mean P(salt); ``observed``, the share of
            them with salt; ``low`` and ``high``, Wilson's 95% interval of that share, for as many tiles as would
            scatter by themselves as these do beside their neighbours.
        error: mean over tiles of |predicted - observed|.
        brier: mean over tiles of (P(salt) - [has salt])²; 0 is best.
        base_brier: the same of an answer that gives every tile the overall share.
    """

    bins: pd.DataFrame
    error: float
    brier: float
    base_brier: float


def calibration(judged: Judged) -> Calibration | None:
    """P(salt) against the labels, where these say whether a tile holds any; None where they say it of no tile."""
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
    bins["low"] = np.minimum(centre - half, observed)  # rounding may put a bound of 0 or 1 beyond the share itself
    bins["high"] = np.maximum(centre + half, observed)
    return Calibration(
        bins,
        error=float(((bins["predicted"] - observed).abs() * bins["tiles"]).sum() / len(salt)),
        brier=float(((salt - truth) ** 2).mean()),
        base_brier=float(truth.mean() * (1 - truth.mean())),
    )


def _independent(truth: np.ndarray, neighbours: np.ndarray) -> float:
    """How many independent tiles say as much of a share as these (n,) bool: n, or fewer where neighbours are alike."""
    share, error = truth.mean(), standard_error(truth.astype(np.float64), neighbours)
    if not error > 0:  # all are alike, or all are neighbours
        return float(len(np.unique(neighbours)))
    return min(float(len(truth)), share * (1 - share) / error**2)
