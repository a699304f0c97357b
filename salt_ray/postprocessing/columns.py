"""Rules 2, 3, 4, 5 and 7: salt that continues up or down a column of tiles (method section 6).

Salt's sides are labelled as vertical lines and its inside as empty, so a column's labels say much about the tiles
between them. Missing places of a column are stepped over. Masks are (S, S) bool, S tile edge in px; every rule reads
the mosaic as it was before the rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, takewhile

import numpy as np

from salt_ray.postprocessing.salt_runs import bands, is_closed_below, is_terminal, is_vertical
from salt_ray.postprocessing.seen import Correction, SeenMosaic
from salt_ray.survey.rle import runs

TERMINAL_SHARE = 0.05  # a terminal tile with no more salt than this does not make its row a terminal row


def join_labels(mosaic: SeenMosaic) -> list[Correction]:
    """Rule 2: unlabelled tiles between two labels, next to each other in the column, whose facing runs match.

    Runs match when the upper label's bottom edge and the lower one's top edge have the same number of them, at least
    one. Each run is joined to its partner by straight lines over all rows between.
    """
    joined = []
    for column in mosaic.columns:
        for upper, lower in pairwise(tile for tile in column if mosaic.labelled[tile]):
            joined += _join(mosaic, upper, lower, _between(column, upper, lower))
    return joined


def copy_down(mosaic: SeenMosaic) -> list[Correction]:
    """Rule 3: a vertical label down its column, until a tile that is labelled or already corrected."""
    return [copy for tile, _, below in _vertical_labels(mosaic) for copy in _copies(mosaic, tile, below)]


def copy_up(mosaic: SeenMosaic) -> list[Correction]:
    """Rule 4: a vertical label up its column to the terminal level, until a tile that is labelled or already corrected.

    The level is the row of the next terminal tile above in the column; without one, the topmost row of the mosaic with
    a terminal tile of more than 5 % salt; without that, nothing is copied. The tiles in the level's row stay.
    """
    copies = []
    top = _topmost_terminal_row(mosaic)
    for tile, above, _ in _vertical_labels(mosaic):
        level = next((mosaic.rows[other] for other in above if is_terminal(mosaic.masks[other])), top)
        if level is not None:
            copies += _copies(mosaic, tile, [other for other in above if mosaic.rows[other] > level])
    return copies


def join_predictions(mosaic: SeenMosaic) -> list[Correction]:
    """Rule 5: empty predictions between two tiles with salt whose facing runs match, at least one of them a prediction.

    The two follow one another among the column's tiles with salt; a label between them (an empty one) keeps them apart.
    """
    joined = []
    for column in mosaic.columns:
        for upper, lower in pairwise(tile for tile in column if mosaic.salt_px[tile] > 0):
            between = _between(column, upper, lower)
            both_labels = mosaic.labelled[upper] and mosaic.labelled[lower]
            if not both_labels and not mosaic.labelled[between].any():
                joined += _join(mosaic, upper, lower, between)
    return joined


def empty_below_closed(mosaic: SeenMosaic) -> list[Correction]:
    """Rule 7: every unlabelled tile below a label that is closed below, at any distance, becomes empty."""
    emptied = []
    for column in mosaic.columns:
        closed = None
        for tile in column:
            if not mosaic.labelled[tile]:
                if closed is not None:
                    emptied.append(Correction(tile, np.zeros_like(mosaic.masks[tile]), (closed,)))
            elif is_closed_below(mosaic.masks[tile]):
                closed = tile
    return emptied


def _between(column: list[int], upper: int, lower: int) -> list[int]:
    return column[column.index(upper) + 1 : column.index(lower)]


def _join(mosaic: SeenMosaic, upper: int, lower: int, between: list[int]) -> list[Correction]:
    """The tiles between two of a column, drawn as the bands that join their facing runs; none where those differ."""
    above, below = runs(mosaic.masks[upper][-1]), runs(mosaic.masks[lower][0])
    if not between or len(above) == 0 or len(above) != len(below):
        return []
    size, first_row = mosaic.size, mosaic.rows[upper] + 1
    band = bands(above, below, int(mosaic.rows[lower] - first_row) * size, size)
    lines = {tile: int(mosaic.rows[tile] - first_row) * size for tile in between}
    return [Correction(tile, band[line : line + size], (upper, lower)) for tile, line in lines.items()]


def _vertical_labels(mosaic: SeenMosaic) -> Iterator[tuple[int, list[int], list[int]]]:
    """Every vertical label, the tiles above it in its column, and those below, the nearest first."""
    for column in mosaic.columns:
        for position, tile in enumerate(column):
            if mosaic.labelled[tile] and is_vertical(mosaic.masks[tile]):
                yield tile, column[:position][::-1], column[position + 1 :]


def _copies(mosaic: SeenMosaic, source: int, onward: list[int]) -> list[Correction]:
    """A label's mask for the tiles onward from it, until one that is labelled or corrected."""
    free = takewhile(lambda tile: not (mosaic.labelled[tile] or mosaic.corrected[tile]), onward)
    return [Correction(tile, mosaic.masks[source], (source,)) for tile in free]


def _topmost_terminal_row(mosaic: SeenMosaic) -> int | None:
    salty = np.flatnonzero(mosaic.salt_px > TERMINAL_SHARE * mosaic.size**2)
    return min((int(mosaic.rows[tile]) for tile in salty if is_terminal(mosaic.masks[tile])), default=None)
