"""Writes the results of slabs: probability, mask and spread in the volume's traces, horizons and bodies.

Works on a few inlines at a time, whatever directions were predicted.

Letters: I inlines, K crosslines, S samples, n traces.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from salt_ray.storage import atomic_file
from salt_ray.volume.bodies import Bodies
from salt_ray.volume.copying import Copy, Copying
from salt_ray.volume.headers import Field, scaled_coordinates, trace_fields
from salt_ray.volume.horizons import top_and_base
from salt_ray.volume.slabs import Direction, Part, Slab
from salt_ray.volume.volume import Volume

#: Bytes of memory per sample of the inlines in memory: two directions, output, and labels of bodies.
_SAMPLE_BYTES = 64
#: Dead traces without a position that are written at a time.
_UNPLACED_AT_ONCE = 4096
HORIZONS = ("top.csv", "base.csv", "top.xyz")
TALLIES = ("lines.csv", "depths.csv")


@dataclass
class Assembled:
    """Running totals."""

    traces: int = 0
    salt: int = 0
    with_salt: int = 0
    bodies: Bodies = field(default_factory=Bodies)


class Tally:
    """For every inline, crossline and depth: number of live samples, number of salt samples, and sum of spreads.

    Inlines are added one by one, so that sums do not depend on how many are in memory at a time.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.live, self.salt, self.spread = ([np.zeros(length) for length in shape] for _ in range(3))

    def add(self, row: int, values: Mapping[str, np.ndarray]) -> None:
        """Add the next inlines, arrays (n, K, S); ``row`` is the index of the first one."""
        for inline, probability in enumerate(values["probability"], start=row):
            alive = probability.any(1)
            self._add(self.live, inline, np.broadcast_to(alive[:, None], probability.shape))
            self._add(self.salt, inline, values["mask"][inline - row])
            self._add(self.spread, inline, values["spread"][inline - row])

    @staticmethod
    def _add(sums: list[np.ndarray], inline: int, section: np.ndarray) -> None:
        by_crossline = section.sum(1, dtype=np.float64)
        sums[0][inline] = by_crossline.sum()
        sums[1] += by_crossline
        sums[2] += section.sum(0, dtype=np.float64)

    def rows(self, axis: int, names: Sequence[str]) -> str:
        """Rows of a table: name, number of live samples, their share of salt, mean spread; dead lines are skipped."""
        live, salt, spread = (sums[axis] for sums in (self.live, self.salt, self.spread))
        return "".join(
            f"{name},{int(live[i])},{salt[i] / live[i]:.6f},{spread[i] / live[i]:.6f}\n"
            for i, name in enumerate(names)
            if live[i]
        )


