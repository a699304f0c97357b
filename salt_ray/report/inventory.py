"""The contents of a survey and its unusual features: constant tiles, identical tiles, unusual masks.

Letters: N tiles of the survey, L of them labelled (the first ones).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from salt_ray.metric import salt_share, wholly_labelled
from salt_ray.survey.folds import FoldTable
from salt_ray.survey.tiles import Survey


@dataclass(frozen=True)
class Duplicates:
    """Labelled tiles with identical pixels, not counting constant ones.

    Attributes:
        groups: the ids of each set of identical tiles, the largest set first.
        other_labels: number of sets with different masks.
        divided: number of sets split between folds of a training: a model was validated on a tile from its training.
        with_unlabelled: number of unlabelled tiles that are identical to a labelled one.
    """

    groups: tuple[tuple[str, ...], ...]
    other_labels: int
    divided: int
    with_unlabelled: int


def duplicates(survey: Survey, tables: Mapping[str, FoldTable]) -> Duplicates:
    """Find identical tiles by the SHA-256 of their pixels."""
    same: dict[bytes, list[int]] = defaultdict(list)
    for tile in np.flatnonzero(~survey.constant).tolist():
        same[hashlib.sha256(np.ascontiguousarray(survey.images[tile])).digest()].append(tile)
    labelled = [[tile for tile in tiles if tile < survey.labelled] for tiles in same.values()]
    unlabelled = sum(len(tiles) - len(ours) for tiles, ours in zip(same.values(), labelled, strict=True) if ours)
    sets = sorted((tiles for tiles in labelled if len(tiles) > 1), key=lambda tiles: (-len(tiles), tiles))
    folds = [dict(zip(table.ids.tolist(), table.folds.tolist(), strict=True)) for table in tables.values()]
    names = [tuple(survey.ids[tiles].tolist()) for tiles in sets]
    return Duplicates(
        tuple(names),
        sum(_differ(survey.masks[tiles]) for tiles in sets),
        sum(any(len({fold[tile] for tile in tiles if tile in fold}) > 1 for fold in folds) for tiles in names),
        unlabelled,
    )


def _differ(masks: np.ndarray) -> bool:
    """Whether any pixel has different labels in masks (n, S, S), ignoring unlabelled ones."""
    return bool(((masks > 0).any(axis=0) & (masks == 0).any(axis=0)).any())


def counts(survey: Survey, held_out: np.ndarray) -> dict[str, int]:
    """Number of tiles of each kind, by display name."""
    labelled, constant = survey.labelled, survey.constant
    salt, partly = salt_share(survey.masks), ~wholly_labelled(survey.masks)
    some = (salt > 0) & (salt < 1)
    stripes = (survey.masks == survey.masks[:, :1]).all(axis=(1, 2))
    return {
        "labelled tiles": labelled,
        "unlabelled tiles": survey.unlabelled,
        "constant labelled tiles, set aside": int(constant[:labelled].sum()),
        "constant unlabelled tiles, predicted empty": int(constant[labelled:].sum()),
        "labelled tiles held out": int(held_out.sum()),
        **({"partly labelled tiles": int(partly.sum())} if partly.any() else {}),
        "empty masks": int(((salt == 0) & ~partly).sum()),
        "masks that are all salt": int(((salt == 1) & ~partly).sum()),
        "masks with salt on less than 1% of the tile": int(((salt > 0) & (salt < 0.01)).sum()),
        "masks of vertical stripes only": int((stripes & some & ~partly).sum()),
    }
