"""Traces of a file, read in blocks: memory is bounded by the block, whatever the size of the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from salt_ray.volume.problem import Problem, VolumeError
from salt_ray.volume.sample_format import SampleFormat

#: Bytes of a file that are read at once.
BLOCK_BYTES = 16 << 20


class Block(NamedTuple):
    """Neighbouring traces of a file.

    Attributes:
        first: number of the first one, from 0.
        values: float32 (traces, samples), finite.
        dead: bool (traces,), where all stored samples are 0 or none is a number.
    """

    first: int
    values: np.ndarray
    dead: np.ndarray


@dataclass(frozen=True)
class Traces:
    """Where the traces of a file are: each a header of so many bytes, then its samples.

    Attributes:
        path: the file.
        first_byte: where the first trace begins.
        header_bytes: length of a trace's header; 0 in an .npy file.
        format: what a sample is.
        samples: of each trace.
        count: of whole traces.
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
        """Samples as they are stored, (last - first, samples); both are numbers of traces in the file."""
        return self._records(first, last, np.dtype(f"V{self.header_bytes}"))["samples"]

    def read(self, first: int, last: int) -> np.ndarray:
        """Traces ``first`` to ``last - 1`` as float32 (last - first, samples), NaN and infinite values as they are."""
        return self.format.decode(self.words(first, last))

    def blocks(self, block_bytes: int = BLOCK_BYTES, fill: bool = False) -> Iterator[Block]:
        """All traces in the order of the file.

        Args:
            block_bytes: of the file, read at once. The peak of memory is about six times as much, with IBM floats.
            fill: put 0 where a value is NaN or infinite.

        Raises:
            VolumeError: a value is NaN or infinite, and ``fill`` is not set.
        """
        at_once = max(1, block_bytes // self.trace_bytes)
        for first in range(0, self.count, at_once):
            values = self.read(first, min(first + at_once, self.count))
            finite = np.isfinite(values)
            if not finite.all():
                if not fill:
                    trace, sample = (int(i) for i in np.argwhere(~finite)[0])
                    raise VolumeError([not_finite(self.path, f"trace {first + trace + 1:,}, sample {sample + 1:,}")])
                values[~finite] = 0
            yield Block(first, values, ~values.any(1))

    def headers(self, fields: np.dtype, block_bytes: int = BLOCK_BYTES) -> dict[str, np.ndarray]:
        """Fields of every trace's header, in the machine's byte order.

        The whole file is read: a request for each header takes longer, on a disk that reads ahead as on a network.

        Args:
            fields: a structured type of the header's size that names fields by their places in it.
            block_bytes: of the file, read at once.

        Returns:
            By name an array (count,), to be read only. One that is the same in all traces takes no memory for each.
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
        """Traces as they are stored, (last - first,) of two fields: header and samples."""
        record = np.dtype([("header", header), ("samples", self.format.word, (self.samples,))])
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self.first_byte + first * self.trace_bytes)
            records = np.fromfile(file, record, last - first)
        if len(records) < last - first:
            what = "has become shorter while it was read"
            raise VolumeError([Problem(str(self.path), what, "restore the file")])
        return records

    def sampled(self, most: int = 1000, most_bytes: int = BLOCK_BYTES) -> np.ndarray:
        """Numbers of up to ``most`` traces, spread evenly over the file, which together take up to ``most_bytes``."""
        number = max(1, min(most, most_bytes // self.trace_bytes, self.count))
        return np.unique(np.linspace(0, self.count - 1, number).astype(np.int64))


def not_finite(path: Path, where: str) -> Problem:
    """What is said of a value that is no number."""
    return Problem(str(path), f"holds values that are NaN or infinite (first: {where})", "--fill zero puts 0 there")
