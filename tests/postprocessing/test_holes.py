"""Rule 1: holes are filled in predictions only."""

import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import binary_fill_holes
from sketch import by_lot, drawn, mosaic

from salt_ray.postprocessing.holes import fill_holes

RING = ".###. .#.#. .###. ..... ....."


def test_holes_stay_where_without_them_all_would_be_salt() -> None:
    """An all-salt mask is emptied, which is further from the truth than a hole."""
    pierced = "##### #.### ##### ###.# #####"
    seen = mosaic({(0, 0): pierced, (1, 0): pierced.replace("#####", "####.", 1), (2, 0): RING})
    assert set(drawn(seen, fill_holes(seen))) == {(1, 0), (2, 0)}


def test_a_full_tile_loses_its_hole_where_such_tiles_are_salt() -> None:
    seen = dataclasses.replace(mosaic({(0, 0): "##### #.### ##### ###.# #####"}), full_tiles="salt")
    (filled,) = fill_holes(seen)
    assert filled.mask.all()


def test_predictions_lose_their_holes_and_labels_keep_them() -> None:
    bay = "##### #.#.# ###.# #...# ###.."
    diagonal = ".#... #.#.. .#... ..... ....."  # salt holds together over corners, background does not
    seen = mosaic({(0, 0): RING, (1, 0): RING, (2, 0): bay, (3, 0): diagonal}, labelled=[(0, 0)])
    assert drawn(seen, fill_holes(seen)) == {
        (1, 0): (".###.\n.###.\n.###.\n.....\n.....", []),
        (2, 0): ("#####\n###.#\n###.#\n#...#\n###..", []),
        (3, 0): (".#...\n###..\n.#...\n.....\n.....", []),
    }


@given(st.integers(0, 2**32 - 1), st.sampled_from([5, 33]))
def test_it_is_what_scipy_fills(seed: int, size: int) -> None:
    seen = by_lot(seed, size)
    filled = {one.tile: one.mask for one in fill_holes(seen)}
    for tile, before in enumerate(seen.masks):
        whole = binary_fill_holes(before)
        expected = before if seen.labelled[tile] or whole.all() else whole
        assert np.array_equal(filled.get(tile, before), expected)
