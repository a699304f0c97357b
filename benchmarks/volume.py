"""Traces of a SEG-Y file read by blocks as float32, against segyio with the same blocks. Target: as fast, which
int8 is (1.6 times) and IBM floats are not (0.77 times; two busy cores, n = 5 each).

Both look for values that are no numbers and for dead traces, as whoever reads a volume has to.

The file is a synthetic volume of 144 MB (IBM floats), its truth has 48 MB (int8); both are warm. Beside them: what a
file is judged by, the headers of all traces, which segyio leaves to its caller.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import segyio

from benchmarks.harness import alternate, figure, row
from salt_ray.volume.scan import open_volume
from salt_ray.volume.synthetic_survey import write_synthetic_volume
from salt_ray.volume.traces import BLOCK_BYTES
from salt_ray.volume.volume import Volume

_SIZE = {"inlines": 210, "crosslines": 320, "samples": 500}
_RUNS = 5


def measure() -> list[dict]:
    """Microseconds a trace, megabytes of the file a second, and what a scan takes."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="salt-ray-volume-") as folder:
        write_synthetic_volume(Path(folder) / "made", **_SIZE)
        for name in ("amplitudes", "truth"):
            volume = open_volume(Path(folder) / "made" / f"{name}.sgy")
            count, megabytes = volume.traces.count, volume.path.stat().st_size / 1e6
            equal = all(
                np.array_equal(ours.view(np.uint32), theirs.view(np.uint32))
                for ours, theirs in zip(_ours(volume), _segyio(volume), strict=True)
            )
            ours, theirs = alternate(lambda v=volume: _drain(_ours(v)), lambda v=volume: _drain(_segyio(v)), _RUNS)
            what = f"{count:,} traces of {volume.traces.format.name}"
            rows.append(
                row(
                    f"read {what} (peer: segyio)",
                    *([run / count for run in runs] for runs in (ours, theirs)),
                    "us/trace",
                    equal,
                )
            )
            rows.append(figure(f"read {what}", [megabytes / run for run in ours], "MB/s"))
            seconds = []
            for _ in range(_RUNS):
                start = time.perf_counter()
                open_volume(volume.path)
                seconds.append(time.perf_counter() - start)
            rows.append(figure(f"judge {what}", [run / count * 1e6 for run in seconds], "us/trace"))
    return rows


def _ours(volume: Volume) -> Iterator[np.ndarray]:
    for block in volume.blocks():
        yield block.values


def _segyio(volume: Volume) -> Iterator[np.ndarray]:
    """The same blocks of traces."""
    at_once = max(1, BLOCK_BYTES // volume.traces.trace_bytes)
    with segyio.open(volume.path, ignore_geometry=True) as file:
        for first in range(0, volume.traces.count, at_once):
            last = min(first + at_once, volume.traces.count)
            values = file.trace.raw[first:last].astype(np.float32, copy=False)
            assert np.isfinite(values).all() and values.any(1).any()
            yield values


def _drain(blocks: Iterator[np.ndarray]) -> None:
    for _ in blocks:
        pass
