"""Description of a file of traces, from its headers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from salt_ray.volume.geometry import Geometry
from salt_ray.volume.problem import Problem, VolumeError
from salt_ray.volume.traces import BLOCK_BYTES, Block, Traces


@dataclass(frozen=True)
class Coordinates:
    """Position of the survey according to its headers.

    Attributes:
        bytes: the first bytes of x and y in a trace header.
        scalar: factor applied to stored numbers.
        unit: length, arc seconds, degrees, or unknown.
        corners: smallest and largest (x, y), scaled.
        spacing: distance between neighbouring inlines and between crosslines, in the unit; for a 2D line, None and the
            trace spacing. None if the line numbers do not match the coordinates.
    """

    bytes: tuple[int, int]
    scalar: float
    unit: str
    corners: tuple[tuple[float, float], tuple[float, float]]
    spacing: tuple[float | None, float | None] | None


@dataclass(frozen=True, eq=False)
class Volume:
    """A section or a volume: one file, its traces and their positions.

    Attributes:
        kind: 'SEG-Y' or 'NPY'.
        traces: layout and sample format.
        geometry: the position of each trace; None if unknown.
        interval: sample interval, in ms or in the unit of depth; None if unknown.
        start: time or depth of the first sample, in the same unit.
        byte_order: 'big' or 'little'.
        text: lines of the text header, for display.
        coordinates: None if the headers have none.
        sampled: number of traces decoded to check the values.
        dead: how many of these are all zero.
        fill: replace NaN and infinite values by 0.
        odd: what is unusual but does not prevent use.
        problems: what prevents use.
    """

    kind: str
    traces: Traces
    geometry: Geometry | None
    interval: float | None
    start: float
    byte_order: str
    text: tuple[str, ...]
    coordinates: Coordinates | None
    sampled: int
    dead: int
    fill: bool
    odd: tuple[str, ...]
    problems: tuple[Problem, ...]

    @property
    def path(self) -> Path:
        return self.traces.path

    def usable(self) -> Volume:
        """Return the volume itself if it has no problems.

        Raises:
            VolumeError: all its problems.
        """
        if self.problems:
            raise VolumeError(self.problems)
        return self

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
        """All traces in file order; see ``Traces.blocks``."""
        return self.traces.blocks(block_bytes, self.fill)


def judged_values(values: np.ndarray) -> tuple[int, list[str]]:
    """Number of dead traces, and remarks on unusual values.

    Args:
        values: float32 (traces, samples).
    """
    finite = np.isfinite(values)
    dead = int(np.count_nonzero(~(values != 0).any(1)))
    nonzero = values[finite & (values != 0)]
    if dead == len(values):
        return dead, [f"all {len(values):,} sampled traces are dead: they hold only zeros"]
    odd = []
    if len(nonzero) and (nonzero.min() > 0) == (nonzero.max() > 0):
        what = "a mask" if len(np.unique(nonzero)) == 1 else "velocities, labels or an attribute"
        odd.append(
            f"all values have the same sign ({nonzero.min():g} to {nonzero.max():g}): {what} instead of amplitudes?"
        )
    return dead, odd
