"""What is odd or wrong with a SEG-Y file is found, and refused with the option that settles it."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import segyio
from made_segy import CROSSLINES, INLINES, SAMPLES, grid_numbers, ibm_bits, waves, write_segy

from salt_ray.volume.headers import trace_fields
from salt_ray.volume.problem import VolumeError
from salt_ray.volume.reading import Reading
from salt_ray.volume.scan import describe, open_volume
from salt_ray.volume.traces import Traces
from salt_ray.volume.volume import Volume

TRACES = INLINES * CROSSLINES
GRID = np.arange(TRACES).reshape(INLINES, CROSSLINES)


def refused(path: Path, **reading: object) -> str:
    """What is said of a file that cannot be used."""
    with pytest.raises(VolumeError) as error:
        open_volume(path, Reading(**reading))
    return str(error.value)


def said(volume: Volume) -> str:
    return "\n".join(volume.odd)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made.sgy"


@pytest.mark.parametrize("little", [False, True])
def test_a_plain_volume_is_used_as_it_is(path: Path, little: bool) -> None:
    volume = open_volume(write_segy(path, little=little))
    geometry = volume.geometry
    assert volume.odd == () and (volume.interval, volume.start) == (4.0, 0.0)
    assert volume.byte_order == ("little" if little else "big")
    assert not geometry.is_line and (geometry.inlines.first, geometry.crosslines.last) == (100, 306)
    np.testing.assert_array_equal(geometry.traces, GRID)
    assert volume.text[0] == "C 1 MADE FOR A TEST"
    assert volume.coordinates.spacing == pytest.approx((25, 12.5), abs=0.01) and volume.coordinates.scalar == 0.01
    np.testing.assert_array_equal(np.concatenate([b.values for b in volume.blocks()]), waves())


def test_blocks_are_the_whole_and_memory_is_theirs(path: Path) -> None:
    values = waves(2000, 500)
    volume = describe(write_segy(path, values, {189: np.arange(2000) // 50, 193: np.arange(2000) % 50}))
    size = 1 << 16
    tracemalloc.start()
    firsts = []
    for block in volume.blocks(size):
        np.testing.assert_array_equal(block.values, values[block.first : block.first + len(block.values)])
        firsts.append(block.first)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(firsts) > 50 and firsts == sorted(firsts) and peak < 6 * size < path.stat().st_size / 8


def test_ibm_called_ieee_and_ieee_called_ibm_are_refused(path: Path) -> None:
    write_segy(path, np.vectorize(ibm_bits, otypes=[np.uint32])(waves()).view(np.float32))
    assert "they look like IBM" in refused(path) and "--format 1" in refused(path)
    right = open_volume(path, Reading(format=1)).traces.read(0, TRACES)
    np.testing.assert_allclose(right, waves(), rtol=1e-5)
    write_segy(path, waves().view(np.uint32), code=1)
    assert "they look like IEEE" in refused(path)
    np.testing.assert_array_equal(open_volume(path, Reading(format=5)).traces.read(0, TRACES), waves())
    assert not describe(path, Reading(format=1)).problems  # somebody insists


def test_a_missing_sample_format_is_asked_for(path: Path) -> None:
    for little in (False, True):
        write_segy(path, binary={3225: ("h", 0)}, little=little)
        assert "is no SEG-Y file" in refused(path) and "--format" in refused(path)
        volume = open_volume(path, Reading(format=5))
        assert volume.byte_order == ("little" if little else "big")
        np.testing.assert_array_equal(volume.traces.read(0, TRACES), waves())
    assert "--format" in refused(path, format=17)


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
    assert "taken as a 2D line" in said(volume)
    assert volume.coordinates.spacing == (None, pytest.approx(np.hypot(10, 5)))


def test_a_line_goes_by_its_numbers_and_keeps_gaps(path: Path) -> None:
    numbers = np.delete(np.arange(TRACES + 3), [4, 5, 6])[::-1]
    volume = open_volume(write_segy(path, numbers={21: 10 + numbers}))
    traces = volume.geometry.traces[0]
    np.testing.assert_array_equal(np.flatnonzero(traces < 0), [4, 5, 6])
    np.testing.assert_array_equal(traces[traces >= 0], np.arange(TRACES)[::-1])
    assert "go down in the order of the file" in said(volume)


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
    assert "number 42 traces from 0 to 2000000000" in refused(write_segy(path, numbers={189: 1, 193: numbers}))


def test_one_trace_is_a_line(path: Path) -> None:
    volume = open_volume(write_segy(path, waves(1), {189: 7, 193: 9, 73: 5}))
    assert volume.geometry.is_line and volume.geometry.traces.tolist() == [[0]] and volume.coordinates.spacing is None


def test_fields_that_do_not_vary_take_no_memory_for_each_trace(path: Path) -> None:
    headers = describe(write_segy(path)).traces.headers(trace_fields((115, 189, 193), ">"))
    assert [field.strides for field in headers.values()] == [(0,), (4,), (4,)]


def test_fields_that_number_lines_elsewhere_are_read_where_they_are_needed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    headers = Traces.headers

    def counted(traces: Traces, fields: np.dtype) -> dict[str, np.ndarray]:
        read.extend(fields.names)
        return headers(traces, fields)

    monkeypatch.setattr(Traces, "headers", counted)
    open_volume(write_segy(path))
    assert "193" in read and "21" not in read
    open_volume(write_segy(path, numbers={21: np.arange(TRACES)}))
    assert read.count("21") == 1


@pytest.mark.parametrize("block_bytes", [1, 1000, 1 << 20])
def test_header_fields_are_the_same_whatever_is_read_at_once(path: Path, block_bytes: int) -> None:
    late = np.where(np.arange(TRACES) < TRACES - 3, 7, np.arange(TRACES))  # varies in the last block only
    traces = describe(write_segy(path, numbers={**grid_numbers(), 21: late}, little=True)).traces
    headers = traces.headers(trace_fields((21, 115, 189), "<"), block_bytes)
    np.testing.assert_array_equal(headers["21"], late)
    np.testing.assert_array_equal(headers["115"], np.full(TRACES, SAMPLES))
    np.testing.assert_array_equal(headers["189"], grid_numbers()[189])


def test_duplicates_are_counted_and_the_first_pair_is_named(path: Path) -> None:
    numbers = grid_numbers()
    numbers[193][[8, 20]] = numbers[193][[7, 19]]
    message = refused(write_segy(path, numbers=numbers))
    assert f"4 of {TRACES} traces share their numbers" in message
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


@pytest.mark.parametrize("spoilt", [0, 90])
def test_prestack_files_are_refused_by_name(path: Path, spoilt: int) -> None:
    number = np.arange(TRACES)
    message = refused(write_segy(path, numbers={189: 1, 193: number // 3, 37: 100 * (number % 3) + spoilt}))
    assert f"is pre-stack: {TRACES} traces at {TRACES // 3} places" in message and "3 offsets" in message


def test_prestack_lines_are_refused_by_name(path: Path) -> None:
    number = np.arange(TRACES)
    assert "is pre-stack" in refused(write_segy(path, numbers={21: number // 3, 37: 100 * (number % 3)}))


@pytest.mark.parametrize(
    ("numbers", "why"),
    [
        ({37: 10 * np.arange(TRACES)}, "offsets go from 0 to 410"),
        ({73: 500, 81: np.arange(TRACES)}, "coordinates name 1 place"),  # of the shot
        ({73: 500 + np.arange(TRACES) // 3}, "coordinates name 14 places"),
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
    assert f"{2 * len(which)} of {TRACES + len(which)} traces share their numbers" in refused(survey)


def test_order_direction_and_steps_come_from_headers(path: Path) -> None:
    order = GRID[::-1].T.ravel()  # along crosslines, inlines downwards
    numbers = {place: np.broadcast_to(value, TRACES)[order] for place, value in grid_numbers().items()}
    numbers[189], numbers[193] = 100 + 4 * (numbers[189] - 100), 300 + 3 * (numbers[193] - 300)
    volume = open_volume(write_segy(path, waves()[order], numbers))
    geometry = volume.geometry
    np.testing.assert_array_equal(order[geometry.traces], GRID)
    assert (geometry.inlines.step, geometry.crosslines.step, geometry.order) == (4, 3, "crossline")
    assert geometry.reversed == ["inlines"]
    assert "sorted along crosslines" in said(volume) and "inlines go down" in said(volume)
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
    assert "coordinates do not fit" in said(volume) and volume.coordinates.spacing is None
    assert "has no coordinates" in said(open_volume(write_segy(path, numbers={**numbers, 181: 0, 185: 0})))


@pytest.mark.parametrize("revision", [b"\0\x64", b"00", b"\x01\0", b"\0\x01"])
def test_revision_bytes_that_lie_change_nothing(path: Path, revision: bytes) -> None:
    binary = {3501: ("2s", revision), 3269: ("I", 999), 3273: ("d", 7.0), 3507: ("i", 3)}
    volume = open_volume(write_segy(path, binary=binary))
    assert (volume.traces.samples, volume.interval, volume.odd) == (SAMPLES, 4.0, ())


def test_revision_two_says_long_traces_and_fine_intervals(path: Path) -> None:
    binary = {3501: ("2s", b"\2\0"), 3269: ("I", 70_000), 3273: ("d", 62.5)}
    values = waves(3, 70_000)
    numbers = {21: np.arange(3), 115: 0, 117: 0}
    volume = open_volume(write_segy(path, values, numbers, binary={**binary, 3221: ("H", 0)}))
    assert (volume.traces.samples, volume.interval) == (70_000, 0.0625)
    np.testing.assert_array_equal(volume.traces.read(2, 3), values[2:])


def test_fields_of_revision_two_that_the_size_contradicts_are_not_believed(path: Path) -> None:
    volume = open_volume(write_segy(path, binary={3501: ("2s", b"\2\0"), 3269: ("I", 999), 3507: ("i", 3)}))
    assert volume.traces.samples == SAMPLES and "says 999 samples a trace" in said(volume)


@pytest.mark.parametrize("told", [True, False])
def test_long_trace_headers_are_refused_by_name(path: Path, told: bool) -> None:
    binary = {3501: ("2s", b"\2\0"), 3507: ("i", 1)} if told else {}
    assert "trace headers of 480 bytes" in refused(write_segy(path, binary=binary, trace_header=480))


def test_revision_two_says_which_trace_headers_it_has_where_the_size_fits_both(path: Path) -> None:
    binary = {3501: ("2s", b"\2\0"), 3507: ("i", 1)}  # 42 x (480 + 240) bytes are 63 x (240 + 240)
    assert "trace headers of 480 bytes" in refused(write_segy(path, waves(42, 60), binary=binary, trace_header=480))


@pytest.mark.parametrize("little", [False, True])
@pytest.mark.parametrize(
    ("revision", "fields"),
    [
        (b"\2\0", {3507: ("i", 2)}),
        (b"\2\0", {3507: ("h", 2)}),  # as revision 2.1 has it
        (b"\2\1", {3507: ("h", 2), 3509: ("h", 1)}),  # the second half is the kind of survey
    ],
)
def test_revision_two_counts_trace_headers_in_two_bytes_or_four(
    path: Path, little: bool, revision: bytes, fields: dict
) -> None:
    binary = {3501: ("2s", revision), **fields}
    assert "trace headers of 720 bytes" in refused(write_segy(path, binary=binary, trace_header=720, little=little))
    volume = open_volume(write_segy(path, binary={3501: ("2s", b"\2\1"), 3509: ("h", 1)}, little=little))
    assert volume.traces.count == TRACES


@pytest.mark.parametrize("number", [0, 2, -1])
def test_extended_text_headers_are_passed_over(path: Path, number: int) -> None:
    texts = b"".join(line.ljust(3200).encode("cp037") for line in ("MORE", "((SEG: EndText))"))
    write_segy(path, binary={3505: ("h", number)}, more=texts if number else b"")
    np.testing.assert_array_equal(open_volume(path).traces.read(0, TRACES), waves())


@pytest.mark.parametrize("end", ["((SEG:EndText))", "((  seg: endTEXt  ))"])
@pytest.mark.parametrize("encoding", ["cp037", "ascii"])
def test_the_end_of_extended_texts_is_found_however_it_is_written(path: Path, end: str, encoding: str) -> None:
    more = b"".join(text.ljust(3200).encode(encoding) for text in ("((JOB: 1))", end))
    np.testing.assert_array_equal(
        open_volume(write_segy(path, binary={3505: ("h", -1)}, more=more)).traces.read(0, TRACES), waves()
    )


def test_a_layout_of_trace_headers_of_the_file_s_own_is_told(path: Path) -> None:
    more = "((SEG:Layout:text/xml))<seg-y>".ljust(3200).encode()
    volume = open_volume(write_segy(path, binary={3505: ("h", 1)}, more=more))
    assert "describes its trace headers itself" in said(volume)


def test_extended_text_headers_that_are_not_there_are_not_believed(path: Path) -> None:
    volume = open_volume(write_segy(path, binary={3505: ("h", 2)}))
    np.testing.assert_array_equal(volume.traces.read(0, TRACES), waves())
    assert "says 2 extended text headers" in said(volume)


def test_of_two_lengths_the_size_decides(path: Path) -> None:
    for binary, trace in ((SAMPLES, 77), (77, SAMPLES)):
        write_segy(path, numbers={**grid_numbers(), 115: trace}, binary={3221: ("H", binary)})
        volume = open_volume(path)
        assert volume.traces.samples == SAMPLES and "says 77 samples a trace" in said(volume)
    write_segy(path, numbers={**grid_numbers(), 115: 0}, binary={3221: ("H", 0)})
    assert "--samples" in refused(path)
    np.testing.assert_array_equal(open_volume(path, Reading(samples=SAMPLES)).traces.read(0, TRACES), waves())
    write_segy(path, numbers={**grid_numbers(), 115: 78}, binary={3221: ("H", 77)})
    assert "its size fits none" in refused(path) and "--samples" in refused(path)
    lengths = np.where(np.arange(TRACES) == 7, 40, SAMPLES)
    write_segy(path, numbers={**grid_numbers(), 115: lengths})
    assert "different lengths" in refused(path) and not describe(path, Reading(samples=SAMPLES)).problems


@pytest.mark.parametrize(("cut", "where"), [(1, "after 49 of 50 samples"), (399, "header")])
def test_a_cut_file_says_where_it_ends(path: Path, cut: int, where: str) -> None:
    write_segy(path, cut=cut)
    assert f"it ends in trace {TRACES} ({where})" in refused(path)
    path.write_bytes(path.read_bytes()[:3700])
    assert "is cut" in refused(path)
    path.write_bytes(b"")
    assert "is cut" in refused(path)


def test_a_file_that_shrinks_while_it_is_read_is_told(path: Path) -> None:
    volume = open_volume(write_segy(path))
    path.write_bytes(path.read_bytes()[:-205])
    with pytest.raises(VolumeError, match="has become shorter"):
        list(volume.blocks())
    with pytest.raises(VolumeError, match="has become shorter"):
        volume.traces.headers(trace_fields((189,), ">"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_need_an_option(path: Path, value: float) -> None:
    values = waves()
    values[9, 7] = value
    write_segy(path, values)
    assert "first: trace 10, sample 8" in refused(path) and "--fill zero" in refused(path)
    with pytest.raises(VolumeError, match="trace 10, sample 8"):
        list(describe(path).blocks())
    filled = np.concatenate([block.values for block in open_volume(path, Reading(fill=True)).blocks(1000)])
    values[9, 7] = 0
    np.testing.assert_array_equal(filled, values)


def test_velocities_and_empty_files_are_told(path: Path) -> None:
    assert "one sign" in said(open_volume(write_segy(path, np.abs(waves()) + 1500)))
    assert "one sign" in said(open_volume(write_segy(path, (waves() > 0).astype("f4"))))
    assert "are dead" in said(open_volume(write_segy(path, waves() * 0)))


@pytest.mark.parametrize("order", ["<", ">"])
def test_seismic_unix_files_are_refused_by_name(path: Path, order: str) -> None:
    header = bytearray(240)
    struct.pack_into(order + "HH", header, 114, SAMPLES, 4000)
    path.write_bytes(b"".join(header + row.astype(order + "f4").tobytes() for row in waves()))
    assert "Seismic Unix" in refused(path)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("traces", "interval"), [(TRACES, 0), (2, 0), (1, 4000), (2, 4000)])
def test_seismic_unix_files_that_are_short_or_without_an_interval_are_known(
    path: Path, order: str, traces: int, interval: int
) -> None:
    header = bytearray(240)
    struct.pack_into(order + "HH", header, 114, SAMPLES, interval)
    path.write_bytes(b"".join(header + row.astype(order + "f4").tobytes() for row in waves(traces)))
    assert "Seismic Unix" in refused(path)
    path.write_bytes(bytes(200))
    assert "it is cut, or no SEG-Y file" in refused(path)


def test_other_files_are_no_segy(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(10_000))
    assert "is no SEG-Y file" in refused(path)


def test_the_start_is_the_delay(path: Path) -> None:
    assert open_volume(write_segy(path, numbers={**grid_numbers(), 109: 1200, 215: -10})).start == 120
    other = open_volume(write_segy(path, numbers={**grid_numbers(), 109: 1200, 215: -2536}))
    assert other.start == 1200 and "a time scalar of -2536" in said(other)
    varied = open_volume(write_segy(path, numbers={**grid_numbers(), 109: np.arange(TRACES)}))
    assert "begin at different times" in said(varied)


def test_any_damage_to_headers_ends_in_an_answer(path: Path) -> None:
    """Random bytes in random headers: a description or a VolumeError, never anything else."""
    random = np.random.default_rng(3)
    content = np.frombuffer(write_segy(path).read_bytes(), np.uint8)
    starts = [3200, *(3600 + i * (240 + 4 * SAMPLES) for i in range(3))]
    answers = set()
    for _ in range(150):
        damaged = content.copy()
        for place in random.choice([3216, 3220, 3224, 3500, 3504, 3506, 3268, *starts], random.integers(1, 4)):
            length = int(random.integers(1, 40))
            damaged[place : place + length] = random.choice([0, 255, random.integers(0, 256)], length)
        path.write_bytes(damaged.tobytes()[: random.choice([len(damaged), random.integers(3600, len(damaged))])])
        try:
            answers.add(bool(describe(path).problems))
        except VolumeError:
            answers.add(None)
    assert answers == {True, False, None}


@pytest.mark.parametrize("code", [1, 5])
@pytest.mark.parametrize("little", [False, True])
def test_files_of_another_writer_are_read(path: Path, code: int, little: bool) -> None:
    cube = waves().reshape(INLINES, CROSSLINES, SAMPLES)
    spec = segyio.spec()
    spec.format, spec.sorting, spec.endian = code, 2, "little" if little else "big"
    spec.ilines, spec.xlines, spec.samples = (
        10 + np.arange(INLINES),
        20 + np.arange(CROSSLINES),
        2.0 * np.arange(SAMPLES),
    )
    with segyio.create(path, spec) as file:
        file.bin.update({segyio.BinField.Interval: 2000, segyio.BinField.Samples: SAMPLES})
        for index, trace in enumerate(cube.reshape(TRACES, SAMPLES)):
            row, column = divmod(index, CROSSLINES)
            file.header[index] = {189: 10 + row, 193: 20 + column, 115: SAMPLES, 117: 2000}
            file.trace[index] = trace
    volume = open_volume(path)
    assert (volume.interval, volume.byte_order, volume.geometry.order) == (2.0, spec.endian, "inline")
    np.testing.assert_array_equal(volume.geometry.traces, GRID)
    np.testing.assert_allclose(volume.traces.read(0, TRACES).reshape(cube.shape), cube, rtol=2e-6 if code == 1 else 0)
