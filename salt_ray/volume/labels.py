"""An interpreter's labels on the grid of a volume's amplitudes, read from a volume of labels or an array.

Letters: I inlines and X crosslines of the volume, H samples.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from salt_ray.metric import UNLABELLED
from salt_ray.survey.window import Line
from salt_ray.volume.headers import Field, trace_fields
from salt_ray.volume.lines import along, extent, line_at, named_lines, numbered, numbers_on
from salt_ray.volume.problem import Problem, VolumeError
from salt_ray.volume.reading import Reading
from salt_ray.volume.scan import open_volume
from salt_ray.volume.slabs import read_values
from salt_ray.volume.volume import Volume

#: A line is cut into windows if at least this share of its traces is labelled; otherwise it only crosses labelled
#: lines.
_LABELLED_SHARE = 0.5
#: Relative difference between sample intervals, or between starts in samples, treated as rounding.
_SAME = 1e-4
#: Values of unlabelled pixels, unless others are given, or one of them is salt.
_NOT_LABELLED = (-1, 255)
#: Options that override headers of the amplitudes; the labels have their own.
_OF_AMPLITUDES = re.compile("--(?=(byte-order|format|samples)\\b)")


class Labels(Protocol):
    """Labels on the grid of a volume.

    Attributes:
        said: a line for each finding or assumption.
    """

    said: list[str]

    def lines(self) -> list[Line]:
        """The labelled lines."""

    def on(self, line: Line) -> np.ndarray:
        """Labels of a line, int8 (H, traces): 1 salt, 0 none, -1 not labelled."""


@dataclass(frozen=True, eq=False)
class LabelVolume:
    """A SEG-Y file or an array of labels, matched by inline and crossline numbers.

    Attributes:
        volume: the amplitudes.
        file: the labels.
        traces: int64 (I, X), the trace number in the file of labels; -1 where there is none.
        salt: the value that means salt.
        none: the values that mean no salt; None: all others.
        unlabelled: the values of unlabelled pixels.
    """

    volume: Volume
    file: Volume
    traces: np.ndarray
    salt: float
    none: tuple[float, ...] | None
    unlabelled: tuple[float, ...]
    said: list[str]

    def lines(self) -> list[Line]:
        return labelled_lines(self.volume, self.traces >= 0, self.said)

    def on(self, line: Line) -> np.ndarray:
        """See ``Labels``; raises VolumeError if a value has no meaning."""
        numbers = along(self.traces, line)
        values = read_values(self.file, numbers).T
        labels = (values == np.float32(self.salt)).astype(np.int8)
        labels[np.isin(values, np.float32(self.unlabelled))] = UNLABELLED
        if self.none is not None:
            strange = (labels == 0) & ~np.isin(values, np.float32(self.none))
            if strange.any():
                others = " or ".join(f"{value:g}" for value in self.unlabelled)
                what = (
                    f"holds {values[strange][0]:g}, which is neither salt ({self.salt:g}), none (0) nor "
                    f"unlabelled ({others})"
                )
                raise _error(self.file.path, what, "give the value of salt with --salt VALUE")
        labels[:, numbers < 0] = UNLABELLED
        return labels


def label_volume(
    volume: Volume, path: Path, reading: Reading, salt: float | None = None, unlabelled: float | None = None
) -> LabelVolume:
    """Read labels from a SEG-Y file or an .npy cube.

    Args:
        volume: the amplitudes.
        path: a file with the same survey, or some of its lines.
        reading: how to read that file.
        salt: the value of salt, all others mean none; None: the file holds 0 and one other value.
        unlabelled: the value of unlabelled pixels; None: -1 and 255, unless one of them is salt.

    Raises:
        VolumeError: the file cannot be used, has other samples or no line in common, or the value of salt is ambiguous.
    """
    said: list[str] = []
    beside = path.with_suffix(".json")
    plain = path.suffix.lower() == ".npy" and not beside.exists()
    if plain and reading.interval is None:
        reading = Reading(interval=volume.interval, fill=reading.fill)
    try:
        file = open_volume(path, reading)
    except VolumeError as error:
        own = (replace(one, remedy=_OF_AMPLITUDES.sub("--labels-", one.remedy)) for one in error.problems)
        raise VolumeError(list(own)) from error
    if plain:
        traces = _like(volume, file)
        said.append(f"assumed: {path.name} has the lines and samples of {volume.path.name}, as shapes match")
    else:
        traces = joined_traces(volume, file)
    values, none = np.unique(read_values(file, file.traces.sampled())), None
    skipped = _skipped(salt) if unlabelled is None else (unlabelled,)
    others = [value for value in values.tolist() if value not in skipped]
    if salt is None:
        positive = [value for value in others if value != 0]
        if len(positive) > 1:
            shown = ", ".join(f"{value:g}" for value in values[:6]) + ", …" * (len(values) > 6)
            raise _error(path, f"holds {shown}: more than two values", "give the value of salt with --salt VALUE")
        if not positive:
            what = "holds no salt in the traces that were sampled"
            raise _error(path, what, "give the value of salt with --salt VALUE, or use a file with salt in it")
        (salt,), none = positive, (0.0,)
        said.append(f"assumed: {salt:g} is salt in {path.name}")
    if hidden := [value for value in values.tolist() if value in skipped]:
        shown = " and ".join(f"{value:g}" for value in hidden)
        said.append(f"assumed: {shown} in {path.name} is not labelled (--unlabelled)")
    return LabelVolume(volume, file, traces, float(salt), none, tuple(map(float, skipped)), said)


def join_labels(volume: Volume, file: Volume, salt: float = 1) -> LabelVolume:
    """Labels from an open file with one value for salt; 0 means none, -1 and 255 not labelled.

    Raises:
        VolumeError: the file has other samples or no trace in common.
    """
    return LabelVolume(volume, file, joined_traces(volume, file), float(salt), (0.0,), _skipped(salt), [])


def _skipped(salt: float | None) -> tuple[float, ...]:
    return tuple(float(value) for value in _NOT_LABELLED if value != salt)


def _like(volume: Volume, file: Volume) -> np.ndarray:
    """The traces of an array without line numbers, which must have the shape of the volume."""
    grid, own = volume.geometry.traces.shape, file.geometry.traces
    shape, wanted = (*own.shape, file.traces.samples), (*grid, volume.traces.samples)
    if shape != wanted:
        what = f"has shape {shape}, but {volume.path.name} has {wanted} (inlines, crosslines, samples)"
        remedy = (
            f"write its line numbers to {file.path.with_suffix('.json').name} next to it, or give an array of that "
            "shape"
        )
        raise _error(file.path, what, remedy)
    return np.where(volume.geometry.live, own, -1)


def _check_samples(volume: Volume, file: Volume) -> None:
    """Raise if two files differ in their samples."""
    step = volume.interval
    same_interval = abs(file.interval - step) <= _SAME * step
    if (
        not same_interval
        or abs(file.start - volume.start) > _SAME * step
        or file.traces.samples != volume.traces.samples
    ):
        own, wanted = (f"{v.traces.samples:,} samples at {v.interval:g} from {v.start:g}" for v in (file, volume))
        what = f"has {own}, but {volume.path.name} has {wanted}"
        raise _error(file.path, what, "resample or crop the labels to match the amplitudes")


def joined_traces(volume: Volume, file: Volume) -> np.ndarray:
    """Match the traces of two files by their line numbers.

    Args:
        file: usually labels, as the error messages assume.

    Returns:
        int64 (I, X), for each trace of the volume the number of the matching trace in ``file``; -1 where either has
        none.

    Raises:
        VolumeError: the file has other samples or no trace in common.
    """
    _check_samples(volume, file)
    geometry, own = volume.geometry, file.geometry
    if geometry.is_line and not own.is_line:
        raise _error(file.path, f"is a volume, but {volume.path.name} is a 2D line", "give labels for that line")
    in_order = volume.kind == "SEG-Y" and geometry.is_line and geometry.crossline_byte is None
    if in_order and file.traces.count != volume.traces.count:
        what = f"has {file.traces.count:,} traces, but {volume.path.name} has {volume.traces.count:,} without numbers"
        raise _error(file.path, what, "give the byte of the trace numbers with --crossline-byte")
    inlines, crosslines, traces = _numbers(volume, file)
    rows, columns = numbered(geometry.inlines, inlines), numbered(geometry.crosslines, crosslines)
    inside = (rows >= 0) & (columns >= 0)
    if not inside.any():
        own_lines, lines = (
            f"inlines {extent(a)} and crosslines {extent(b)}"
            for a, b in ((inlines, crosslines), (numbers_on(geometry.inlines), numbers_on(geometry.crosslines)))
        )
        what = f"has {own_lines}, but {volume.path.name} has {lines}: no trace in common"
        raise _error(file.path, what, "give labels of the same survey, or the bytes of its line numbers")
    joined = np.full(geometry.traces.shape, -1, np.int64)
    joined[rows[inside], columns[inside]] = traces[inside]
    joined[~geometry.live] = -1
    return joined


def _numbers(volume: Volume, file: Volume) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inline, crossline and file position of each trace of a file, (n,) each.

    A single line has a line number too, which is used if the amplitudes are a volume.
    """
    geometry, own = volume.geometry, file.geometry
    rows, columns = np.nonzero(own.live)
    traces = own.traces[rows, columns]
    if own.is_line and not geometry.is_line and file.kind == "SEG-Y":
        places = (geometry.inline_byte or Field.INLINE, geometry.crossline_byte or Field.CROSSLINE)
        order = {"big": ">", "little": "<"}[file.byte_order]
        headers = file.traces.headers(trace_fields(places, order))
        return headers[str(places[0])][traces], headers[str(places[1])][traces], traces
    return numbers_on(own.inlines)[rows], numbers_on(own.crosslines)[columns], traces


