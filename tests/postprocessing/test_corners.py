"""Rule 6: corners between a side neighbour and the tile below, against boundaries that are known."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sketch import mosaic

from salt_ray.postprocessing.corners import corner, fill_corners
from salt_ray.postprocessing.seen import SeenMosaic

SIZE = 101
Section = Callable[[np.ndarray, np.ndarray], np.ndarray]  # x, y in tiles from the corner, y upwards -> salt


def quarter(salt: Section, size: int = SIZE) -> dict[tuple[int, int], np.ndarray]:
    """Four tiles of a section around the corner where they meet; the tile in question is at (0, 1)."""
    x = (np.arange(2 * size) - size + 0.5) / size
    drawn = salt(*np.meshgrid(x, -x))
    return {(r, c): drawn[r * size : (r + 1) * size, c * size : (c + 1) * size].copy() for r in (0, 1) for c in (0, 1)}


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / (one | other).sum()


def disc(x0: float, y0: float, radius: float) -> Section:
    return lambda x, y: (x - x0) ** 2 + (y - y0) ** 2 < radius**2


KNOWN: dict[str, Section] = {
    "disc": disc(-0.3, -0.3, 1.0),
    "wide disc": disc(-0.6, -2.5, 2.9),
    "parabola": lambda x, y: y < 0.7 - 0.5 * (x + 0.3) ** 2 - 0.5 * (x + 0.3),
    "steep parabola": lambda x, y: y < 0.8 - 3 * (x + 0.1) ** 2,
    "straight flank": lambda x, y: y < 0.5 - x,
    "dome with straight sides": lambda x, y: (
        (x < 0.6) & ((x - 0.1) ** 2 / 0.25 + y**2 / 0.36 < 1) | (x < 0.6) & (y < 0)
    ),
    "top inside the tile": disc(0.2, -0.3, 0.7),
    "overhang": disc(0.1, 0.2, 0.6),
}


@pytest.mark.parametrize(("size", "least"), [(SIZE, 0.9), (64, 0.8)])
@pytest.mark.parametrize("name", list(KNOWN))
def test_the_corner_is_close_to_the_known_boundary(name: str, size: int, least: float) -> None:
    tiles = quarter(KNOWN[name], size)
    truth = tiles[0, 1]
    assert truth[-1, 0] and 0.02 < truth.mean() < 0.9
    filled = corner(tiles[0, 0], tiles[1, 1])
    assert overlap(filled, truth) > least  # slopes are known to a quarter of a pixel a line only
    reached = [np.abs(filled[-1].sum() - tiles[1, 1][0].sum()), np.abs(filled[:, 0].sum() - tiles[0, 0][:, -1].sum())]
    assert max(reached) <= 2  # px: the corner goes on where the neighbours end


@given(st.floats(-0.9, 0.2), st.floats(-0.9, 0.2), st.floats(0.5, 1.2))
def test_discs_are_met_wherever_they_lie(x0: float, y0: float, radius: float) -> None:
    tiles = quarter(disc(x0, y0, radius))
    truth, filled = tiles[0, 1], corner(tiles[0, 0], tiles[1, 1])
    if filled is not None and truth.sum() > 800:
        assert overlap(filled, truth) > 0.75
    if truth[SIZE // 2, 0] and truth[-1, SIZE // 2] and not truth[:, -20:].any() and not truth[:20].any():
        assert filled is not None


def test_a_straight_flank_by_hand() -> None:
    row, col = np.mgrid[:16, :16]
    left = row >= col - 6  # at its right edge 7 px high, falling
    below = col <= row + 6  # at its top edge 7 px wide, widening
    filled = corner(left, below)
    assert filled[row - col >= 9].all()  # the triangle whose legs are 7 px long
    assert not filled[row - col < 8].any()  # its outline runs between the pixels' centres


@pytest.mark.parametrize(
    ("left", "below"),
    [
        (lambda x, y: x < -2, lambda x, y: x < 0.5),  # no salt at the side
        (lambda x, y: y < 0.5, lambda x, y: x > 2),  # none below
        (lambda x, y: (y > 0.2) & (y < 0.5), lambda x, y: x < 0.5),  # ends above the corner
        (lambda x, y: y < 0.5, lambda x, y: (x > 0.2) & (x < 0.5)),  # begins beside it
        (lambda x, y: y < 2, lambda x, y: x < 0.5),  # the whole side: no boundary
        (lambda x, y: y < 0.5, lambda x, y: x < 2),  # the whole edge below
        (lambda x, y: (y < 0.5) & (x > -0.01), lambda x, y: x < 0.5),  # a line of one pixel: no slope
        (lambda x, y: y < 0.95 + 0.5 * x, lambda x, y: x < 0.9),  # leaves the tile at its top
    ],
)
def test_what_is_no_corner_stays(left: Section, below: Section) -> None:
    assert corner(quarter(left)[0, 0], quarter(below)[1, 1]) is None


def corrected_places(seen: SeenMosaic) -> dict[tuple[int, int], np.ndarray]:
    place = {tile: place for place, tile in seen.places.items()}
    return {place[one.tile]: one.mask for one in fill_corners(seen)}


def test_only_empty_or_corrected_predictions_are_filled() -> None:
    tiles = quarter(KNOWN["disc"], 33)
    some = np.zeros((33, 33), bool)
    some[:2, :2] = True
    nearly = np.zeros((33, 33), bool)
    nearly[0, 0] = True  # 1 of 1,089 px
    truth = tiles[0, 1]
    assert set(corrected_places(mosaic(tiles))) == set()
    assert set(corrected_places(mosaic(tiles | {(0, 1): some}))) == set()
    assert set(corrected_places(mosaic(tiles | {(0, 1): np.zeros_like(some)}, labelled=[(0, 1)]))) == set()
    for before, corrected in ((nearly, []), (some, [(0, 1)]), (np.zeros_like(some), [])):
        seen = mosaic(tiles | {(0, 1): before}, corrected=corrected)
        filled = corrected_places(seen)
        assert set(filled) == {(0, 1)}
        assert overlap(filled[0, 1] & ~before, truth) > 0.9
        assert (filled[0, 1] | ~before).all()


def test_both_sides_count_and_are_named() -> None:
    """A valley between two bodies: the tile's left and its right corner are filled, each from its neighbour."""
    tiles = quarter(disc(-0.6, -0.3, 0.95))
    left, true, below_left, below = (tiles[place] for place in ((0, 0), (0, 1), (1, 0), (1, 1)))
    valley = below | below[:, ::-1]
    assert not valley[0].all()
    empty = np.zeros_like(left)
    seen = mosaic({(0, 0): left, (0, 1): empty, (0, 2): left[:, ::-1], (1, 1): valley, (1, 0): below_left})
    (change,) = fill_corners(seen)
    assert change.tile == 1 and change.sources == (3, 0, 2)
    assert overlap(change.mask, true | true[:, ::-1]) > 0.9
    assert np.array_equal(change.mask, change.mask[:, ::-1])


def test_without_a_tile_below_or_a_side_neighbour_nothing_is_filled() -> None:
    tiles = quarter(KNOWN["disc"], 33) | {(0, 1): np.zeros((33, 33), bool)}
    for missing in ((0, 0), (1, 1)):
        assert fill_corners(mosaic({place: tile for place, tile in tiles.items() if place != missing})) == []
    assert len(fill_corners(mosaic({place: tile for place, tile in tiles.items() if place != (1, 0)}))) == 1
