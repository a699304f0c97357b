"""Labels from picked horizons: salt between its top and its base.

Letters: I inlines and X crosslines of a volume, H samples, n picks.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from salt_ray.metric import UNLABELLED
from salt_ray.survey.window import Line
from salt_ray.volume.labels import labelled_lines
from salt_ray.volume.lines import along, extent, numbered, numbers_on, trace_coordinates
from salt_ray.volume.problem import Problem, VolumeError
from salt_ray.volume.volume import Volume

_LINES, _COORDINATES = ["inline", "crossline", "z"], ["x", "y", "z"]
#: Provisional column names of a file without a header.
_UNNAMED = ["first", "second", "z"]
_FORMAT = "write columns inline, crossline and z, or x, y and z"


@dataclass(frozen=True, eq=False)
class PickedLabels:
    """Salt between a top and a base, on the grid of a volume; traces without a pick are not labelled.

    Attributes:
        volume: the amplitudes.
        top, base: float64 (I, X), in samples from the first one; NaN where nothing was picked. Without a base, salt
            continues to the last sample.
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
        """Bool (I, X): where top and base were picked."""
        return np.isfinite(self.top) if self.base is None else np.isfinite(self.top) & np.isfinite(self.base)


def picked_labels(volume: Volume, top: Path, base: Path | None = None) -> PickedLabels:
    """Read labels from horizons, CSV or text with a header: inline, crossline and z, or x, y and z.

    Without a header, the first two of three columns are line numbers if the volume has such lines, else coordinates.

    Args:
        volume: the amplitudes.
        top, base: horizons; z increases downwards, in the volume's unit (ms or depth).

    Raises:
        VolumeError: a file has other columns, two picks at one trace, or no pick in the volume; a base is above its
            top.
    """
    said: list[str] = []
    tops = _horizon(volume, top, said)
    bases = None if base is None else _horizon(volume, base, said)
    if bases is None:
        said.append("assumed: salt continues from its top to the last sample (no --base)")
    elif (above := bases < tops).any():
        row, column = np.argwhere(above)[0]
        inline, crossline = (numbers_on(axis) for axis in (volume.geometry.inlines, volume.geometry.crosslines))
        where = f"first: inline {inline[row]}, crossline {crossline[column]}"
        what = f"is above the top at {np.count_nonzero(above):,} traces ({where})"
        raise _error(base, what, "swap --top and --base, or correct the picks")
    return PickedLabels(volume, tops, bases, said)


def _horizon(volume: Volume, path: Path, said: list[str]) -> np.ndarray:
    """A horizon's picks on the grid of a volume, float64 (I, X), in samples."""
    geometry, table = volume.geometry, _table(path)
    rows, columns = _places(volume, path, table, said)
    samples = (table["z"].to_numpy() - volume.start) / volume.interval
    kept = (rows >= 0) & (samples >= 0) & (samples <= volume.traces.samples - 1)
    if not kept.any():
        last = volume.start + (volume.traces.samples - 1) * volume.interval
        inlines, crosslines = (extent(numbers_on(axis)) for axis in (geometry.inlines, geometry.crosslines))
        own = ", ".join(f"{name} {extent(table[name])}" for name in table)
        what = (
            f"has no pick in {volume.path.name} (inlines {inlines}, crosslines {crosslines}, z {volume.start:g} to "
            f"{last:g}); the picks have {own}"
        )
        raise _error(path, what, "give picks of the same survey, with z increasing downwards in the volume's unit")
    if left := np.count_nonzero(~kept):
        said.append(f"found: {left:,} of {len(table):,} picks in {path.name} are outside the volume and were left out")
    picks = np.full(geometry.traces.shape, np.nan)
    picks[rows[kept], columns[kept]] = samples[kept]
    if np.count_nonzero(np.isfinite(picks)) < np.count_nonzero(kept):
        raise _error(path, "has two picks at one trace", "give one horizon, with one pick per trace")
    return picks


def _places(volume: Volume, path: Path, table: pd.DataFrame, said: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each pick on the volume's grid, int64 (n,) each; -1 outside it."""
    names = list(table)
    if names != _COORDINATES:
        numbers = table[names[:2]]
        if (numbers % 1 == 0).all(axis=None):
            geometry = volume.geometry
            rows = numbered(geometry.inlines, numbers[names[0]])
            columns = numbered(geometry.crosslines, numbers[names[1]])
            if geometry.is_line:  # whatever number the picks give the line
                rows = np.zeros_like(columns)
            inside = (rows >= 0) & (columns >= 0)
            if inside.any() or names == _LINES:
                return np.where(inside, rows, -1), columns
        elif names == _LINES:
            raise _error(path, "has line numbers that are not integers", _FORMAT)
        if volume.coordinates is not None:
            said.append(f"assumed: the first two columns of {path.name} are coordinates, as no line has these numbers")
    return _by_coordinates(volume, path, table[names[:2]].to_numpy())


def _by_coordinates(volume: Volume, path: Path, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the trace nearest to each point (n, 2), within half a bin's diagonal."""
    from scipy.spatial import cKDTree

    if volume.coordinates is None or volume.coordinates.spacing is None:
        remedy = "write columns inline, crossline and z"
        raise _error(path, f"has coordinates, but {volume.path.name} has none that match its line numbers", remedy)
    where = trace_coordinates(volume)
    rows, columns = np.nonzero(np.isfinite(where).all(axis=2))
    reach = 0.5001 * np.hypot(*(side or 0.0 for side in volume.coordinates.spacing))  # a 2D line has one spacing
    apart, nearest = cKDTree(where[rows, columns]).query(points, distance_upper_bound=reach)
    inside = np.isfinite(apart)
    nearest = np.where(inside, nearest, 0)
    return np.where(inside, rows[nearest], -1), columns[nearest]


def _table(path: Path) -> pd.DataFrame:
    """The picks in a file, float64; columns as in one of the three lists above."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
        separator = "," if lines and "," in lines[0] else r"\s+"
        named = bool(lines) and not _is_number(lines[0].replace(",", " ").split()[0])
        body = io.StringIO("\n".join(lines))
        table = pd.read_csv(body, sep=separator, header=0 if named else None, skipinitialspace=True)
        if named:
            table = table.rename(columns=lambda name: str(name).strip().lower())
        elif table.shape[1] == 3:
            table.columns = _UNNAMED
        columns = next((names for names in (_LINES, _COORDINATES, _UNNAMED) if set(names) <= set(table)), [])
        table = table[columns].astype(np.float64).dropna()
    except (OSError, ValueError) as error:  # pandas' errors are ValueErrors
        raise _error(path, f"cannot be read as a table of picks ({error})", _FORMAT) from error
    if not columns:
        raise _error(path, "lacks columns inline, crossline and z, or x, y and z", _FORMAT)
    if not len(table):
        raise _error(path, "holds no picks", _FORMAT)
    return table


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _error(path: Path, what: str, remedy: str) -> VolumeError:
    return VolumeError([Problem(str(path), what, remedy)])