def assemble(
    volume: Volume,
    part: Part,
    slabs: Mapping[Direction, Sequence[Slab]],
    threshold: float,
    to: Path,
    memory: int,
    advance: Callable[[int], None] = lambda inlines: None,
) -> dict[str, Any]:
    """Write all results; the files appear together when all are complete.

    Args:
        part: the part that was predicted.
        slabs: the slabs of the part, by direction.
        threshold: samples with a higher probability are salt.
        to: output folder.
        memory: limit in bytes.
        advance: called with the number of inlines just written.

    Returns:
        Totals for the summary.

    Raises:
        RunError: a slab is missing or damaged.
    """
    copying, counted = Copying(volume, part), Assembled()
    tally = Tally((*part.shape, volume.traces.samples))
    kinds = {"probability": np.float32, "mask": np.int8, "spread": np.float32}
    if len(slabs) == 2:
        kinds["difference"] = np.float32
    columns, samples = part.shape[1], volume.traces.samples
    at_once = max(1, memory // (columns * samples * _SAMPLE_BYTES))
    with contextlib.ExitStack() as stack:
        copies = {
            name: stack.enter_context(copying.file(to / f"{name}{copying.suffix}", kind))
            for name, kind in kinds.items()
        }
        tables = {name: stack.enter_context(atomic_file(to / name)) for name in _horizon_files(volume)}
        for name in kinds if copying.suffix == ".npy" else ():
            stack.enter_context(atomic_file(to / f"{name}.json")).write(copying.geometry().encode())
        for name, table in tables.items():
            if name.endswith(".csv"):
                table.write(b"inline,crossline,x,y,z\n")
        for first in range(part.first_row, part.last_row, at_once):
            last = min(first + at_once, part.last_row)
            rows = Part(first, last, part.first_column, part.last_column)
            values = _values(slabs, rows, samples, threshold)
            _write(volume, copying, rows, values, copies, tables, threshold, counted)
            counted.bodies.add(values["mask"].astype(bool), first - part.first_row)
            tally.add(first - part.first_row, values)
            advance(last - first)
        _write_unplaced(copying, copies, samples)
        bodies = _write_bodies(volume, part, counted.bodies, stack.enter_context(atomic_file(to / "bodies.csv")))
        for name, table in _tally_tables(volume, part, tally).items():
            stack.enter_context(atomic_file(to / name)).write(table.encode())
    return {
        "files": sorted([*(f"{name}{copying.suffix}" for name in kinds), *tables, "bodies.csv", *TALLIES]),
        "traces": copying.count,
        "samples": samples,
        "share_of_salt": counted.salt / max(1, counted.traces * samples),
        "traces_with_salt": counted.with_salt,
        **bodies,
    }


def _values(
    slabs: Mapping[Direction, Sequence[Slab]], rows: Part, samples: int, threshold: float
) -> dict[str, np.ndarray]:
    """Values to write for some inlines, each (I, K, S)."""
    each = [_read(of_direction, rows, samples) for of_direction in slabs.values()]
    if len(each) == 1:
        probability, spread = each[0]
        return {"probability": probability, "spread": spread, "mask": (probability > threshold).astype(np.int8)}
    (first, first_spread), (second, second_spread) = each
    probability = (first + second) / 2
    return {
        "probability": probability,
        "mask": (probability > threshold).astype(np.int8),
        "spread": np.sqrt((first_spread**2 + second_spread**2) / 2),
        "difference": first - second,
    }


def _read(slabs: Sequence[Slab], rows: Part, samples: int) -> np.ndarray:
    """Mean and spread of some inlines, float32 (2, I, K, S)."""
    found = np.empty((2, *rows.shape, samples), np.float32)
    for slab in slabs:
        first, last = max(slab.part.first_row, rows.first_row), min(slab.part.last_row, rows.last_row)
        if first < last:
            columns = slice(slab.part.first_column - rows.first_column, slab.part.last_column - rows.first_column)
            found[:, first - rows.first_row : last - rows.first_row, columns] = slab.read(first, last, samples)
    return found


def _write(
    volume: Volume,
    copying: Copying,
    rows: Part,
    values: Mapping[str, np.ndarray],
    copies: Mapping[str, Copy],
    tables: Mapping[str, BinaryIO],
    threshold: float,
    counted: Assembled,
) -> None:
    """Append some inlines to all files."""
    numbers = rows.of(volume.geometry.traces)
    present = numbers >= 0
    inlines, crosslines = np.nonzero(present)
    numbers = numbers[present]
    headers, order = copying.headers(numbers), np.argsort(numbers)
    for name, copy in copies.items():
        copy.write(numbers[order], headers[order], values[name][present][order])
    top, base = top_and_base(values["probability"][present], threshold)
    geometry = volume.geometry
    places = np.stack(
        [
            geometry.inlines.first + (rows.first_row + inlines) * geometry.inlines.step,
            geometry.crosslines.first + (rows.first_column + crosslines) * geometry.crosslines.step,
        ]
    )
    coordinates = _coordinates(volume, headers)
    for name, samples in (("top.csv", top), ("base.csv", base)):
        tables[name].write("".join(_rows(volume, places, coordinates, samples)).encode())
    if "top.xyz" in tables:
        tables["top.xyz"].write("".join(_points(volume, coordinates, top)).encode())
    counted.traces += len(numbers)
    counted.with_salt += int(np.isfinite(top).sum())
    counted.salt += int(np.count_nonzero(values["mask"][present]))


def _write_unplaced(copying: Copying, copies: Mapping[str, Copy], samples: int) -> None:
    """Write zeros to dead traces without a position, which keep their place in the file."""
    numbers = np.sort(copying.unplaced)
    for start in range(0, len(numbers), _UNPLACED_AT_ONCE):
        few = numbers[start : start + _UNPLACED_AT_ONCE]
        headers = copying.headers(few)
        for copy in copies.values():
            copy.write(few, headers, np.zeros((len(few), samples), np.float32))


def _horizon_files(volume: Volume) -> tuple[str, ...]:
    return HORIZONS if volume.coordinates is not None else HORIZONS[:2]


def _coordinates(volume: Volume, headers: np.ndarray) -> np.ndarray | None:
    """X and y of traces, float64 (2, n), in the unit of the coordinates; None without coordinates."""
    if volume.coordinates is None:
        return None
    order = {"big": ">", "little": "<"}[volume.byte_order]
    fields = trace_fields((Field.COORDINATE_SCALAR, *volume.coordinates.bytes), order)
    return scaled_coordinates(np.ascontiguousarray(headers).view(fields)[:, 0], volume.coordinates.bytes)


def _rows(volume: Volume, places: np.ndarray, coordinates: np.ndarray | None, samples: np.ndarray) -> Iterator[str]:
    """CSV rows of a horizon: places int64 (2, n), samples float64 (n,), NaN without salt."""
    for trace in np.flatnonzero(np.isfinite(samples)).tolist():
        x, y = ("", "") if coordinates is None else (f"{axis[trace]:.2f}" for axis in coordinates)
        z = volume.start + samples[trace] * volume.interval
        yield f"{places[0, trace]},{places[1, trace]},{x},{y},{z:.4f}\n"


def _points(volume: Volume, coordinates: np.ndarray, samples: np.ndarray) -> Iterator[str]:
    """Lines ``x y z`` of a horizon."""
    for trace in np.flatnonzero(np.isfinite(samples)).tolist():
        x, y = coordinates[:, trace]
        yield f"{x:.2f} {y:.2f} {volume.start + samples[trace] * volume.interval:.4f}\n"


def _write_bodies(volume: Volume, part: Part, bodies: Bodies, table: BinaryIO) -> dict[str, int]:
    """Write one row per body: number, samples, and first and last inline, crossline and z. Returns totals."""
    geometry, number, largest = volume.geometry, 0, 0
    table.write(b"body,samples,inline_first,inline_last,crossline_first,crossline_last,z_first,z_last\n")
    for number, body in enumerate(bodies.found(), start=1):
        largest = max(largest, body.samples)
        ends = []
        for row, column, sample in (body.first, body.last):
            inline = geometry.inlines.first + (part.first_row + row) * geometry.inlines.step
            crossline = geometry.crosslines.first + (part.first_column + column) * geometry.crosslines.step
            ends.append((inline, crossline, f"{volume.start + sample * volume.interval:.4f}"))
        extent = ",".join(f"{first},{last}" for first, last in zip(*ends, strict=True))
        table.write(f"{number},{body.samples},{extent}\n".encode())
    return {"bodies": number, "largest_body": largest}


def _tally_tables(volume: Volume, part: Part, tally: Tally) -> dict[str, str]:
    """Share of salt and mean spread of each line, and at each depth."""
    geometry, lines = volume.geometry, "direction,line,samples,salt,spread\n"
    axes = [("inline", geometry.inlines, part.first_row), ("crossline", geometry.crosslines, part.first_column)]
    for axis, (direction, numbering, first) in enumerate(axes[: 1 if geometry.is_line else 2]):
        numbers = numbering.first + (first + np.arange(part.shape[axis])) * numbering.step
        lines += tally.rows(axis, [f"{direction},{number}" for number in numbers.tolist()])
    depths = volume.start + np.arange(volume.traces.samples) * volume.interval
    return dict(
        zip(TALLIES, (lines, "z,samples,salt,spread\n" + tally.rows(2, [f"{z:.4f}" for z in depths])), strict=True)
    )