def labelled_lines(volume: Volume, labelled: np.ndarray, said: list[str]) -> list[Line]:
    """The lines with at least half of their traces labelled, inlines first.

    Args:
        labelled: bool (I, X).
        said: gets a line if crosslines are left out because most of the volume is labelled.
    """
    geometry = volume.geometry
    directions = ["inline"] if geometry.is_line else ["inline", "crossline"]
    live = geometry.live
    if not geometry.is_line and np.count_nonzero(labelled) >= _LABELLED_SHARE * np.count_nonzero(live):
        said.append(
            "found: most of the volume is labelled, so its inlines are cut (choose with --inlines or --crosslines)"
        )
        directions = ["inline"]
    found = []
    for direction in directions:
        axis = 1 if direction == "inline" else 0
        share = np.count_nonzero(labelled, axis) / np.maximum(1, np.count_nonzero(live, axis))
        chosen = np.flatnonzero((share >= _LABELLED_SHARE) & labelled.any(axis))
        found += [line_at(geometry, direction, int(index)) for index in chosen]
    if geometry.is_line and labelled.any():  # there is no other
        found = [line_at(geometry, "inline", 0)]
    return found


def choose_lines(volume: Volume, ranges: Sequence[tuple[str, str]]) -> list[Line]:
    """The lines in the given ranges.

    Args:
        ranges: direction and numbers, in the format of ``named_lines``.

    Raises:
        VolumeError: a range is malformed, or the volume has no such line.
    """
    geometry, found = volume.geometry, []
    for direction, text in ranges:
        option = f"--{direction}s"
        try:
            first, last, step = named_lines(text)
        except ValueError:
            raise _error(
                volume.path, f"cannot be cut by {option} {text}", f"write a range such as {option} 100:500:20"
            ) from None
        axis = geometry.inlines if direction == "inline" else geometry.crosslines
        numbers = numbers_on(axis)
        places = np.flatnonzero((numbers >= first) & (numbers <= last) & ((numbers - first) % step == 0))
        if geometry.is_line or not len(places):
            what = "is a 2D line" if geometry.is_line else f"has {direction}s {axis}, none of them in {text}"
            raise _error(volume.path, what, f"choose others with {option}, or leave it out")
        found += [line_at(geometry, direction, int(index)) for index in places]
    return found


def _error(path: Path, what: str, remedy: str) -> VolumeError:
    return VolumeError([Problem(str(path), what, remedy)])
