"""The rules by which mosaic neighbours correct predicted masks, in their order (method section 6).

Legend: n tiles of one mosaic; S tile edge in px. A rule is a pure function of the mosaic: it reads the masks as they
were before it, changes nothing, and never draws a labelled tile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from salt_ray.config import RuleName
from salt_ray.mosaic.table import MosaicError
from salt_ray.postprocessing.columns import copy_down, copy_up, empty_below_closed, join_labels, join_predictions
from salt_ray.postprocessing.corners import fill_corners
from salt_ray.postprocessing.holes import fill_holes
from salt_ray.postprocessing.seen import Correction, SeenMosaic

MIN_TILES = 3  # mosaics of fewer tiles stay as they are

RULES: Mapping[RuleName, Callable[[SeenMosaic], list[Correction]]] = MappingProxyType(
    {
        "fill_holes": fill_holes,
        "join_labels": join_labels,
        "copy_down": copy_down,
        "copy_up": copy_up,
        "join_predictions": join_predictions,
        "fill_corners": fill_corners,
        "empty_below_closed": empty_below_closed,
    }
)


class Change(NamedTuple):
    """What a rule changed in one tile.

    Attributes:
        rule: its name.
        tile: position in the mosaic.
        sources: positions of the other tiles that the new mask comes from; none for holes.
        added, removed: pixels of salt; at least one of them is not 0.
    """

    rule: RuleName
    tile: int
    sources: tuple[int, ...]
    added: int
    removed: int


def apply_rules(mosaic: SeenMosaic, names: Sequence[RuleName]) -> tuple[np.ndarray, list[Change]]:
    """The masks after the named rules, each of which sees what the ones before it made.

    Args:
        mosaic: n tiles; with fewer than three nothing changes.
        names: in any order; rules are applied in the order of ``RULES``.

    Returns:
        Masks (n, S, S) bool, labelled ones as they were, and the changes in the order of rules, rows and columns. A
        changed mask that ends up all salt is empty where no label is (method section 1).

    Raises:
        MosaicError: a name is no rule's.
    """
    unknown = sorted(set(names) - set(RULES))
    if unknown:
        raise MosaicError(f"there is no rule {unknown[0]!r}: choose among {', '.join(RULES)}")
    masks, corrected, changes = mosaic.masks.copy(), mosaic.corrected.copy(), []
    if len(masks) < MIN_TILES:
        return masks, changes
    for name, rule in RULES.items():
        if name not in names:
            continue
        corrections = rule(replace(mosaic, masks=masks, corrected=corrected))
        for tile, mask, sources in sorted(corrections, key=lambda one: (mosaic.rows[one.tile], mosaic.cols[one.tile])):
            added = int(np.count_nonzero(mask & ~masks[tile]))
            removed = int(np.count_nonzero(masks[tile] & ~mask))
            if added or removed:
                changes.append(Change(name, tile, sources, added, removed))
                masks[tile] = mask
            # Settled from other tiles, even where the prediction already was what they say.
            corrected[tile] |= bool(sources)
    is_empty = mosaic.full_tiles == "empty"
    last = {change.tile: change for change in changes if is_empty and masks[change.tile].all()}
    masks[list(last)] = False
    kept = []
    for change in changes:
        if change.tile not in last:
            kept.append(change)
        elif change is last[change.tile] and mosaic.salt_px[change.tile]:
            kept.append(change._replace(added=0, removed=int(mosaic.salt_px[change.tile])))
    return masks, kept
