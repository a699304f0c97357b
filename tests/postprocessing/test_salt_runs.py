"""The three terms about a tile's edges, and the bands between two edges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sketch import mask, text

from salt_ray.postprocessing.salt_runs import bands, is_closed_below, is_terminal, is_vertical


@pytest.mark.parametrize(
    ("drawing", "vertical", "terminal", "closed"),
    [
        ("... ... ...", False, False, False),
        ("### ### ###", True, False, True),
        (".#. .#. .#.", True, False, False),
        (".#. ### .#.", True, False, False),
        ("#.# ... #.#", True, False, False),
        ("... .#. ...", False, False, False),
        ("#.. .#. ..#", False, False, False),
        ("... ... .#.", False, True, False),
        ("#.. ##. ###", False, True, True),
        ("#.. #.. ##.", False, False, False),
        ("### ... ...", False, False, False),
    ],
)
def test_the_terms(drawing: str, vertical: bool, terminal: bool, closed: bool) -> None:
    tile = mask(drawing)
    assert (is_vertical(tile), is_terminal(tile), is_closed_below(tile)) == (vertical, terminal, closed)


def test_a_band_by_hand() -> None:
    assert text(bands(np.array([[0, 2]]), np.array([[4, 6]]), 3, 6)).split() == [".##...", "..##..", "...##."]
    two = bands(np.array([[0, 1], [4, 6]]), np.array([[0, 3], [5, 6]]), 1, 6)
    assert text(two) == "##..##"  # from 4.5 to 6: the outline through the centre of pixel 4 belongs to the band


@st.composite
def facing_runs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int, int]:
    """As many runs above as below, the height of the band between, and its width."""
    width, count = draw(st.integers(8, 40)), draw(st.integers(1, 3))
    ends = st.lists(st.integers(0, width), min_size=2 * count, max_size=2 * count, unique=True).map(sorted)
    above, below = (np.array(draw(ends)).reshape(count, 2) for _ in range(2))
    return above, below, draw(st.integers(1, 60)), width


@given(facing_runs())
def test_bands_follow_linear_interpolation_line_by_line(case: tuple[np.ndarray, np.ndarray, int, int]) -> None:
    above, below, lines, width = case
    band = bands(above, below, lines, width)
    assert band.shape == (lines, width)
    for line in range(lines):
        share = (line + 1) / (lines + 1)
        distance = np.full(width, np.inf)  # of a pixel's centre to the nearest end of a run, negative inside
        for first, last in zip(above, below, strict=True):
            start, end = first + share * (last - first)
            centre = np.arange(width) + 0.5
            distance = np.minimum(distance, np.maximum(start - centre, centre - end))
        assert band[line, distance < -1e-9].all()
        assert not band[line, distance > 1e-9].any()
        assert band[line].any()


@given(facing_runs())
def test_bands_have_mirror_images(case: tuple[np.ndarray, np.ndarray, int, int]) -> None:
    above, below, lines, width = case
    band = bands(above, below, lines, width)
    assert np.array_equal(bands(width - above[::-1, ::-1], width - below[::-1, ::-1], lines, width), band[:, ::-1])
    assert np.array_equal(bands(below, above, lines, width), band[::-1])


@given(facing_runs())
def test_equal_runs_give_a_stripe(case: tuple[np.ndarray, np.ndarray, int, int]) -> None:
    above, _, lines, width = case
    line = np.zeros(width, bool)
    for start, end in above:
        line[start:end] = True
    assert np.array_equal(bands(above, above, lines, width), np.tile(line, (lines, 1)))
