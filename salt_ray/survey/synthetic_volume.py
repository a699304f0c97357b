"""A synthetic seismic volume with salt, generated line by line and consistent in both directions.

Legend: Z samples per trace, X crosslines (traces per inline); a section is (Z, X) as in ``synthetic``, which provides
shapes, beds and wavelets. All randomness is a function of the seed and the position: cubic B-splines through random
lattices, and one salt body and one fault per cell of a grid. Any inline can therefore be generated on its own, in any
order and on any machine. Memory does not grow with the number of inlines, which is unlimited.

Lengths are in units of ``UNIT_PX`` traces or samples, the same along inlines, crosslines and depth.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import cv2
import numpy as np

from salt_ray.survey.synthetic import BED_STEP_PX, bed_column, convolve, diapir_half_width, dome_half_width

UNIT_PX = 64
#: Resolution of beds and wavelets, as in ``synthetic`` for tiles of that size.
_RESOLUTION = float(np.sqrt(UNIT_PX / 101))
_BODY_CELL, _BODY_REACH = 1.2, 2.2  # units: cell with one body; range of its effect
_FAULT_CELL, _FAULT_REACH = 1.5, 1.5
_UPLIFT_REACH = 0.35  # units: range within which salt drags beds up
_MOST_AGE = 8  # units: largest displacement of a bed by folds, erosion, faults and salt
_SPREAD = 4  # lines on each side over which migration smears a line
_ORIGIN = 1 << 20  # added to positions, as seeds cannot be negative and cells extend before the first line
_DEVIATION = 1.0  # standard deviation before gain: 0.6 to 2.0 in twelve surveys
_GAIN = 4000.0  # largest amplitude: gain compresses strong reflections, so that weak ones are visible
#: Share of the variance of white noise that a cubic B-spline keeps per axis: 151 / 315.
_SPLINE_VARIANCE = 151 / 315


class SyntheticVolume:
    """The subsurface of a survey and its seismic image.

    Args:
        crosslines: X, per inline.
        samples: Z, per trace.
        seed: 0 or more; the same seed gives the same volume.
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
        # Neighbouring lines share intermediate results, which are cached: four planes of each of 13 fields.
        self._plane = lru_cache(maxsize=64)(self._draw_plane)
        self._image = lru_cache(maxsize=2 * _SPREAD + 1)(self._draw_image)

    def inline(self, line: int) -> tuple[np.ndarray, np.ndarray]:
        """Amplitudes float32 (Z, X) and salt bool (Z, X) of an inline, counted from 0."""
        # Migration does not focus steep flanks: smoothing in both directions (the Fresnel zone) cancels them.
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
        # Little seismic energy reaches the zone below overhangs.
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
        """Salt of a line, bool (Z, X), and the share of the uplift around it that beds follow, 0 to 1."""
        salt = np.zeros((self.samples, self.crosslines), bool)
        rest = np.ones((self.samples, self.crosslines), np.float32)
        # Distorted coordinates make every outline irregular, on large and small scales.
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
        """Stratigraphic depth float32 (Z, X) in px: equal values belong to one layer, before deformation."""
        age = self._z + np.float32(0.35) * self._field("regional", line, 5 * UNIT_PX, None)
        fold = self._field("fold", line, 1.5 * UNIT_PX, None)
        age = age + np.float32(0.12) * fold * (
            np.float32(0.4) + self._z / self._depth
        )  # older beds were folded for longer
        # An erosion surface: the beds below it were tilted first.
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
        """The objects that affect a line; each cell of a grid has one object at a random position.

        Args:
            name: name of the kind of object.
            line: the inline.
            cell, reach: edge of a cell, and the range of an object's effect, in units.

        Yields:
            For each object its random generator, x (n,) of the crosslines within ``reach`` and y of the line relative
            to its centre, both in units, and the slice of crosslines.
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
            name: each name gives another volume.
            line: the inline.
            across_px: length scale along inlines and crosslines.
            down_px: length scale along depth; None: constant in depth, and the result is (1, X).
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
        """Random lattice points of a field at one inline position, float32."""
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
        rng: its random generator; the number of draws does not depend on the position.
        x, y, z: (n,), number, (Z, n) in units.
        bend: (Z, n), displacement of the flanks.
        depth: depth of the survey.

    Returns:
        The body, bool (Z, n), and the distance to it, float32 (Z, n) in units, 0 inside.
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
    """Throw of the hanging wall of a fault through the origin, float32 (Z, n) in units."""
    azimuth, dip = rng.uniform(0, 2 * np.pi), np.deg2rad(rng.uniform(50, 75))
    cos, sin = np.float32(np.cos(azimuth)), np.float32(np.sin(azimuth))
    behind = cos * x + sin * y - z / np.float32(np.tan(dip))
    strike = cos * y - sin * x
    # The hanging wall drops most at the middle of the fault; the throw dies out in all directions.
    fading = np.clip(1 - (behind**2 + strike**2 + z**2) / np.float32(_FAULT_REACH**2), 0, 1)
    return np.where(behind > 0, np.float32(rng.uniform(0.08, 0.35)) * fading**2, np.float32(0))
