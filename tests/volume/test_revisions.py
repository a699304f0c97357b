"""Revision 2: longer trace headers, further text, and fields that say so, believed where the file's size agrees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_segy import SAMPLES, waves, write_segy
from opened import TRACES, refused, said

from salt_ray.volume.scan import open_volume


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
    assert volume.traces.samples == SAMPLES and "gives 999 samples per trace" in said(volume)


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
    assert "defines its own trace headers" in said(volume)


def test_extended_text_headers_that_are_not_there_are_not_believed(path: Path) -> None:
    volume = open_volume(write_segy(path, binary={3505: ("h", 2)}))
    np.testing.assert_array_equal(volume.traces.read(0, TRACES), waves())
    assert "declares 2 extended text headers" in said(volume)
