"""What interpreters have labelled of a volume, on the grid of its amplitudes; a volume of labels, or an array.

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

#: Of the traces of a line that is cut into windows, so many are labelled at least; others cross it only.
_LABELLED_SHARE = 0.5
#: Relative difference of two sample intervals, or of two starts in samples, that is rounding.
_SAME = 1e-4
#: Values of pixels that nobody labelled, unless others are named, or one of them is salt.
_NOT_LABELLED = (-1, 255)
#: Options that name what headers of the amplitudes say; labels have their own.
_OF_AMPLITUDES = re.compile("--(?=(byte-order|format|samples)\\b)")


class Labels(Protocol):
    """Labels on the grid of a volume.

    Attributes:
        said: a line for each thing that was found or assumed.
    """

    said: list[str]

    def lines(self) -> list[Line]:
        """The lines that are labelled."""

    def on(self, line: Line) -> np.ndarray:
        """Int8 (H, traces) of a line: 1 salt, 0 none, -1 not labelled."""


@dataclass(frozen=True, eq=False)
class LabelVolume:
    """A SEG-Y file or an array of labels, joined by the numbers of inlines and crosslines.

    Attributes:
        volume: the amplitudes.
        file: the labels.
        traces: int64 (I, X), the number of the trace in the file of labels; -1 where there is none.
        salt: the value that means salt.
        none: the values that mean none; None: all others.
        unlabelled: the values of pixels that nobody labelled.
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
        """As ``Labels``; VolumeError where a value has no meaning."""
        numbers = along(self.traces, line)
        values = read_values(self.file, numbers).T
        labels = (values == np.float32(self.salt)).astype(np.int8)
        labels[np.isin(values, np.float32(self.unlabelled))] = UNLABELLED
        if self.none is not None:
            strange = (labels == 0) & ~np.isin(values, np.float32(self.none))
            if strange.any():
                others = " or ".join(f"{value:g}" for value in self.unlabelled)
                what = (
                    f"holds {values[strange][0]:g}, which is neither salt ({self.salt:g}), nor none (0), nor not "
                    f"labelled ({others})"
                )
                raise _error(self.file.path, what, "say which value is salt with --salt VALUE")
        labels[:, numbers < 0] = UNLABELLED
        return labels


