"""What a file of traces is: read from its headers, before anything else is done with it."""

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
    """Where the survey is, as its headers say.

    Attributes:
        bytes: the first bytes of x and y in a trace header.
        scalar: what stored numbers are multiplied with.
        unit: length, arc seconds, degrees, or unknown.
        corners: smallest and largest (x, y), scaled.
        spacing: between neighbouring inlines and crosslines, of a line None and that of its traces, in the unit; None
            where the numbers do not fit the coordinates.
    """

    bytes: tuple[int, int]
    scalar: float
    unit: str
    corners: tuple[tuple[float, float], tuple[float, float]]
    spacing: tuple[float | None, float | None] | None


@dataclass(frozen=True, eq=False)
class Volume:
    """A section or a volume: one file, its traces and their places.

    Attributes:
        kind: 'SEG-Y' or 'NPY'.
        traces: where samples are, and what they are.
        geometry: the place of each trace; None where it is not known.
        interval: between samples, in ms or in the unit of depth; None where it is not known.
        start: of the first sample, in the same unit.
        byte_order: 'big' or 'little'.
        text: what the file says about itself, for showing.
        coordinates: None where there are none.
        sampled: how many traces were decoded to judge the values.
        dead: how many of these are all zero.
        fill: 0 takes the place of values that are NaN or infinite.
        odd: what is unusual and does not stand in the way.
        problems: what stands in the way.
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
        """The same, or the error that says what is needed.

        Raises:
            VolumeError: all its problems.
        """
        if self.problems:
            raise VolumeError(self.problems)
        return self

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
        """All traces in the order of the file; see ``Traces.blocks``."""
        return self.traces.blocks(block_bytes, self.fill)


def judged_values(values: np.ndarray) -> tuple[int, list[str]]:
    """How many of some traces are dead, and what is unusual in their values.

    Args:
        values: float32 (traces, samples).
    """
    finite = np.isfinite(values)
    dead = int(np.count_nonzero(~(values != 0).any(1)))
    nonzero = values[finite & (values != 0)]
    if dead == len(values):
        return dead, [f"all of {len(values):,} traces that were looked at are dead: nothing but zeros"]
    odd = []
    if len(nonzero) and (nonzero.min() > 0) == (nonzero.max() > 0):
        what = "a mask" if len(np.unique(nonzero)) == 1 else "velocities, labels or an attribute"
        odd.append(f"values have one sign ({nonzero.min():g} to {nonzero.max():g}): {what}, no amplitudes?")
    return dead, odd
