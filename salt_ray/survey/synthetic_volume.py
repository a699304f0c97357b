"""A synthetic seismic volume with its salt, drawn line by line; sections in both directions look alike.

Legend: Z samples of a trace, X crosslines (traces of an inline); a section is (Z, X) as in ``synthetic``, whose shapes,
beds and wavelets are used. Everything random is a function of the seed and of a place: cubic B-splines through random
lattices, and bodies and faults of which each cell of a grid has its own. An inline can therefore be drawn alone,
in any order, on any machine, and memory does not grow with the number of inlines, which have no end.

The earth is measured in units of ``UNIT_PX`` traces or samples, the same along inlines, crosslines and depth.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import cv2
import numpy as np

from salt_ray.survey.synthetic import BED_STEP_PX, bed_column, convolve, diapir_half_width, dome_half_width

UNIT_PX = 64
#: Of beds and wavelets, as ``synthetic`` has it for tiles of that size.
_RESOLUTION = float(np.sqrt(UNIT_PX / 101))
_BODY_CELL, _BODY_REACH = 1.2, 2.2  # units: one body for each cell; how far from its centre it is felt
_FAULT_CELL, _FAULT_REACH = 1.5, 1.5
_UPLIFT_REACH = 0.35  # units: within which beds are dragged up by salt
_MOST_AGE = 8  # units by which folds, erosion, faults and salt move a bed at most
_SPREAD = 4  # lines on each side that migration smears a line over
_ORIGIN = 1 << 20  # random numbers have no negative seeds; lines before the first one have lattices and cells too
_DEVIATION = 1.0  # of traces before gain: 0.6 to 2.0 in twelve surveys
_GAIN = 4000.0  # the largest amplitude: gain presses strong reflections down, so that weak ones are seen
#: What is left of the variance of white noise by a cubic B-spline, for each axis: 151 / 315.
_SPLINE_VARIANCE = 151 / 315


class SyntheticVolume:
    """The earth under a survey and its seismic image.

    Args:
        crosslines: X, of every inline.
        samples: Z, of every trace.
        seed: 0 or more; the same one gives the same earth.
    """

    def __init__(self, crosslines: int, samples: int, seed: int) -> None:
        self.crosslines, self.samples, self.seed = crosslines, samples, seed
        self._z = np.arange(samples, dtype=np.float32)[:, None] / UNIT_PX
        self._x = np.arange(crosslines, dtype=np.float32) / UNIT_PX
        self._depth = samples / UNIT_PX
        rng = self._rng("earth")
        self._column = bed_column(rng, samples + 2 * _MOST_AGE * UNIT_PX, _RESOLUTION)
        self._erosion = rng.uniform(0.35, 0.65) * self._depth
        self._salt_impedance = np.float32(rng.uniform(4, 6))
        self._noise = np.float32(rng.uniform(0.03, 0.10))
        # Lines are drawn from their neighbours. What these share is kept: four planes of each of 13 fields.
        self._plane = lru_cache(maxsize=64)(self._draw_plane)
        self._image = lru_cache(maxsize=2 * _SPREAD + 1)(self._draw_image)

    def inline(self, line: int) -> tuple[np.ndarray, np.ndarray]:
        """Amplitudes float32 (Z, X) and salt bool (Z, X) of an inline, counted from 0."""
        # Migration does not focus steep flanks: smoothing along both directions (the Fresnel zone) cancels them.
        offsets = np.arange(-_SPREAD, _SPREAD + 1)
        weights = np.exp(-0.5 * (offsets / (1.4 * _RESOLUTION)) ** 2).astype(np.float32)
        weights /= weights.sum()
        trace = np.zeros((self.samples, self.crosslines), np.float32)
        for offset, weight in zip(offsets.tolist(), weights, strict=True):
            trace += weight * self._image(line + offset)[0]
        trace = cv2.sepFilter2D(trace, cv2.CV_32F, weights, np.ones(1, np.float32))
        trace *= np.float32(1 / _DEVIATION)
        trace += np.float32(0.04) * self._field("recording", line, 1, 1)
        return np.float32(_GAIN) * np.tanh(trace / np.float32(1.8)), self._image(line)[1].copy()

    def _draw_image(self, line: int) -> tuple[np.ndarray, np.ndarray]:
        """Seismic image of a line before migration smears it, float32 (Z, X), and its salt, bool (Z, X)."""
        salt, uplift = self._salt(line)
        age = self._age(line, uplift)
        low = -_MOST_AGE * UNIT_PX
        beds = np.interp(age, low + BED_STEP_PX * np.arange(len(self._column)), self._column).astype(np.float32)
        beds *= 1 + np.float32(0.25) * self._field("contrast", line, 60 * _RESOLUTION, 60 * _RESOLUTION)
        softened = _blurred_down(salt, 0.7)
        # Seismic energy hardly reaches what overhangs hide.
        shadow = _blurred_down(np.logical_or.accumulate(salt, 0) & ~salt, 2 * _RESOLUTION)
        impedance = beds * (1 - softened) * (1 - np.float32(0.5) * shadow) + softened * self._salt_impedance
        reflectivity = np.diff(impedance, axis=0, prepend=impedance[:1])
        depth = np.linspace(0, 1, self.samples, dtype=np.float32)[:, None]
        chaos = self._field("chaos", line, 2.5 * _RESOLUTION, 2.5 * _RESOLUTION)
        reflectivity += (np.float32(0.05) + np.float32(0.10) * softened) * chaos
        noise = self._field("noise", line, 3.5 * _RESOLUTION, 1)
        reflectivity += (self._noise + np.float32(0.10) * depth) * noise
        return convolve(reflectivity, depth, 8 * _RESOLUTION, 17 * _RESOLUTION), salt

    def _salt(self, line: int) -> tuple[np.ndarray, np.ndarray]:
        """Salt of a line, bool (Z, X), and how much of the uplift beside and above it beds take part in, 0 to 1."""
        salt = np.zeros((self.samples, self.crosslines), bool)
        rest = np.ones((self.samples, self.crosslines), np.float32)
        # Bent coordinates make every outline irregular, at large and in detail.
        outwards, down = (
            np.float32(0.14) * self._field(f"{name} bend", line, 0.7 * UNIT_PX, 0.7 * UNIT_PX)
            + np.float32(0.02) * self._field(f"{name} detail", line, 0.15 * UNIT_PX, 0.15 * UNIT_PX)
            for name in ("outwards", "down")
        )
        for rng, x, y, near in self._cells("body", line, _BODY_CELL, _BODY_REACH):
            inside, distance = _body(rng, x, y, self._z + down[:, near], outwards[:, near], self._depth)
            salt[:, near] |= inside
            rest[:, near] *= 1 - np.exp(-((distance / np.float32(_UPLIFT_REACH)) ** 2))
        return salt, 1 - rest

    def _age(self, line: int, uplift: np.ndarray) -> np.ndarray:
        """Stratigraphic depth float32 (Z, X) in px: equal values are one layer, before all that moved it."""
        age = self._z + np.float32(0.35) * self._field("regional", line, 5 * UNIT_PX, None)
        fold = self._field("fold", line, 1.5 * UNIT_PX, None)
        age = age + np.float32(0.12) * fold * (np.float32(0.4) + self._z / self._depth)  # the old folded longer
        # An erosion surface: what is below was tilted before.
        surface = np.float32(self._erosion) + np.float32(0.12) * self._field("erosion", line, UNIT_PX, None)
        tilt = np.float32(0.5) * self._field("tilt", line, 2.5 * UNIT_PX, None)
        age += np.where(self._z > surface, 3 + tilt, np.float32(0))
        for rng, x, y, near in self._cells("fault", line, _FAULT_CELL, _FAULT_REACH):
            for _ in range(max(1, round(self._depth / _FAULT_CELL))):
                middle = rng.uniform(0, self._depth)
                down = slice(*(int(np.clip((middle + s * _FAULT_REACH) * UNIT_PX, 0, self.samples)) for s in (-1, 1)))
                age[down, near] -= _fault(rng, x, y, self._z[down] - np.float32(middle))
        age += np.float32(0.45) * uplift
        return age * UNIT_PX

    def _cells(
        self, name: str, line: int, cell: float, reach: float
    ) -> Iterator[tuple[np.random.Generator, np.ndarray, np.float32, slice]]:
        """What is felt on a line of things of which each cell of a grid has one, somewhere in it.

        Args:
            name: of the things.
            line: the inline.
            cell, reach: side of a cell, and how far from its middle a thing is felt, in units.

        Yields:
            Its random numbers, the crosslines within ``reach`` as x (n,) from its middle on, y of the line from there
            on, both in units, and which crosslines these are.
        """
        at = line / UNIT_PX
        for row in range(int(np.floor((at - reach) / cell)), int(np.floor((at + reach) / cell)) + 1):
            for column in range(-int(reach / cell) - 1, int((self._x[-1] + reach) / cell) + 1):
                rng = self._rng(name, row, column)
                y, x = at - (row + rng.uniform(0.1, 0.9)) * cell, (column + rng.uniform(0.1, 0.9)) * cell
                near = slice(*(int(np.clip((x + s * reach) * UNIT_PX, 0, self.crosslines)) for s in (-1, 1)))
                if abs(y) < reach and near.start < near.stop:
                    yield rng, self._x[near] - np.float32(x), np.float32(y), near

    def _field(self, name: str, line: int, across_px: float, down_px: float | None) -> np.ndarray:
        """A line of a random volume of mean 0 and deviation 1, float32 (Z, X).

        Args:
            name: another name, another volume.
            line: the inline.
            across_px: the length over which it varies, along inlines and crosslines.
            down_px: the same along depth; None: it does not, and the result is (1, X).
        """
        positions = np.arange(self.samples) / down_px if down_px else np.zeros(1)
        points = (int(positions[-1]) + 4, int((self.crosslines - 1) / across_px) + 4)
        first, weights = _spline(np.array([line / across_px]))
        coarse = sum(weights[k] * self._plane(name, int(first[0]) + k, points) for k in range(4))
        coarse = _interpolated(coarse.T, np.arange(self.crosslines) / across_px).T
        axes = 3 if down_px else 2
        full = _interpolated(coarse, positions) if down_px else coarse[:1]
        return full * np.float32(_SPLINE_VARIANCE ** (-axes / 2))

    def _draw_plane(self, name: str, plane: int, points: tuple[int, int]) -> np.ndarray:
        """Random lattice points of a field at one place along inlines, float32."""
        return self._rng(name, plane).standard_normal(points, np.float32)

    def _rng(self, name: str, *place: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *name.encode(), *(_ORIGIN + number for number in place)])


def _spline(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first of four neighbouring lattice points for each position (n,), and their weights, float32 (4, n)."""
    first = np.floor(positions).astype(np.int64)
    t = positions - first
    weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    return first, (np.stack(weights) / 6).astype(np.float32)