def label_volume(
    volume: Volume, path: Path, reading: Reading, salt: float | None = None, unlabelled: float | None = None
) -> LabelVolume:
    """The labels in a SEG-Y file or an .npy cube.

    Args:
        volume: the amplitudes.
        path: a file of the same survey, or of some of its lines.
        reading: what is said of that file.
        salt: the value that means salt, every other is none; None: the files hold 0 and one other value.
        unlabelled: the value of pixels that nobody labelled; None: -1 and 255, unless one of them is salt.

    Raises:
        VolumeError: the file cannot be used, has other samples or no line in common, or does not say what salt is.
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
        said.append(f"assumed: {path.name} has the lines and samples of {volume.path.name}, as it has its shape")
    else:
        traces = joined_traces(volume, file)
    values, none = np.unique(read_values(file, file.traces.sampled())), None
    skipped = _skipped(salt) if unlabelled is None else (unlabelled,)
    others = [value for value in values.tolist() if value not in skipped]
    if salt is None:
        positive = [value for value in others if value != 0]
        if len(positive) > 1:
            shown = ", ".join(f"{value:g}" for value in values[:6]) + ", …" * (len(values) > 6)
            raise _error(path, f"holds {shown}: more than 0 and one other value", "say which is salt with --salt VALUE")
        if not positive:
            what = "holds no salt in the traces that were looked at"
            raise _error(path, what, "say which value is salt with --salt VALUE, or use a file with salt in it")
        (salt,), none = positive, (0.0,)
        said.append(f"assumed: {salt:g} is salt in {path.name}")
    if hidden := [value for value in values.tolist() if value in skipped]:
        shown = " and ".join(f"{value:g}" for value in hidden)
        said.append(f"assumed: {shown} in {path.name} is not labelled (--unlabelled)")
    return LabelVolume(volume, file, traces, float(salt), none, tuple(map(float, skipped)), said)


def join_labels(volume: Volume, file: Volume, salt: float = 1) -> LabelVolume:
    """The labels in a file that is open, of one value that means salt; 0 means none, -1 and 255 not labelled.

    Raises:
        VolumeError: the file has other samples or no trace in common.
    """
    return LabelVolume(volume, file, joined_traces(volume, file), float(salt), (0.0,), _skipped(salt), [])


def _skipped(salt: float | None) -> tuple[float, ...]:
    return tuple(float(value) for value in _NOT_LABELLED if value != salt)


def _like(volume: Volume, file: Volume) -> np.ndarray:
    """The traces of an array that does not say its numbers: it has the shape of the volume."""
    grid, own = volume.geometry.traces.shape, file.geometry.traces
    shape, wanted = (*own.shape, file.traces.samples), (*grid, volume.traces.samples)
    if shape != wanted:
        what = f"has the shape {shape}, and {volume.path.name} has {wanted} (inlines, crosslines, samples)"
        remedy = (
            f"write its line numbers into {file.path.with_suffix('.json').name} beside it, or give an array like it"
        )
        raise _error(file.path, what, remedy)
    return np.where(volume.geometry.live, own, -1)


def _check_samples(volume: Volume, file: Volume) -> None:
    """Raise where the samples of two files are not the same."""
    step = volume.interval
    same_interval = abs(file.interval - step) <= _SAME * step
    if (
        not same_interval
        or abs(file.start - volume.start) > _SAME * step
        or file.traces.samples != volume.traces.samples
    ):
        own, wanted = (f"{v.traces.samples:,} samples at {v.interval:g} from {v.start:g} on" for v in (file, volume))
        what = f"has {own}, and {volume.path.name} has {wanted}"
        raise _error(file.path, what, "resample or cut the labels to the samples of the amplitudes")


def joined_traces(volume: Volume, file: Volume) -> np.ndarray:
    """Of each trace of a volume the number of the one at the same place in another file, by the numbers of lines.

    Args:
        file: mostly of labels, of which messages speak.

    Returns:
        int64 (I, X); -1 where one of both has none.

    Raises:
        VolumeError: the file has other samples or no trace in common.
    """
    _check_samples(volume, file)
    geometry, own = volume.geometry, file.geometry
    if geometry.is_line and not own.is_line:
        raise _error(file.path, f"is a volume, and {volume.path.name} is a 2D line", "give labels of that line")
    in_order = volume.kind == "SEG-Y" and geometry.is_line and geometry.crossline_byte is None
    if in_order and file.traces.count != volume.traces.count:
        what = f"has {file.traces.count:,} traces, and {volume.path.name} has {volume.traces.count:,} without numbers"
        raise _error(file.path, what, "name the bytes that number them with --crossline-byte")
    inlines, crosslines, traces = _numbers(volume, file)
    rows, columns = numbered(geometry.inlines, inlines), numbered(geometry.crosslines, crosslines)
    inside = (rows >= 0) & (columns >= 0)
    if not inside.any():
        own_lines, lines = (
            f"inlines {extent(a)} and crosslines {extent(b)}"
            for a, b in ((inlines, crosslines), (numbers_on(geometry.inlines), numbers_on(geometry.crosslines)))
        )
        what = f"has {own_lines}, and {volume.path.name} has {lines}: no trace in common"
        raise _error(file.path, what, "give labels of the same survey, or name the bytes of its numbers")
    joined = np.full(geometry.traces.shape, -1, np.int64)
    joined[rows[inside], columns[inside]] = traces[inside]
    joined[~geometry.live] = -1
    return joined


def _numbers(volume: Volume, file: Volume) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inline, crossline and number in the file of the traces of a file, (n,) each.

    One line of a volume has a number too, which counts where the amplitudes are a volume.
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
    """The lines of which at least half of the traces are labelled, inlines first.

    Args:
        labelled: bool (I, X).
        said: takes a line where crosslines are left out because all is labelled.
    """
    geometry = volume.geometry
    directions = ["inline"] if geometry.is_line else ["inline", "crossline"]
    live = geometry.live
    if not geometry.is_line and np.count_nonzero(labelled) >= _LABELLED_SHARE * np.count_nonzero(live):
        said.append("found: most of the volume is labelled: its inlines are cut (--inlines and --crosslines choose)")
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
    """The lines that somebody names.

    Args:
        ranges: direction and numbers, as ``named_lines`` reads them.

    Raises:
        VolumeError: a range is malformed, or the volume has no such line.
    """
    geometry, found = volume.geometry, []
    for direction, text in ranges:
        option = f"--{direction}s"
        try:
            first, last, step = named_lines(text)
        except ValueError:
            raise _error(volume.path, f"{option} {text} names no lines", f"as in {option} 100:500:20") from None
        axis = geometry.inlines if direction == "inline" else geometry.crosslines
        numbers = numbers_on(axis)
        places = np.flatnonzero((numbers >= first) & (numbers <= last) & ((numbers - first) % step == 0))
        if geometry.is_line or not len(places):
            what = "is a 2D line" if geometry.is_line else f"has {direction}s {axis}, and none of {text}"
            raise _error(volume.path, what, f"name others with {option}, or leave it out")
        found += [line_at(geometry, direction, int(index)) for index in places]
    return found


def _error(path: Path, what: str, remedy: str) -> VolumeError:
    return VolumeError([Problem(str(path), what, remedy)])
