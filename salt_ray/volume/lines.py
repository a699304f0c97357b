"""Lines of a volume, and their amplitudes as sections.

A 2D line is the only inline of its grid.
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
    """Parse ``100``, ``100:500`` or ``100:500:20`` into first and last number, inclusive, and step.

    Raises:
        ValueError: the text has another format.
    """
    match = _RANGE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a range of lines: write 100, 100:500 or 100:500:20")
    return int(match[1]), int(match[2] or match[1]), int(match[3] or 1)


def line_name(line: Line, geometry: Geometry) -> str:
    """A line's folder name: il0100, xl0512; 'line' for a 2D line."""
    if geometry.is_line:
        return "line"
    return f"{'il' if line.direction == 'inline' else 'xl'}{line.number:04d}"


def line_at(geometry: Geometry, direction: str, index: int) -> Line:
    """The line at an index, counted from 0, in a direction."""
    axis = geometry.inlines if direction == "inline" else geometry.crosslines
    return Line(direction=direction, number=axis.first + index * axis.step, index=index)


def along(grid: np.ndarray, line: Line) -> np.ndarray:
    """The values of an array (inlines, crosslines, …) along a line: a view (traces, …)."""
    return grid[line.index] if line.direction == "inline" else grid[:, line.index]


def numbered(axis: Numbering, numbers: Iterable[int]) -> np.ndarray:
    """Indices of line numbers on an axis, int64; -1 for numbers that it does not have."""
    places, rest = np.divmod(np.asarray(numbers, np.int64) - axis.first, axis.step)
    return np.where((rest == 0) & (places >= 0) & (places < axis.count), places, -1)


def numbers_on(axis: Numbering) -> np.ndarray:
    """All numbers of an axis, int64 (count,)."""
    return axis.first + axis.step * np.arange(axis.count)


def extent(numbers: np.ndarray) -> str:
    """The range of some numbers, as text."""
    low, high = np.min(numbers), np.max(numbers)
    return f"{low:.10g}" if low == high else f"{low:.10g} to {high:.10g}"


def trace_coordinates(volume: Volume) -> np.ndarray:
    """Scaled X and Y of each position, float64 (inlines, crosslines, 2); NaN without a trace or without coordinates."""
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
    """A line's amplitudes, float32 (samples, traces); NaN in missing and dead traces.

    Raises:
        VolumeError: a value is NaN or infinite, and ``fill`` is not set.
    """
    values = read_values(volume, along(volume.geometry.traces, line))
    values[~values.any(axis=1)] = np.nan
    return np.ascontiguousarray(values.T)


def sampled_amplitudes(volume: Volume, share: float = 1) -> np.ndarray:
    """Amplitudes (n,) of 1,000 traces spread evenly over the file, or of a share of that number.

    Zeros are left out: they mark missing data above the sea floor, below the last sample and in dead traces.

    Raises:
        VolumeError: a value is NaN or infinite, and ``fill`` is not set.
    """
    values = read_values(volume, volume.traces.sampled(share))
    return values[values != 0]


def amplitude_range(*volumes: Volume) -> GreyRange:
    """The range of amplitudes mapped to greys: 1st to 99th percentile of traces spread evenly over all files.

    Raises:
        VolumeError: all sampled values are zero or equal; or a value is NaN or infinite, and ``fill`` is not set.
    """
    traces = sum(volume.traces.count for volume in volumes)
    values = np.concatenate([sampled_amplitudes(volume, volume.traces.count / traces) for volume in volumes])
    try:
        if not len(values):
            raise Unsuited("holds only zeros in the traces that were sampled")
        return common_range(values)
    except Unsuited as error:
        raise VolumeError([Problem(str(volumes[0].path), str(error), "use a file with amplitudes")]) from error
