"""Text, intervals, starts and coordinates are what headers say, where they agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import segyio
from made_segy import grid_numbers, write_segy
from opened import TRACES, refused, said

from salt_ray.volume.reading import Reading
from salt_ray.volume.scan import describe, open_volume


@pytest.mark.parametrize(("text", "told"), [("EBCDIC", ""), ("ASCII", "is ASCII"), ("blank", "is blank")])
def test_the_text_header_is_shown_in_any_encoding(path: Path, text: str, told: str) -> None:
    line = (
        b""
        if text == "blank"
        else "C 1 LINE 7, SALT \x1b[31m".ljust(80).encode("cp037" if text == "EBCDIC" else "ascii")
    )
    volume = open_volume(write_segy(path, text=line))
    assert told in said(volume) and "\x1b" not in "".join(volume.text)
    assert (volume.text == ()) == (text == "blank") and all(row.startswith("C 1 LINE 7, SALT") for row in volume.text)


@pytest.mark.parametrize(
    ("binary", "traces", "found"),
    [(4000, 4000, 4), (0, 2000, 2), (2000, 0, 2), (-4000, 2000, 2), (0, 0, None), (-4000, 0, None), (4000, 2000, None)],
)
def test_an_interval_that_is_not_clear_is_asked_for(path: Path, binary: int, traces: int, found: float | None) -> None:
    """segyio would say 4 ms of a file with a negative one."""
    write_segy(path, numbers={**grid_numbers(), 117: traces}, interval=binary)
    assert describe(path).interval == found
    if found is None:
        assert "sample interval" in refused(path) and "--interval" in refused(path)
        assert open_volume(path, Reading(interval=3.0)).interval == 3.0
    if binary < 0 and not traces:
        with segyio.open(path, ignore_geometry=True) as second:
            assert segyio.tools.dt(second) == 4000


@pytest.mark.parametrize(("scalar", "factor"), [(-100, 0.01), (0, 1), (1, 1), (10, 10)])
@pytest.mark.parametrize("places", [(73, 77), (181, 185)])
def test_coordinates_are_scaled(path: Path, scalar: int, factor: float, places: tuple[int, int]) -> None:
    numbers = grid_numbers()
    numbers |= {181: 0, 185: 0, places[0]: numbers[181], places[1]: numbers[185], 71: scalar, 89: 1}
    found = open_volume(write_segy(path, numbers=numbers)).coordinates
    assert (found.bytes, found.unit) == (places, "length") and found.scalar == pytest.approx(factor)
    assert found.corners[0][1] == pytest.approx(200_000 * factor)


def test_coordinates_that_do_not_fit_are_told(path: Path) -> None:
    numbers = grid_numbers()
    numbers[181] = np.random.default_rng(0).permutation(numbers[181])
    volume = open_volume(write_segy(path, numbers=numbers))
    assert "coordinates do not match" in said(volume) and volume.coordinates.spacing is None
    assert "has no coordinates" in said(open_volume(write_segy(path, numbers={**numbers, 181: 0, 185: 0})))


def test_the_start_is_the_delay(path: Path) -> None:
    assert open_volume(write_segy(path, numbers={**grid_numbers(), 109: 1200, 215: -10})).start == 120
    other = open_volume(write_segy(path, numbers={**grid_numbers(), 109: 1200, 215: -2536}))
    assert other.start == 1200 and "a time scalar of -2536" in said(other)
    varied = open_volume(write_segy(path, numbers={**grid_numbers(), 109: np.arange(TRACES)}))
    assert "begin at different times" in said(varied)
