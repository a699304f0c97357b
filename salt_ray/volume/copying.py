"""Copies of a volume's file with other samples. All header bytes are kept, except the sample format.

Traces keep their order, so software that reads the volume reads the copy with the same geometry.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy_format

from salt_ray.storage import atomic_file
from salt_ray.volume.slabs import Part
from salt_ray.volume.volume import Volume

#: SEG-Y codes of the formats that are written.
_CODES = {np.dtype(np.float32): 5, np.dtype(np.int8): 8}
_CODE_BYTES = slice(3224, 3226)


class Copying:
    """Writes files with the traces of a volume, or of a part of it.

    Args:
        part: traces outside it are left out. Dead traces without a position are kept only if it is the whole volume.
    """

    def __init__(self, volume: Volume, part: Part) -> None:
        self._volume, self._part = volume, part
        grid = volume.geometry.traces
        if part.shape == grid.shape:
            self._numbers, self.unplaced = None, volume.geometry.unplaced
        else:
            chosen = part.of(grid)
            self._numbers, self.unplaced = np.sort(chosen[chosen >= 0]), np.empty(0, np.int64)

    @property
    def suffix(self) -> str:
        """File name suffix."""
        return ".sgy" if self._volume.kind == "SEG-Y" else ".npy"

    @property
    def count(self) -> int:
        """Number of traces in a file."""
        return self._volume.traces.count if self._numbers is None else len(self._numbers)

    def headers(self, numbers: np.ndarray) -> np.ndarray:
        """Headers uint8 (n, 240) of traces, given their numbers in the volume; (n, 0) for a cube, which has none."""
        return self._volume.traces.raw_headers(numbers)

    @contextlib.contextmanager
    def file(self, path: Path, dtype: type) -> Iterator[Copy]:
        """Open a file for all traces; it appears under its name when the block ends without an error.

        Args:
            dtype: of the samples, float32 or int8.
        """
        traces = self._volume.traces
        order = ">" if self._volume.byte_order == "big" and self.suffix == ".sgy" else "<"
        word = np.dtype(dtype).newbyteorder(order)
        head = self._head(word)
        record = np.dtype([("header", np.uint8, (traces.header_bytes,)), ("samples", word, (traces.samples,))])
        with atomic_file(path) as file:
            file.write(head)
            yield Copy(file, len(head), record, self._numbers)

    def _head(self, word: np.dtype) -> bytes:
        """The bytes before the first trace."""
        traces = self._volume.traces
        if self.suffix == ".npy":
            return self._array_header(word)
        with open(self._volume.path, "rb") as file:
            head = bytearray(file.read(traces.first_byte))
        code = _CODES[word.newbyteorder("=")]
        head[_CODE_BYTES] = code.to_bytes(2, self._volume.byte_order)
        return bytes(head)

    @property
    def _axes(self) -> tuple[int, ...]:
        """Shape of the volume's array."""
        return np.load(self._volume.path, mmap_mode="r", allow_pickle=False).shape

    @property
    def _turned(self) -> bool:
        """Whether the volume is a line along the first axis of its array."""
        return len(self._axes) == 3 and self._axes[1] == 1 and self._volume.geometry.is_line

    def geometry(self) -> str:
        """The JSON file that goes with an array: line numbers, interval and start (``salt_ray.volume.cube``)."""
        volume, part = self._volume, self._part
        inlines, crosslines = (
            {"first": axis.first + first * axis.step, "step": axis.step}
            for axis, first in (
                (volume.geometry.inlines, part.first_row),
                (volume.geometry.crosslines, part.first_column),
            )
        )
        if self._turned:
            inlines, crosslines = crosslines, inlines
        fields = {"inlines": inlines, "crosslines": crosslines, "interval": volume.interval, "start": volume.start}
        return json.dumps(fields)

    def _array_header(self, word: np.dtype) -> bytes:
        """NPY header of an array with as many axes as the volume."""
        axes, (rows, columns) = self._axes, self._part.shape
        if self._turned:
            rows, columns = columns, rows
        shape = (rows, columns, axes[-1]) if len(axes) == 3 else (columns, axes[-1])
        head = io.BytesIO()
        fields = {"descr": npy_format.dtype_to_descr(word), "fortran_order": False, "shape": shape}
        npy_format.write_array_header_1_0(head, fields)
        return head.getvalue()


@dataclass(frozen=True)
class Copy:
    """A file being written; ``numbers`` are the sorted numbers of its traces in the volume, None for all traces."""

    file: BinaryIO
    first_byte: int
    record: np.dtype
    numbers: np.ndarray | None

    def write(self, numbers: np.ndarray, headers: np.ndarray, samples: np.ndarray) -> None:
        """Write traces at their positions in the file.

        Args:
            numbers: int64 (n,), increasing, of traces in the volume.
            headers: uint8 (n, 240).
            samples: (n, S).
        """
        records = np.empty(len(numbers), self.record)
        records["header"], records["samples"] = headers, samples
        places = numbers if self.numbers is None else np.searchsorted(self.numbers, numbers)
        breaks = np.flatnonzero(np.diff(places) != 1) + 1
        for first, last in zip([0, *breaks], [*breaks, len(places)], strict=True):
            if first < last:
                self.file.seek(self.first_byte + int(places[first]) * self.record.itemsize)
                self.file.write(records[first:last].tobytes())
