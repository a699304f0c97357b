"""The masks of labelled tiles, from their files and from train.csv.

Letters: S tile edge in px.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from salt_ray.config import FullTiles
from salt_ray.errors import RunError
from salt_ray.metric import wholly_labelled
from salt_ray.survey import rle
from salt_ray.survey.layout import MASKS, TRAIN_CSV, Entry
from salt_ray.survey.problems import Problem
from salt_ray.survey.tables import unmatched

#: Of so many tiles with salt one would be full, where salt fills tiles.
ENOUGH_WITH_SALT = 100


def labels_of(
    rows: dict[str, str] | None,
    train: dict[str, Entry],
    masks: dict[str, Entry],
    mask_files: dict[str, np.ndarray],
    tile_px: int,
    problems: list[Problem],
) -> dict[str, np.ndarray]:
    """Mask of each labelled tile, bool or int8 (S, S), by id: from its file, or else its run-length text.

    Both must agree in the pixels that the file labels: a text cannot say that one has no label.
    """
    if rows is None:
        remedy = f"add {MASKS}/ID.png or {TRAIN_CSV}"
        problems += [Problem(train[i].place, "has no mask", remedy, (i,)) for i in sorted(train.keys() - masks.keys())]
        return mask_files
    if not train or not tile_px:
        return mask_files
    problems += unmatched(TRAIN_CSV, rows, train)
    labels = dict(mask_files)
    listed = sorted(train.keys() & rows.keys())
    for i, mask in zip(listed, _decode_rle(listed, rows, tile_px, problems), strict=True):
        if mask is None:
            continue
        if i not in masks:
            labels[i] = mask
        elif i in mask_files and (differs := (mask != (mask_files[i] > 0)) & (mask_files[i] >= 0)).any():
            what = f"differs from {TRAIN_CSV} in {np.count_nonzero(differs)} px"
            problems.append(Problem(masks[i].place, what, "keep the correct one and remove the other", (i,)))
    return labels


def _decode_rle(
    ids: list[str], rows: dict[str, str], tile_px: int, problems: list[Problem]
) -> Sequence[np.ndarray | None]:
    """Masks of the rows, bool (S, S) each; None for each malformed one."""
    try:
        return rle.decode([rows[i] for i in ids], tile_px, tile_px)
    except ValueError:
        pass  # some are malformed: one by one, to find out which
    masks: list[np.ndarray | None] = []
    for i in ids:
        try:
            masks.append(rle.decode([rows[i]], tile_px, tile_px)[0])
        except ValueError as error:
            what = f"the mask of {i} is malformed ({str(error).removeprefix('text 0').strip(': ')})"
            problems.append(Problem(TRAIN_CSV, what, "fix the row or remove its tile", drops=(i,)))
            masks.append(None)
    return masks


def full_tiles(masks: np.ndarray) -> FullTiles:
    """What a prediction that fills its tile becomes, by the labels (L, S, S), bool or int8, that may be trained on.

    Raises:
        RunError: no label is full, and too few hold salt to make anything of that.
    """
    whole = masks[wholly_labelled(masks)] > 0  # of the others it is not known whether they are full
    if whole.all(axis=(1, 2)).any():
        return "salt"
    with_salt = int(whole.any(axis=(1, 2)).sum())
    if len(masks) and with_salt < ENOUGH_WITH_SALT:
        kind = "labelled" if len(whole) == len(masks) else "wholly labelled"
        raise RunError(
            f"cannot tell whether a tile full of salt is labelled: none of the {with_salt:,} {kind} tiles with salt is "
            "entirely salt. Use --set labels.full_tiles=salt if the inside of salt is labelled, or --set "
            "labels.full_tiles=empty if only its borders are, as in TGS"
        )
    return "empty"
