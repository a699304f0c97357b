"""Slabs, blocks of neighbouring lines that are read, predicted and stored at a time, so memory is bounded.

Letters: I inlines, K crosslines, S samples.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.lib import format as npy_format

from salt_ray.storage import readable, save_array
from salt_ray.survey.amplitudes import MIDDLE_GREY, GreyRange
from salt_ray.volume.problem import Problem, VolumeError
from salt_ray.volume.volume import Volume

Direction = Literal["inline", "crossline"]


@dataclass(frozen=True)
class Part:
    """A rectangle of a volume's grid (``Geometry.traces``); the last row and column are exclusive."""

    first_row: int
    last_row: int
    first_column: int
    last_column: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.last_row - self.first_row, self.last_column - self.first_column

    def of(self, grid: np.ndarray) -> np.ndarray:
        """The corresponding part of an array (I, K, …), as a view."""
        return grid[self.first_row : self.last_row, self.first_column : self.last_column]

    def lines(self, direction: Direction, count: int) -> list[Part]:
        """Split into parts of ``count`` whole lines each; the last one may have fewer."""
        if direction == "inline":
            firsts = range(self.first_row, self.last_row, count)
            return [Part(i, min(i + count, self.last_row), self.first_column, self.last_column) for i in firsts]
        firsts = range(self.first_column, self.last_column, count)
        return [Part(self.first_row, self.last_row, k, min(k + count, self.last_column)) for k in firsts]


@dataclass(frozen=True)
class Slab:
    """Lines predicted into one file: float32 (2, I, K, S), mean and spread of the models' probabilities."""

    direction: Direction
    part: Part
    path: Path

    def save(self, values: np.ndarray) -> None:
        """Write the file atomically."""
        save_array(self.path, values)

    def read(self, first_row: int, last_row: int, samples: int) -> np.ndarray:
        """Read some rows, float32 (2, last - first, K, S); rows are those of the volume's grid.

        Raises:
            RunError: the file is missing or damaged.
        """
        rows, columns = self.part.shape
        few = last_row - first_row
        found = np.empty((2, few, columns, samples), np.float32)
        with readable(self.path, self.path, "the same command"), open(self.path, "rb") as file:
            npy_format.read_magic(file)
            shape, fortran, word = npy_format.read_array_header_1_0(file)
            if (shape, fortran, word) != ((2, rows, columns, samples), False, np.dtype(np.float32)):
                raise ValueError("its shape or type is wrong")
            begin, row_bytes = file.tell(), columns * samples * found.itemsize
            for index, values in enumerate(found):
                file.seek(begin + (index * rows + first_row - self.part.first_row) * row_bytes)
                if file.readinto(values) < values.nbytes:
                    raise ValueError("it is truncated")
            if not ((found >= 0) & (found <= 1)).all():
                raise ValueError("it holds values outside 0 to 1")
        return found


def read_greys(volume: Volume, numbers: np.ndarray, greys: GreyRange) -> tuple[np.ndarray, np.ndarray]:
    """Read traces as the greys that networks take as input.

    Args:
        numbers: int64 (I, K), trace numbers in the file; -1 where there is no trace.
        greys: the range of amplitudes mapped to 0 to 255.

    Returns:
        uint8 (I, K, S), and bool (I, K), True for live traces. Missing and dead traces are middle grey, as in training.

    Raises:
        VolumeError: a value is NaN or infinite, and the volume's ``fill`` is not set.
    """
    found = np.full((numbers.size, volume.traces.samples), MIDDLE_GREY, np.uint8)
    live = np.zeros(numbers.size, bool)
    for places, values in volume.traces.some(numbers.ravel(), volume.fill):
        alive = values.any(1)
        found[places[alive]] = greys.greys(values[alive])
        live[places] = alive
    return found.reshape(*numbers.shape, -1), live.reshape(numbers.shape)


def read_values(volume: Volume, numbers: np.ndarray) -> np.ndarray:
    """Read traces by their numbers in the file, int64 (n,): float32 (n, S); 0 where it is -1. Raises likewise."""
    found = np.zeros((len(numbers), volume.traces.samples), np.float32)
    for places, values in volume.traces.some(numbers, volume.fill):
        found[places] = values
    return found


def fingerprint(volume: Volume) -> str:
    """Hash that identifies a volume and its content, without reading all of it.

    SHA-256 of its size, its file headers, the positions of all traces, and up to 1,000 traces with their headers.

    Raises:
        VolumeError: the file cannot be read.
    """
    traces = volume.traces
    try:
        digest = hashlib.sha256(str(volume.path.stat().st_size).encode())
        with open(volume.path, "rb") as file:
            digest.update(file.read(traces.first_byte))
            for number in traces.sampled().tolist():
                file.seek(traces.first_byte + number * traces.trace_bytes)
                digest.update(file.read(traces.trace_bytes))
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        raise VolumeError([Problem(str(volume.path), what, "put it where all machines can access it")]) from error
    if volume.geometry is not None:
        digest.update(np.ascontiguousarray(volume.geometry.traces).data)
    return digest.hexdigest()
