"""Prediction of a volume's slabs with all of a run's models.

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

#: Bytes of memory per sample of a slab: network input, mean and spread …
_SAMPLE_BYTES = 1 + 4 + 4
#: … plus, per sample of one line: the sum over windows and its intermediate results.
_LINE_BYTES = 40
#: Per pixel of the windows cut at a time, and per byte read at a time.
_WINDOW_BYTES, _READ_BYTES = 16, 10
#: Fewest slabs per direction, given enough lines: enough to use a few machines, and to resume.
_SLABS = 16


@dataclass(frozen=True)
class SlabWork:
    """Data shared by all slabs (``pipeline.engine.Work``).

    Attributes:
        volume: read by the worker that predicts a slab.
        fingerprint: of the volume, so that every worker reads the same file.
        models: the weights of each model, a file for each of its networks.
        greys: the range of amplitudes mapped to 0 to 255.
        window_px, step: size and stride of windows.
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
        from salt_ray.inference.predict import Models  # imports PyTorch, which is slow

        self.check_volume()
        window = self.window_px
        models = Models(self.experiment, Frame(window, window, window), device, say, most)
        return lambda slab: slab.save(self.predicted(slab, models.pixels))

    def check_volume(self) -> None:
        """Check that the volume is accessible and unchanged.

        Raises:
            RunError: it has changed.
            VolumeError: it cannot be read.
        """
        if fingerprint(self.volume) != self.fingerprint:
            raise RunError(
                f"{self.volume.path} on {socket.gethostname()} has changed since this prediction began: restore it, or "
                "use another --to"
            )

    def workers(self, left: Collection[Slab]) -> int:
        return len(left)

    def predicted(self, slab: Slab, pixels: Callable[[tuple[StoragePath, ...], np.ndarray], np.ndarray]) -> np.ndarray:
        """Mean and standard deviation of the models' probabilities, float32 (2, I, K, S); 0 in dead traces.

        Lines are predicted independently, so results do not depend on the size of a slab.

        Args:
            pixels: maps a model's weights and windows uint8 (n, C, C) to probabilities float32 (n, C, C).
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
                away = said - mean[line]  # running mean and sum of squares (Welford, 1962)
                mean[line] += away / np.float32(count)
                squares[line] += away * (said - mean[line])
        squares /= np.float32(len(self.models))
        np.clip(found, 0, 1, out=found)
        np.sqrt(squares, out=squares)
        return found

    def lines_at_once(self, part: Part, direction: Direction, memory: int) -> int:
        """The number of lines per slab that can be predicted within ``memory`` bytes, not counting models.

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
            raise RunError(f"a line of {self.volume.path} needs {needed:.2f} GB: increase --memory")
        return max(1, min(fitting, -(-lines // _SLABS)))

    def windows(self, slab: Slab) -> int:
        """The number of windows that all models predict for a slab."""
        rows, columns = slab.part.shape
        lines, traces = (rows, columns) if slab.direction == "inline" else (columns, rows)
        blending = Blending((self.volume.traces.samples, traces), self.window_px, self.step)
        return len(blending) * lines * len(self.models)
