"""What interpreters have labelled of a volume, on the grid of its amplitudes: a volume of labels, or horizons.

Letters: I inlines and X crosslines of the volume, H samples.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd

from salt_ray.metric import UNLABELLED
from salt_ray.survey.window import Line
from salt_ray.volume.geometry import Numbering
from salt_ray.volume.headers import Field, trace_fields
from salt_ray.volume.lines import along, line_at, numbered, read_traces
from salt_ray.volume.problem import Problem, VolumeError
from salt_ray.volume.reading import Reading
from salt_ray.volume.scan import open_volume
from salt_ray.volume.volume import Volume

#: Of the traces of a line that is cut into windows, so many are labelled at least; others cross it only.
_LABELLED_SHARE = 0.5
#: Relative difference of two sample intervals, or of two starts in samples, that is rounding.
_SAME = 1e-4
_RANGE = re.compile(r"(-?\d+)(?::(-?\d+)(?::(\d+))?)?")


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
        unlabelled: the values of pixels that nobody labelled.
    """

    volume: Volume
    file: Volume
    traces: np.ndarray
    salt: float
    unlabelled: tuple[float, ...]
    said: list[str]

    def lines(self) -> list[Line]:
        return labelled_lines(self.volume, self.traces >= 0, self.said)

    def on(self, line: Line) -> np.ndarray:
        numbers = along(self.traces, line)
        values = np.nan_to_num(read_traces(self.file, numbers).T)  # a trace of nothing but zeros is no dead one here
        labels = (values == np.float32(self.salt)).astype(np.int8)
        for value in self.unlabelled:
            labels[values == np.float32(value)] = UNLABELLED
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
    file = open_volume(path, reading)
    if plain:
        traces = _like(volume, file)
        said.append(f"assumed: {path.name} has the lines and samples of {volume.path.name}, as it has its shape")
    else:
        _check_samples(volume, file)
        traces = _joined(volume, file)
    some = [file.traces.read(i, i + 1) for i in file.traces.sampled().tolist()]
    values = np.unique(np.nan_to_num(np.concatenate(some)))
    skipped = tuple(v for v in (-1, 255) if v != salt) if unlabelled is None else (unlabelled,)
    others = [value for value in values.tolist() if value not in skipped]
    if salt is None:
        positive = [value for value in others if value != 0]
        if len(positive) > 1:
            shown = ", ".join(f"{value:g}" for value in values[:6]) + ", …" * (len(values) > 6)
            raise _error(path, f"holds {shown}: more than 0 and one other value", "say which is salt with --salt VALUE")
        if not positive:
            what = "holds no salt in the traces that were looked at"
            raise _error(path, what, "say which value is salt with --salt VALUE, or use a file with salt in it")
        (salt,) = positive
        said.append(f"assumed: {salt:g} is salt in {path.name}")
    if hidden := [value for value in values.tolist() if value in skipped]:
        shown = " and ".join(f"{value:g}" for value in hidden)
        said.append(f"assumed: {shown} in {path.name} is not labelled (--unlabelled)")
    return LabelVolume(volume, file, traces, float(salt), tuple(map(float, skipped)), said)


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


def _joined(volume: Volume, file: Volume) -> np.ndarray:
    """Where each place of the volume is labelled, by the numbers of lines: int64 (I, X)."""
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
            f"inlines {_extent(a)} and crosslines {_extent(b)}"
            for a, b in ((inlines, crosslines), (_all(geometry.inlines), _all(geometry.crosslines)))
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
    return _all(own.inlines)[rows], _all(own.crosslines)[columns], traces


def _all(axis: Numbering) -> np.ndarray:
    return axis.first + axis.step * np.arange(axis.count)


def _extent(numbers: np.ndarray) -> str:
    low, high = int(numbers.min()), int(numbers.max())
    return str(low) if low == high else f"{low} to {high}"


@dataclass(frozen=True, eq=False)
class HorizonLabels:
    """Salt between a top and a base, in samples on the grid of a volume.

    Attributes:
        volume: the amplitudes.
        top, base: float64 (I, X), in samples from the first one; NaN where nothing was picked. Without a base salt goes
            on to the last sample.
    """

    volume: Volume
    top: np.ndarray
    base: np.ndarray | None
    said: list[str]

    def lines(self) -> list[Line]:
        return labelled_lines(self.volume, self._picked & self.volume.geometry.live, self.said)

    def on(self, line: Line) -> np.ndarray:
        sample = np.arange(self.volume.traces.samples)[:, None]
        labels = (sample >= along(self.top, line)).astype(np.int8)
        if self.base is not None:
            labels &= sample <= along(self.base, line)
        labels[:, ~along(self._picked, line)] = UNLABELLED
        return labels

    @property
    def _picked(self) -> np.ndarray:
        """Bool (I, X): where both were picked."""
        return np.isfinite(self.top) if self.base is None else np.isfinite(self.top) & np.isfinite(self.base)


