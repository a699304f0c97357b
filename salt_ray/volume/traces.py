"""Traces of a file, read in blocks: memory is bounded by the block, not the file size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from salt_ray.volume.problem import Problem, VolumeError
from salt_ray.volume.sample_format import SampleFormat

#: Bytes read at once.
BLOCK_BYTES = 16 << 20
#: The same for selected traces; decoding takes about six times as much memory, conversion to greys four times.
READ_BYTES = 4 << 20
#: The same for headers only, which are small. Compared with one read per header: 1.5 to 7 times as fast from a disk;
#: from the cache 5 times with traces of 1 kB, 1.8 times with 4 kB, 0.7 times with 16 kB.
HEADER_READ_BYTES = 1 << 20
#: Gaps between selected traces are read if not larger than this: a separate read costs about as much.
GAP_BYTES = 1 << 16
#: Traces sampled to characterise a file.
_SAMPLED = 1000


class Block(NamedTuple):
    """Neighbouring traces of a file.

    Attributes:
        first: number of the first trace, from 0.
        values: float32 (traces, samples), finite.
        dead: bool (traces,), True where all stored samples are 0 or none is finite.
    """

    first: int
    values: np.ndarray
    dead: np.ndarray


@dataclass(frozen=True)
class Traces:
    """Layout of the traces of a file: each has a header, then its samples.

    Attributes:
        path: the file.
        first_byte: where the first trace begins.
        header_bytes: length of a trace header; 0 in an .npy file.
        format: sample format.
        samples: of each trace.
        count: number of complete traces.
    """

    path: Path
    first_byte: int
    header_bytes: int
    format: SampleFormat
    samples: int
    count: int

    @property
    def trace_bytes(self) -> int:
        return self.header_bytes + self.samples * self.format.word.itemsize

    def words(self, first: int, last: int) -> np.ndarray:
        """Stored samples of traces ``first`` to ``last - 1``, (last - first, samples)."""
        return self._records(first, last, np.dtype(f"V{self.header_bytes}"))["samples"]

    def read(self, first: int, last: int) -> np.ndarray:
        """Traces ``first`` to ``last - 1`` as float32 (last - first, samples); NaN and infinite values are kept."""
        return self.format.decode(self.words(first, last))

    def blocks(self, block_bytes: int = BLOCK_BYTES, fill: bool = False) -> Iterator[Block]:
        """All traces in file order.

        Args:
            block_bytes: bytes read at once. Peak memory is about six times as much with IBM floats.
            fill: replace NaN and infinite values by 0.

        Raises:
            VolumeError: a value is NaN or infinite, and ``fill`` is not set.
        """
        at_once = max(1, block_bytes // self.trace_bytes)
        for first in range(0, self.count, at_once):
            numbers = np.arange(first, min(first + at_once, self.count))
            values = self._finite(self.read(first, first + len(numbers)), numbers, fill)
            yield Block(first, values, ~values.any(1))

    def some(self, numbers: np.ndarray, fill: bool = False) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Read traces by their numbers, in file order; neighbouring ones are read together.

        Args:
            numbers: int64 (n,), trace numbers in the file; -1 for none.
            fill: replace NaN and infinite values by 0.

        Yields:
            Groups of traces: indices in ``numbers``, int64 (m,), and finite values, float32 (m, samples).

        Raises:
            VolumeError: a value is NaN or infinite, and ``fill`` is not set.
        """
        for places, first, last in self._near(numbers, READ_BYTES):
            wanted = numbers[places]
            yield places, self._finite(self.read(first, last)[wanted - first], wanted, fill)

    def raw_headers(self, numbers: np.ndarray) -> np.ndarray:
        """Trace headers as stored, uint8 (n, header_bytes).

        Args:
            numbers: int64 (n,), trace numbers in the file, none of them -1.
        """
        found = np.empty((len(numbers), self.header_bytes), np.uint8)
        if not self.header_bytes:
            return found
        stored = np.dtype((np.uint8, (self.header_bytes,)))
        for places, first, last in self._near(numbers, HEADER_READ_BYTES):
            found[places] = self._records(first, last, stored)["header"][numbers[places] - first]
        return found

    def _near(self, numbers: np.ndarray, read_bytes: int) -> Iterator[tuple[np.ndarray, int, int]]:
        """Groups of traces to fetch in one read: their indices in ``numbers``, first trace, and last trace + 1."""
        places = np.argsort(numbers, kind="stable")
        places = places[numbers[places] >= 0]
        wanted = numbers[places]
        gaps = np.flatnonzero(np.diff(wanted) > 1 + GAP_BYTES // self.trace_bytes) + 1
        at_once = max(1, read_bytes // self.trace_bytes)
        for start, stop in zip([0, *gaps], [*gaps, len(wanted)], strict=True):
            while start < stop:
                end = int(np.searchsorted(wanted[start:stop], wanted[start] + at_once)) + start
                yield places[start:end], int(wanted[start]), int(wanted[end - 1]) + 1
                start = end

    def _finite(self, values: np.ndarray, numbers: np.ndarray, fill: bool) -> np.ndarray:
        """Replace NaN and infinite values by 0 if ``fill``, else raise an error that locates the first one."""
        finite = np.isfinite(values)
        if not finite.all():
            if not fill:
                trace, sample = np.argwhere(~finite)[0]
                where = f"trace {numbers[trace] + 1:,}, sample {sample + 1:,}"
                raise VolumeError([not_finite(self.path, where)])
            values[~finite] = 0
        return values

    def headers(self, fields: np.dtype, block_bytes: int = BLOCK_BYTES) -> dict[str, np.ndarray]:
        """Fields of every trace's header, in the machine's byte order.

        Reads the whole file: one request per header is slower, both on disks with read-ahead and over a network.

        Args:
            fields: structured dtype of the header's size, with fields named by their first byte.
            block_bytes: bytes read at once.

        Returns:
            Read-only arrays (count,) by field name. A constant field is broadcast and takes no memory per trace.
        """
        same: dict[str, np.ndarray] = {}
        varied: dict[str, np.ndarray] = {}
        at_once = max(1, block_bytes // self.trace_bytes)
        for first in range(0, self.count, at_once):
            last = min(first + at_once, self.count)
            part = self._records(first, last, fields)["header"]
            for name in fields.names:
                numbers = part[name].astype(fields[name].newbyteorder("="))
                constant = same.setdefault(name, numbers[0])
                if name not in varied and (numbers != constant).any():
                    varied[name] = np.full(self.count, constant)
                if name in varied:
                    varied[name][first:last] = numbers
        return {name: varied.get(name, np.broadcast_to(same[name], self.count)) for name in fields.names}

    def _records(self, first: int, last: int, header: np.dtype) -> np.ndarray:
        """Traces as stored, (last - first,) with the fields header and samples."""
        record = np.dtype([("header", header), ("samples", self.format.word, (self.samples,))])
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self.first_byte + first * self.trace_bytes)
            records = np.fromfile(file, record, last - first)
        if len(records) < last - first:
            what = "became shorter while it was being read"
            raise VolumeError([Problem(str(self.path), what, "restore the file")])
        return records

    def sampled(self, share: float = 1) -> np.ndarray:
        """Numbers of up to 1,000 traces spread evenly over the file, at most 16 MiB in all; or a share of that
        number.
        """
        number = max(1, min(int(share * min(_SAMPLED, BLOCK_BYTES // self.trace_bytes)), self.count))
        return np.unique(np.linspace(0, self.count - 1, number).astype(np.int64))


def not_finite(path: Path, where: str) -> Problem:
    """The problem of a NaN or infinite value."""
    return Problem(
        str(path), f"holds values that are NaN or infinite (first: {where})", "use --fill zero to replace them by 0"
    )
