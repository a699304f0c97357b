"""Traces of a SEG-Y file read by blocks as float32, against segyio with the same blocks. Target: as fast, which
int8 is (1.6 times) and IBM floats are not (0.77 times; two busy cores, n = 5 each).

Both look for values that are no numbers and for dead traces, as whoever reads a volume has to.

The file is a synthetic volume of 144 MB (IBM floats), its truth has 48 MB (int8); both are warm. Beside them: what a
file is judged by, the headers of all traces, which segyio leaves to its caller.

Then what ``volume predict`` does with some inlines, against a plain loop over the same windows: eager PyTorch, channels
last, the same batches, flip and network, and the same blending in numpy. Both read, and join to the same probabilities.
At last how fast slabs become files, in megabytes of these.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import segyio
import torch

from benchmarks.harness import alternate, figure, per_tile, row
from experiments.from_scratch import experiment as small_experiment
from salt_ray.inference.predict import Models
from salt_ray.model.acceleration import forward_batch
from salt_ray.model.network import build_network
from salt_ray.pipeline.assembly import assemble
from salt_ray.pipeline.slabs import SlabWork
from salt_ray.survey.amplitudes import GreyRange
from salt_ray.survey.padding import Frame
from salt_ray.training.checkpoint import CheckpointFolder
from salt_ray.volume.blending import window_starts, window_weights
from salt_ray.volume.scan import open_volume
from salt_ray.volume.slabs import Part, Slab, fingerprint, read_greys
from salt_ray.volume.synthetic_survey import write_synthetic_volume
from salt_ray.volume.traces import BLOCK_BYTES
from salt_ray.volume.volume import Volume

_SIZE = {"inlines": 210, "crosslines": 320, "samples": 500}
_RUNS = 5
_WINDOW, _STEP, _LINES = 128, 64, 2
_ASSEMBLED, _MEMORY = 60, 512 << 20  # inlines that become files, and bytes that this may take


def measure_on(device: torch.device) -> list[dict]:
    """Reading, then predicting and writing."""
    with tempfile.TemporaryDirectory(prefix="salt-ray-volume-") as folder:
        write_synthetic_volume(Path(folder) / "made", **_SIZE)
        volume = open_volume(Path(folder) / "made" / "amplitudes.sgy")
        return [*_reading(Path(folder)), *_predicting(volume, Path(folder), device), _assembling(volume, Path(folder))]


def _reading(folder: Path) -> list[dict]:
    """Microseconds a trace, megabytes of the file a second, and what a scan takes."""
    rows = []
    for name in ("amplitudes", "truth"):
        volume = open_volume(folder / "made" / f"{name}.sgy")
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


def _predicting(volume: Volume, folder: Path, device: torch.device) -> list[dict]:
    """Milliseconds a window, and windows a second."""
    experiment = small_experiment()
    torch.manual_seed(0)
    network = build_network(experiment.network.replace(pretrained=False))
    checkpoints = CheckpointFolder(folder / "model")
    checkpoints.save(1, {"network": network.state_dict()}, best=True)
    weights = ((checkpoints.best_path,),)
    greys = GreyRange(*np.percentile(volume.traces.read(0, 1000), (1, 99)).tolist())
    work = SlabWork(experiment, (), volume, fingerprint(volume), weights, greys, _WINDOW, _STEP)
    slab = Slab("inline", Part(100, 100 + _LINES, 0, _SIZE["crosslines"]), folder / "slab.npy")
    models = Models(experiment, Frame(_WINDOW, _WINDOW, _WINDOW), device)
    network.to(device, memory_format=torch.channels_last).eval()
    bell, batch = window_weights(_WINDOW), min(experiment.prediction.batch_size, forward_batch(device))

    @torch.inference_mode()
    def plain() -> np.ndarray:
        seen, live = read_greys(volume, slab.part.of(volume.geometry.traces), greys)
        lines = []
        for section, alive in zip(seen.swapaxes(1, 2), live, strict=True):
            rows, columns = (window_starts(length, _WINDOW, _STEP) for length in section.shape)
            places = [np.s_[row : row + _WINDOW, column : column + _WINDOW] for row in rows for column in columns]
            sums, total = np.zeros(section.shape), np.zeros(section.shape)
            for start in range(0, len(places), batch):
                few = places[start : start + batch]
                images = torch.from_numpy(np.stack([section[place] for place in few]) / np.float32(255))[:, None]
                images = images.to(device, memory_format=torch.channels_last)
                straight = network(images).mask_logits.sigmoid()
                flipped = network(images.flip(-1)).mask_logits.sigmoid().flip(-1)
                for place, answer in zip(few, ((straight + flipped) / 2).cpu().numpy(), strict=True):
                    sums[place] += bell * answer
                    total[place] += bell
            lines.append(np.where(alive, sums / total, 0).T)
        return np.stack(lines)

    def ours() -> np.ndarray:
        return work.predicted(slab, models.pixels)[0]

    name = f"predict {work.windows(slab)} windows of {_WINDOW} px (peer: plain PyTorch)"
    tolerance = 1e-4 if experiment.precision == "fp32" else 5e-2
    equal = np.allclose(ours(), plain(), atol=tolerance)
    seconds, peer = (per_tile(each, work.windows(slab)) for each in alternate(ours, plain, _RUNS))
    return [
        row(name, seconds, peer, "ms/window", equal),
        figure(name, [1 / each for each in seconds], "windows/s"),
    ]


def _assembling(volume: Volume, folder: Path) -> dict:
    """Megabytes of probability, spread and mask a second."""
    part = Part(0, _ASSEMBLED, 0, _SIZE["crosslines"])
    seen, _ = read_greys(volume, part.of(volume.geometry.traces), GreyRange(-1, 1))
    slab = Slab("inline", part, folder / "slab.npy")
    slab.save(np.stack([seen, seen]) / np.float32(255))
    rates = []
    for _ in range(_RUNS):
        start = time.perf_counter()
        told = assemble(volume, part, {"inline": [slab]}, 0.5, folder / "to", _MEMORY)
        seconds = time.perf_counter() - start
        rates.append(sum((folder / "to" / name).stat().st_size for name in told["files"]) / 1e6 / seconds)
    return figure(f"write {told['traces']:,} traces of {told['samples']} samples", rates, "MB/s")