def horizon_labels(volume: Volume, top: Path, base: Path | None = None) -> HorizonLabels:
    """Labels from horizons as CSV or text: columns inline, crossline and z, or their three numbers in this order.

    Args:
        volume: the amplitudes.
        top, base: of salt; z in ms, or the unit of depth, as the volume's.

    Raises:
        VolumeError: a file has no such columns, two picks at one place, or none in the volume; a base is above its top.
    """
    said: list[str] = []
    tops = _horizon(volume, top, said)
    bases = None if base is None else _horizon(volume, base, said)
    if bases is None:
        said.append("assumed: salt goes on from its top to the last sample (no --base)")
    elif (above := bases < tops).any():
        inline, crossline = np.argwhere(above)[0]
        place = (
            f"inline {_all(volume.geometry.inlines)[inline]}, crossline {_all(volume.geometry.crosslines)[crossline]}"
        )
        what = f"is above the top at {np.count_nonzero(above):,} places (first: {place})"
        raise _error(base, what, "exchange --top and --base, or correct the picks")
    return HorizonLabels(volume, tops, bases, said)


def _horizon(volume: Volume, path: Path, said: list[str]) -> np.ndarray:
    """A horizon's picks on the grid of a volume, in samples, float64 (I, X)."""
    geometry, table = volume.geometry, _table(path)
    rows = numbered(geometry.inlines, table["inline"])
    columns = numbered(geometry.crosslines, table["crossline"])
    inside = (rows >= 0) & (columns >= 0)
    if geometry.is_line and not inside.any():  # whatever number the line has elsewhere
        rows, inside = np.zeros_like(rows), columns >= 0
    samples = (table["z"].to_numpy() - volume.start) / volume.interval
    deep = (samples >= 0) & (samples <= volume.traces.samples - 1)
    if not (inside & deep).any():
        last = volume.start + (volume.traces.samples - 1) * volume.interval
        what = (
            f"has no pick in {volume.path.name} (inlines {_extent(_all(geometry.inlines))}, crosslines "
            f"{_extent(_all(geometry.crosslines))}, z from {volume.start:g} to {last:g}; its own: "
            f"{_extent(table['inline'])}, {_extent(table['crossline'])}, {table['z'].min():g} to {table['z'].max():g})"
        )
        raise _error(path, what, "give picks of the same survey, z downwards in its unit")
    if left := np.count_nonzero(~(inside & deep)):
        said.append(f"found: {left:,} of {len(table):,} picks in {path.name} are outside the volume: left out")
    kept = inside & deep
    if pd.DataFrame({"row": rows[kept], "column": columns[kept]}).duplicated().any():
        raise _error(path, "has two picks at one place", "give one horizon, with one pick for each trace")
    picks = np.full(geometry.traces.shape, np.nan)
    picks[rows[kept], columns[kept]] = samples[kept]
    return picks


def _table(path: Path) -> pd.DataFrame:
    """Columns inline, crossline (int64) and z of a file with such a header, or three numbers a line without one."""
    remedy = "write columns inline, crossline and z"
    names = ["inline", "crossline", "z"]
    try:
        text = path.read_text(encoding="utf-8-sig")
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
        separator = "," if lines and "," in lines[0] else r"\s+"
        has_header = bool(lines) and bool(re.search(r"[A-Za-z]{2}", lines[0]))
        body = io.StringIO("\n".join(lines))
        table = pd.read_csv(body, sep=separator, header=0 if has_header else None, skipinitialspace=True)
        if has_header:
            table = table.rename(columns=lambda name: str(name).strip().lower())
        elif table.shape[1] == 3:
            table.columns = names
        table = table[names].astype(np.float64).dropna()
    except KeyError as error:
        raise _error(path, "has no columns inline, crossline and z", remedy) from error
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise _error(path, f"cannot be read as a table of picks ({error})", remedy) from error
    if not len(table):
        raise _error(path, "holds no pick", remedy)
    if (table[names[:2]] % 1 != 0).any(axis=None):
        raise _error(path, "has line numbers that are not whole: coordinates are not read", remedy)
    return table.astype({"inline": np.int64, "crossline": np.int64})


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
        ranges: direction and numbers: ``100``, ``100:500`` or ``100:500:20``, the last one included.

    Raises:
        VolumeError: a range is malformed, or the volume has no such line.
    """
    geometry, found = volume.geometry, []
    for direction, text in ranges:
        option = f"--{direction}s"
        match = _RANGE.fullmatch(text)
        if match is None or match[3] == "0":
            raise _error(volume.path, f"{option} {text} names no lines", f"as in {option} 100:500:20")
        first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        axis = geometry.inlines if direction == "inline" else geometry.crosslines
        numbers = _all(axis)
        places = np.flatnonzero((numbers >= first) & (numbers <= last) & ((numbers - first) % step == 0))
        if geometry.is_line or not len(places):
            what = "is a 2D line" if geometry.is_line else f"has {direction}s {axis}, and none of {text}"
            raise _error(volume.path, what, f"name others with {option}, or leave it out")
        found += [line_at(geometry, direction, int(index)) for index in places]
    return found


def _error(path: Path, what: str, remedy: str) -> VolumeError:
    return VolumeError([Problem(str(path), what, remedy)])
