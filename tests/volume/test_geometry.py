"""Traces have the places that their headers say, or none; that takes little memory, as there may be 100 million."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from made_segy import CROSSLINES, INLINES, grid_numbers, waves, write_segy
from opened import GRID, TRACES, refused, said

from salt_ray.volume.geometry import find_geometry
from salt_ray.volume.reading import Reading
from salt_ray.volume.scan import open_volume


def test_a_grid_takes_few_bytes_for_each_trace() -> None:
    rows, columns = (axis.ravel().astype(np.int32) for axis in np.indices((400, 500)))
    nothing = np.broadcast_to(np.int32(0), rows.shape)
    headers = {"29": nothing, "189": rows, "193": columns}
    tracemalloc.start()
    geometry = find_geometry(headers, Reading(), lambda numbers: numbers < 0)
    assert geometry.order == "inline" and geometry.reversed == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(geometry.traces, np.arange(len(rows)).reshape(400, 500))
    assert peak < 50 * len(rows)


def test_a_volume_numbered_elsewhere_asks_for_its_bytes(path: Path) -> None:
    rows, columns = (axis.ravel() for axis in np.indices((INLINES, CROSSLINES)))
    numbers = {9: 100 + rows, 21: 300 + columns}
    message = refused(write_segy(path, numbers=numbers))
    assert "--inline-byte" in message and f"9/21 {TRACES}" in message
    geometry = open_volume(path, Reading(inline_byte=9, crossline_byte=21)).geometry
    np.testing.assert_array_equal(geometry.traces, GRID)
    assert (geometry.inline_byte, geometry.crossline_byte) == (9, 21)
    swapped = open_volume(path, Reading(inline_byte=21, crossline_byte=9)).geometry
    np.testing.assert_array_equal(swapped.traces, GRID.T)


def test_missing_traces_leave_holes_in_the_grid(path: Path) -> None:
    keep = np.ones(TRACES, bool)
    keep[[0, 1, 20, 41]] = False
    keep[14:21] = False  # a whole inline: its neighbours stay two lines apart
    numbers = {place: np.broadcast_to(value, TRACES)[keep] for place, value in grid_numbers().items()}
    volume = open_volume(write_segy(path, waves()[keep], numbers))
    np.testing.assert_array_equal(volume.geometry.live, keep.reshape(INLINES, CROSSLINES))
    np.testing.assert_array_equal(volume.geometry.traces[volume.geometry.live], np.arange(keep.sum()))
    assert volume.geometry.missing == (~keep).sum() and "have no trace" in said(volume)
    assert volume.coordinates.spacing == pytest.approx((25, 12.5), abs=0.01)


@pytest.mark.parametrize(
    ("numbers", "first", "byte"),
    [
        ({189: 1, 193: 5 + np.arange(TRACES)}, 5, 193),
        ({189: np.arange(TRACES), 193: 5 + np.arange(TRACES)}, 5, 193),  # numbered twice
        ({21: 7 + 2 * np.arange(TRACES)}, 7, 21),
        ({17: 9 + np.arange(TRACES)}, 9, 17),
        ({}, 1, None),
    ],
)
def test_a_line_is_a_line(path: Path, numbers: dict, first: int, byte: int | None) -> None:
    along = {73: 10 * np.arange(TRACES), 77: 5 * np.arange(TRACES)}
    volume = open_volume(write_segy(path, numbers={**along, **numbers}))
    geometry = volume.geometry
    assert geometry.is_line and (geometry.crossline_byte, geometry.crosslines.first) == (byte, first)
    np.testing.assert_array_equal(geometry.traces, np.arange(TRACES)[None])
    assert "read as a 2D line" in said(volume)
    assert volume.coordinates.spacing == (None, pytest.approx(np.hypot(10, 5)))


def test_a_line_goes_by_its_numbers_and_keeps_gaps(path: Path) -> None:
    numbers = np.delete(np.arange(TRACES + 3), [4, 5, 6])[::-1]
    volume = open_volume(write_segy(path, numbers={21: 10 + numbers}))
    traces = volume.geometry.traces[0]
    np.testing.assert_array_equal(np.flatnonzero(traces < 0), [4, 5, 6])
    np.testing.assert_array_equal(traces[traces >= 0], np.arange(TRACES)[::-1])
    assert "decrease in file order" in said(volume)


def test_a_volume_without_numbers_is_no_line(path: Path) -> None:
    """A running CDP number would make one of it; coordinates that go back and forth speak against it."""
    numbers = {place: value for place, value in grid_numbers(6, 70).items() if place > 193 or place < 189}
    for place in (21, 193):
        write_segy(path, waves(420), {**numbers, place: np.arange(420)})
        message = refused(path)
        assert "coordinates jump 5 times" in message and "--line" in message
        assert open_volume(path, Reading(line=True)).geometry.crossline_byte == place


def test_dead_traces_of_a_line_stay_in_it(path: Path) -> None:
    values, along = waves(), np.arange(1, TRACES + 1)
    values[[5, 6, 30]] = 0
    x = np.where(values.any(1), 100 * along, 0)
    for numbers in ({}, {21: along}, {189: 1, 193: along}):
        volume = open_volume(write_segy(path, values, {**numbers, 73: x}))
        np.testing.assert_array_equal(volume.geometry.traces, np.arange(TRACES)[None])
    assert open_volume(write_segy(path, 0 * values, {})).geometry.traces.size == TRACES


def test_a_line_s_number_out_of_all_range_is_refused(path: Path) -> None:
    numbers = np.append(np.arange(TRACES - 1), 2_000_000_000)
    assert "numbers 42 traces from 0 to 2000000000" in refused(write_segy(path, numbers={189: 1, 193: numbers}))


def test_one_trace_is_a_line(path: Path) -> None:
    volume = open_volume(write_segy(path, waves(1), {189: 7, 193: 9, 73: 5}))
    assert volume.geometry.is_line and volume.geometry.traces.tolist() == [[0]] and volume.coordinates.spacing is None


def test_duplicates_are_counted_and_the_first_pair_is_named(path: Path) -> None:
    numbers = grid_numbers()
    numbers[193][[8, 20]] = numbers[193][[7, 19]]
    message = refused(write_segy(path, numbers=numbers))
    assert f"has duplicate numbers at bytes 189 and 193 in 4 of {TRACES} traces" in message
    assert "first: traces 8 and 9, inline 101, crossline 300" in message


def test_dead_traces_without_numbers_have_no_place(path: Path) -> None:
    values, numbers = waves(), grid_numbers()
    values[[3, 9, 20]] = 0
    numbers[189][[3, 9]] = numbers[193][[3, 9]] = 0
    volume = open_volume(write_segy(path, values, numbers))
    np.testing.assert_array_equal(volume.geometry.unplaced, [3, 9])
    assert volume.dead == 3 and volume.geometry.missing == 2 and volume.geometry.traces[2, 6] == 20
    dead = np.concatenate([block.dead for block in volume.blocks()])
    np.testing.assert_array_equal(np.flatnonzero(dead), [3, 9, 20])


def test_traces_that_are_called_dead_keep_a_place_that_is_theirs(path: Path) -> None:
    numbers = grid_numbers()
    numbers[29] = np.where(np.arange(TRACES) % 10 == 0, 2, 1)
    numbers[189][[10, 20]] = 0
    numbers[181][30] = numbers[185][30] = 0
    volume = open_volume(write_segy(path, numbers=numbers))
    assert volume.coordinates.spacing == pytest.approx((25, 12.5), abs=0.01) and volume.coordinates.corners[0][0] > 0
    geometry = volume.geometry
    np.testing.assert_array_equal(geometry.unplaced, [10, 20])
    np.testing.assert_array_equal(geometry.traces[geometry.live], np.delete(np.arange(TRACES), [10, 20]))


@pytest.mark.parametrize("chosen", [np.s_[2:3], np.s_[:, 3:4], np.s_[2:3, 3:4]])
def test_one_line_of_a_volume_keeps_its_numbers_where_somebody_says_that_it_is_one(path: Path, chosen: tuple) -> None:
    few = GRID[chosen]
    numbers = {place: np.broadcast_to(value, TRACES)[few.ravel()] for place, value in grid_numbers().items()}
    write_segy(path, waves()[few.ravel()], numbers)
    assert open_volume(path).geometry.is_line
    geometry = open_volume(path, Reading(line=False)).geometry
    assert not geometry.is_line and geometry.traces.shape == few.shape
    assert (geometry.inlines.first, geometry.crosslines.first) == (numbers[189][0], numbers[193][0])


@pytest.mark.parametrize("spoilt", [0, 90])
def test_prestack_files_are_refused_by_name(path: Path, spoilt: int) -> None:
    number = np.arange(TRACES)
    message = refused(write_segy(path, numbers={189: 1, 193: number // 3, 37: 100 * (number % 3) + spoilt}))
    assert f"is pre-stack: {TRACES} traces at {TRACES // 3} positions" in message and "3 offsets" in message


def test_prestack_lines_are_refused_by_name(path: Path) -> None:
    number = np.arange(TRACES)
    assert "is pre-stack" in refused(write_segy(path, numbers={21: number // 3, 37: 100 * (number % 3)}))


@pytest.mark.parametrize(
    ("numbers", "why"),
    [
        ({37: 10 * np.arange(TRACES)}, "offsets range from 0 to 410"),
        ({73: 500, 81: np.arange(TRACES)}, "coordinates give only 1 position"),  # of the shot
        ({73: 500 + np.arange(TRACES) // 3}, "coordinates give only 14 positions"),
    ],
)
def test_gathers_without_numbers_are_no_line_unless_somebody_says_so(path: Path, numbers: dict, why: str) -> None:
    message = refused(write_segy(path, numbers=numbers))
    assert f"may be pre-stack: no header numbers its {TRACES} traces" in message and why in message
    assert open_volume(path, Reading(line=True)).geometry.traces.size == TRACES


def test_coordinates_of_which_some_are_none_make_no_jumps(path: Path) -> None:
    """Some programs write the smallest integer where they have no number."""
    x = 1000 + 25 * np.arange(TRACES)
    x[[5, 20, 40]] = -(2**31)
    volume = open_volume(write_segy(path, numbers={189: 1, 193: np.arange(TRACES), 181: x, 185: np.minimum(x, 7)}))
    assert volume.geometry.is_line and volume.coordinates.spacing == (None, pytest.approx(25))
    assert volume.coordinates.corners == ((1000, 7), (1000 + 25 * (TRACES - 1), 7))


def test_a_whole_line_that_is_missing_leaves_the_order(path: Path) -> None:
    keep = np.arange(TRACES) // CROSSLINES != 2
    for along in (keep, GRID.T.ravel()[keep[GRID.T.ravel()]]):
        numbers = {place: np.broadcast_to(value, TRACES)[along] for place, value in grid_numbers().items()}
        volume = open_volume(write_segy(path, waves()[along], numbers))
        assert volume.geometry.order == ("inline" if along is keep else "crossline")
        assert volume.geometry.missing == CROSSLINES


def test_dead_traces_around_the_living_ones_have_their_places(path: Path) -> None:
    values, numbers = waves(), grid_numbers()
    outside = np.isin(np.arange(TRACES) // CROSSLINES, (0, 1, 5))
    values[outside] = 0
    numbers[29] = np.where(outside, 2, 1)
    volume = open_volume(write_segy(path, values, numbers))
    np.testing.assert_array_equal(volume.geometry.traces, GRID)
    assert len(volume.geometry.unplaced) == 0


def test_traces_of_several_files_one_after_another_are_one_survey(path: Path) -> None:
    values, survey = waves(), path.with_name("survey.sgy")
    with open(survey, "wb") as joined:
        for lines in ([3, 4, 5], [0], [1, 2]):
            which = GRID[lines].ravel()
            write_segy(
                path, values[which], {place: np.broadcast_to(v, TRACES)[which] for place, v in grid_numbers().items()}
            )
            joined.write(path.read_bytes()[3600 if joined.tell() else 0 :])
    volume = open_volume(survey)
    np.testing.assert_array_equal(volume.traces.read(0, TRACES)[volume.geometry.traces.ravel()], values)
    with open(survey, "ab") as joined:
        joined.write(path.read_bytes()[3600:])
    assert f"in {2 * len(which)} of {TRACES + len(which)} traces" in refused(survey)


def test_order_direction_and_steps_come_from_headers(path: Path) -> None:
    order = GRID[::-1].T.ravel()  # along crosslines, inlines downwards
    numbers = {place: np.broadcast_to(value, TRACES)[order] for place, value in grid_numbers().items()}
    numbers[189], numbers[193] = 100 + 4 * (numbers[189] - 100), 300 + 3 * (numbers[193] - 300)
    volume = open_volume(write_segy(path, waves()[order], numbers))
    geometry = volume.geometry
    np.testing.assert_array_equal(order[geometry.traces], GRID)
    assert (geometry.inlines.step, geometry.crosslines.step, geometry.order) == (4, 3, "crossline")
    assert geometry.reversed == ["inlines"]
    assert "sorted along crosslines" in said(volume) and "inlines decrease" in said(volume)
    shuffled = np.random.default_rng(0).permutation(TRACES)
    numbers = {place: np.broadcast_to(value, TRACES)[shuffled] for place, value in grid_numbers().items()}
    volume = open_volume(write_segy(path, waves()[shuffled], numbers))
    np.testing.assert_array_equal(shuffled[volume.geometry.traces], GRID)
    assert volume.geometry.order == "none" and "sorted in no order" in said(volume)


def test_uneven_and_negative_numbers_keep_their_distance(path: Path) -> None:
    numbers = grid_numbers()
    inlines, crosslines = np.array([-6, -4, -2, 1, 3, 5]), np.array([-3, -2, -1, 0, 1, 2, 3])
    numbers[189], numbers[193] = inlines[numbers[189] - 100], crosslines[numbers[193] - 300]
    geometry = open_volume(write_segy(path, numbers=numbers)).geometry
    assert (geometry.inlines.first, geometry.inlines.step, geometry.inlines.last) == (-6, 1, 5)
    np.testing.assert_array_equal(geometry.traces[inlines + 6], GRID)
    assert geometry.missing == 6 * CROSSLINES


def test_a_number_out_of_all_range_does_not_take_the_memory(path: Path) -> None:
    numbers = grid_numbers()
    numbers[189][5] = 2_000_000_000
    assert "inlines (100 to 2000000000)" in refused(write_segy(path, numbers=numbers))