def _interpolated(lattice: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """A cubic B-spline of lattice points float32 (m, …) at positions (n,) along the first axis: float32 (n, …)."""
    first, weights = _spline(positions)
    result = np.zeros((len(positions), *lattice.shape[1:]), np.float32)
    for k in range(4):
        result += weights[k][:, None] * lattice[first + k]
    return result


def _blurred_down(mask: np.ndarray, sigma_px: float) -> np.ndarray:
    """Bool (Z, X) as float32, blurred along depth."""
    return cv2.GaussianBlur(mask.astype(np.float32), (1, 2 * int(4 * sigma_px) + 1), 0, sigmaY=sigma_px)


def _body(
    rng: np.random.Generator, x: np.ndarray, y: np.float32, z: np.ndarray, bend: np.ndarray, depth: float
) -> tuple[np.ndarray, np.ndarray]:
    """A salt body around the origin.

    Args:
        rng: its random numbers; as many are used whatever the place.
        x, y, z: (n,), number, (Z, n) in units.
        bend: (Z, n) moves flanks.
        depth: of the survey.

    Returns:
        Where it is, bool (Z, n), and the distance to it, float32 (Z, n) in units, 0 in it.
    """
    kind = rng.choice(["dome", "diapir", "sheet"], p=[0.3, 0.45, 0.25])
    azimuth, stretch = rng.uniform(0, np.pi), rng.uniform(1, 1.6)
    cos, sin = np.float32(np.cos(azimuth)), np.float32(np.sin(azimuth))
    along, aside = cos * x + sin * y, np.float32(stretch) * (cos * y - sin * x)
    lean = np.float32(rng.uniform(-0.35, 0.35) / depth)
    if kind == "sheet":
        radius, thickness = np.float32(rng.uniform(0.6, 1.1)), np.float32(rng.uniform(0.2, 0.4))
        middle = np.float32(rng.uniform(0.25, 0.75) * depth) + np.float32(rng.uniform(-0.35, 0.35)) * along
        r = np.hypot(along, aside) + bend
        half = thickness * np.sqrt(np.clip(1 - (r / radius) ** 2, 0, 1))
        above = np.abs(z - middle) - half
        return above < 0, np.hypot(np.maximum(above, 0), np.maximum(r - radius, 0))
    top = np.float32(rng.uniform(0.12, 0.6) * depth)
    r = np.hypot(along - lean * (z - top), aside) + bend
    if kind == "dome":
        half = dome_half_width(z, top, depth, rng.uniform(0.45, 0.9), np.float32(rng.uniform(0.6, 1.2)))
    else:
        heights = np.float32(rng.uniform((0.3, 0.3), (0.6, 0.7)))
        widths = np.float32(rng.uniform((0.4, 0.2, 0.2), (0.75, 0.35, 0.7)))
        half = diapir_half_width(z, top, np.float32(depth), *heights, *widths)
    outside = np.maximum(r - half, 0)
    return (r < half) & (z > top), np.hypot(outside, np.maximum(top - z, 0))


def _fault(rng: np.random.Generator, x: np.ndarray, y: np.float32, z: np.ndarray) -> np.ndarray:
    """How far beds drop in the hanging wall of a fault through the origin, float32 (Z, n) in units."""
    azimuth, dip = rng.uniform(0, 2 * np.pi), np.deg2rad(rng.uniform(50, 75))
    cos, sin = np.float32(np.cos(azimuth)), np.float32(np.sin(azimuth))
    behind = cos * x + sin * y - z / np.float32(np.tan(dip))
    strike = cos * y - sin * x
    # The hanging wall drops most at the middle of the fault; the throw dies out in all directions.
    fading = np.clip(1 - (behind**2 + strike**2 + z**2) / np.float32(_FAULT_REACH**2), 0, 1)
    return np.where(behind > 0, np.float32(rng.uniform(0.08, 0.35)) * fading**2, np.float32(0))
