"""Slabs of a volume predicted by all of a run's models, wherever an engine places them.

Letters: I inlines, K crosslines, S samples.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment
from salt_ray.errors import RunError
from salt_ray.storage import StoragePath
from salt_ray.survey.amplitudes import GreyRange
from salt_ray.survey.padding import Frame
from salt_ray.volume.blending import AT_ONCE, Blending
from salt_ray.volume.slabs import Direction, Part, Slab, fingerprint, read_greys
from salt_ray.volume.traces import READ_BYTES
from salt_ray.volume.volume import Volume

if TYPE_CHECKING:
    import torch

#: Bytes of memory for a sample of a slab: what networks see, the mean and the spread …
_SAMPLE_BYTES = 1 + 4 + 4
#: … and besides of one of its lines: what windows add up to, and what is made of it.
_LINE_BYTES = 40
#: For a pixel of the windows that are cut at a time, and for a byte that is read.
_WINDOW_BYTES, _READ_BYTES = 16, 10
#: A direction has so many slabs at least, if it has the lines: enough for a few machines, and for a command to resume.
_SLABS = 16


@dataclass(frozen=True)
class SlabWork:
    """What slabs have in common (``pipeline.engine.Work``).

    Attributes:
        volume: it is read where a slab is predicted.
        fingerprint: of the volume, so that every worker reads this one.
        models: the weights of each model, a file for each of its networks.
        greys: amplitudes that become 0 to 255.
        window_px, step: of the windows.
    """

    experiment: Experiment
    directories: tuple[RunDirectory, ...]
    volume: Volume
    fingerprint: str
    models: tuple[tuple[StoragePath, ...], ...]
    greys: GreyRange
    window_px: int
    step: int

    def begin(
        self, device: torch.device, say: Callable[[str], None], most: int | None = None
    ) -> Callable[[Slab], None]:
        from salt_ray.inference.predict import Models  # PyTorch: not before it is needed

        self.check_volume()
        window = self.window_px
        models = Models(self.experiment, Frame(window, window, window), device, say, most)
        return lambda slab: slab.save(self.predicted(slab, models.pixels))

    def check_volume(self) -> None:
        """Make sure that the file is, and is here, the one that the work began with.

        Raises:
            RunError: it is another one.
            VolumeError: it cannot be read.
        """
        if fingerprint(self.volume) != self.fingerprint:
            raise RunError(
                f"{self.volume.path} on {socket.gethostname()} has changed since this prediction began: restore it, or "
                "predict it into another --to"
            )

    def workers(self, left: Collection[Slab]) -> int:
        return len(left)

    def predicted(self, slab: Slab, pixels: Callable[[tuple[StoragePath, ...], np.ndarray], np.ndarray]) -> np.ndarray:
        """Mean and standard deviation of the models' probabilities, float32 (2, I, K, S); 0 in dead traces.

        Every line is predicted by itself: how many are in a slab changes nothing.

        Args:
            pixels: answers float32 (n, C, C) for a model's weights and uint8 windows (n, C, C).
        """
        seen, live = read_greys(self.volume, slab.part.of(self.volume.geometry.traces), self.greys)
        found = np.zeros((2, *seen.shape), np.float32)
        mean, squares = found
        along = slab.direction == "inline"
        blending = Blending((seen.shape[2], seen.shape[1 if along else 0]), self.window_px, self.step)
        lines = [(line,) if along else (slice(None), line) for line in range(seen.shape[0 if along else 1])]
        for count, weights in enumerate(self.models, start=1):
            for line in lines:
                said = blending.join(seen[line].T, live[line], partial(pixels, weights)).T
                away = said - mean[line]  # the mean and the squares so far (Welford, 1962)
                mean[line] += away / np.float32(count)
                squares[line] += away * (said - mean[line])
        squares /= np.float32(len(self.models))
        np.clip(found, 0, 1, out=found)
        np.sqrt(squares, out=squares)
        return found

    def lines_at_once(self, part: Part, direction: Direction, memory: int) -> int:
        """How many lines a slab has so that predicting it takes no more than ``memory`` bytes, models aside.

        Raises:
            RunError: not even one line fits.
        """
        rows, columns = part.shape
        lines, traces = (rows, columns) if direction == "inline" else (columns, rows)
        line = traces * self.volume.traces.samples
        fixed = AT_ONCE * self.window_px**2 * _WINDOW_BYTES + READ_BYTES * _READ_BYTES + line * _LINE_BYTES
        fitting = (memory - fixed) // (line * _SAMPLE_BYTES)
        if fitting < 1:
            needed = (fixed + line * _SAMPLE_BYTES) / 2**30
            raise RunError(f"a line of {self.volume.path} takes {needed:.2f} GB: give as much with --memory")
        return max(1, min(fitting, -(-lines // _SLABS)))

    def windows(self, slab: Slab) -> int:
        """How many windows the models see of a slab."""
        rows, columns = slab.part.shape
        lines, traces = (rows, columns) if slab.direction == "inline" else (columns, rows)
        blending = Blending((self.volume.traces.samples, traces), self.window_px, self.step)
        return len(blending) * lines * len(self.models)
