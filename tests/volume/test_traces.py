"""Traces and fields of their headers are read in blocks, and the same whatever is read at once."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from made_segy import SAMPLES, grid_numbers, waves, write_segy
from opened import TRACES, refused

from salt_ray.volume.headers import trace_fields
from salt_ray.volume.problem import VolumeError
from salt_ray.volume.reading import Reading
from salt_ray.volume.scan import describe, open_volume
from salt_ray.volume.traces import Traces


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


def test_a_file_that_shrinks_while_it_is_read_is_told(path: Path) -> None:
    volume = open_volume(write_segy(path))
    path.write_bytes(path.read_bytes()[:-205])
    with pytest.raises(VolumeError, match="became shorter"):
        list(volume.blocks())
    with pytest.raises(VolumeError, match="became shorter"):
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
