"""Lines of a volume: which there are, and their amplitudes as sections.

A 2D line is the first inline of a grid that has no other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from salt_ray.survey.amplitudes import GreyRange, common_range
from salt_ray.survey.problems import Unsuited
from salt_ray.survey.window import Line
from salt_ray.volume.geometry import Geometry, Numbering
from salt_ray.volume.headers import Field, scaled_coordinates, trace_fields
from salt_ray.volume.problem import Problem, VolumeError
from salt_ray.volume.slabs import read_values
from salt_ray.volume.volume import Volume

_RANGE = re.compile(r"\s*(-?\d+)(?::(-?\d+)(?::([1-9]\d*))?)?\s*")


def named_lines(text: str) -> tuple[int, int, int]:
    """First and last number, and the step, of ``100``, ``100:500`` or ``100:500:20``; the last one is included.

    Raises:
        ValueError: it is none of these.
    """
    match = _RANGE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} names no lines: write 100, 100:500 or 100:500:20")
    return int(match[1]), int(match[2] or match[1]), int(match[3] or 1)


def line_name(line: Line, geometry: Geometry) -> str:
    """A line's name, for folders: il0100, xl0512; a 2D line is 'line'."""
    if geometry.is_line:
        return "line"
    return f"{'il' if line.direction == 'inline' else 'xl'}{line.number:04d}"


def line_at(geometry: Geometry, direction: str, index: int) -> Line:
    """The line that so many others of its direction come before."""
    axis = geometry.inlines if direction == "inline" else geometry.crosslines
    return Line(direction=direction, number=axis.first + index * axis.step, index=index)


def along(grid: np.ndarray, line: Line) -> np.ndarray:
    """What an array (inlines, crosslines, …) holds along a line: (traces, …), a view."""
    return grid[line.index] if line.direction == "inline" else grid[:, line.index]


def numbered(axis: Numbering, numbers: Iterable[int]) -> np.ndarray:
    """Places on an axis, int64, of the numbers that it has; -1 for others."""
    places, rest = np.divmod(np.asarray(numbers, np.int64) - axis.first, axis.step)
    return np.where((rest == 0) & (places >= 0) & (places < axis.count), places, -1)


def numbers_on(axis: Numbering) -> np.ndarray:
    """All its numbers, int64 (count,)."""
    return axis.first + axis.step * np.arange(axis.count)


def extent(numbers: np.ndarray) -> str:
    """The smallest and the largest of some numbers."""
    low, high = np.min(numbers), np.max(numbers)
    return f"{low:.10g}" if low == high else f"{low:.10g} to {high:.10g}"


def trace_coordinates(volume: Volume) -> np.ndarray:
    """X and y of each place, float64 (inlines, crosslines, 2), scaled; NaN where there is no trace, or it has none."""
    where = np.full((*volume.geometry.traces.shape, 2), np.nan)
    if volume.coordinates is None:
        return where
    order = {"big": ">", "little": "<"}[volume.byte_order]
    places = (*volume.coordinates.bytes, Field.COORDINATE_SCALAR)
    headers = volume.traces.headers(trace_fields(places, order))
    known = volume.geometry.live
    where[known] = scaled_coordinates(headers, volume.coordinates.bytes).T[volume.geometry.traces[known]]
    where[(where == 0).all(axis=2)] = np.nan
    return where


def read_line(volume: Volume, line: Line) -> np.ndarray:
    """A line's amplitudes, float32 (samples, traces); NaN where there is no trace, or a dead one.

    Raises:
        VolumeError: a value is NaN or infinite, and ``fill`` is not set.
    """
    values = read_values(volume, along(volume.geometry.traces, line))
    values[~values.any(axis=1)] = np.nan
    return np.ascontiguousarray(values.T)


def sampled_amplitudes(volume: Volume, share: float = 1) -> np.ndarray:
    """Amplitudes (n,) of 1,000 traces spread evenly over the file, or of a share of as many.

    Zeros are left out: they stand for no data above the sea floor, below the last sample and in dead traces.

    Raises:
        VolumeError: a value is NaN or infinite, and ``fill`` is not set.
    """
    values = read_values(volume, volume.traces.sampled(share))
    return values[values != 0]


def amplitude_range(*volumes: Volume) -> GreyRange:
    """The range of amplitudes that becomes greys: 1st to 99th percentile of traces spread evenly over all files.

    Raises:
        VolumeError: there is no such range; or a value is NaN or infinite, and ``fill`` is not set.
    """
    traces = sum(volume.traces.count for volume in volumes)
    values = np.concatenate([sampled_amplitudes(volume, volume.traces.count / traces) for volume in volumes])
    try:
        if not len(values):
            raise Unsuited("holds nothing but zeros in the traces that were looked at")
        return common_range(values)
    except Unsuited as error:
        raise VolumeError([Problem(str(volumes[0].path), str(error), "name a file of amplitudes")]) from error
