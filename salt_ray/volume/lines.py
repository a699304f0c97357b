"""Lines of a volume: which there are, and their amplitudes as sections.

A 2D line is the first inline of a grid that has no other.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from salt_ray.survey.amplitudes import GreyRange, common_range
from salt_ray.survey.problems import Unsuited
from salt_ray.survey.window import Line
from salt_ray.volume.geometry import Geometry, Numbering
from salt_ray.volume.headers import Field, trace_fields
from salt_ray.volume.problem import Problem, VolumeError
from salt_ray.volume.traces import not_finite
from salt_ray.volume.volume import Volume


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
    x, y, scalar = (headers[str(place)].astype(np.float64) for place in places)
    scale = np.where(scalar < 0, -1 / np.minimum(scalar, -1), np.maximum(scalar, 1))  # 0 means 1
    known = volume.geometry.live
    where[known] = (np.stack([x, y], axis=1) * scale[:, None])[volume.geometry.traces[known]]
    where[(where == 0).all(axis=2)] = np.nan
    return where


def read_traces(volume: Volume, numbers: np.ndarray) -> np.ndarray:
    """Traces by their numbers in the file, float32 (n, samples); neighbours in the file are read at once.

    Args:
        numbers: int64 (n,); where it is -1 there is no trace.

    Returns:
        NaN where there is no trace, or a dead one.

    Raises:
        VolumeError: a value is NaN or infinite, and ``fill`` is not set.
    """
    values = np.full((len(numbers), volume.traces.samples), np.nan, np.float32)
    order = np.argsort(numbers, kind="stable")
    order = order[numbers[order] >= 0]
    for run in np.split(order, np.flatnonzero(np.diff(numbers[order]) != 1) + 1):
        if len(run):
            first = int(numbers[run[0]])
            values[run] = volume.traces.read(first, first + len(run))
    present = numbers >= 0
    bad = present[:, None] & ~np.isfinite(values)
    if bad.any():
        if not volume.fill:
            trace, sample = np.argwhere(bad)[0]
            where = f"trace {numbers[trace] + 1:,}, sample {sample + 1:,}"
            raise VolumeError([not_finite(volume.path, where)])
        values[bad] = 0
    values[~values.any(axis=1)] = np.nan
    return values


def read_line(volume: Volume, line: Line) -> np.ndarray:
    """A line's amplitudes, float32 (samples, traces); NaN where there is no trace, or a dead one.

    Raises:
        VolumeError: as ``read_traces``.
    """
    return np.ascontiguousarray(read_traces(volume, along(volume.geometry.traces, line)).T)


def amplitude_range(volume: Volume) -> GreyRange:
    """The range of amplitudes that becomes greys: 1st to 99th percentile of traces spread evenly over the file.

    Zeros are left out: they stand for no data above the sea floor, below the last sample and in dead traces.

    Raises:
        VolumeError: there is no such range; or a value is NaN or infinite, and ``fill`` is not set.
    """
    values = read_traces(volume, volume.traces.sampled())
    try:
        return common_range(values[np.isfinite(values) & (values != 0)])
    except (Unsuited, IndexError) as error:
        what = (
            str(error) if isinstance(error, Unsuited) else "holds nothing but zeros in the traces that were looked at"
        )
        raise VolumeError([Problem(str(volume.path), what, "name a file of amplitudes")]) from error
