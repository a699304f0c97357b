"""Biharmonic padding of tiles, and the frame of sizes that everything agrees on (method section 2).

The fill is that of scikit-image's ``inpaint_biharmonic``. For one geometry it is a linear map of the known pixels
within two pixels of the tile's edge, followed by a clip to the tile's own minimum and maximum. The equations are
factorised once per geometry. Small tiles are then filled by a product with a matrix (792 -> 11,703 for 101 -> 148), a
fraction of a millisecond each; for large ones, whose matrix would take gigabytes, the equations are solved for a few
tiles at a time.

Letters: N tiles, n of them at a time; S, P, C sides in pixels of tile, padded tile and crop (101, 148, 128); K known
pixels near the edge and F filled pixels (792 and 11,703), of which k and f are in the triangle row <= column (398 and
5,875).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from salt_ray.config import Geometry
from salt_ray.errors import SaltRayError
from salt_ray.metric import UNLABELLED
from salt_ray.survey.memory import room

if TYPE_CHECKING:
    import torch
    from scipy import sparse

#: A filled pixel's equation reaches this far into the known ones (the biharmonic stencil is 5 x 5).
_REACH_PX = 2
#: Known pixels on both sides of a tile, and two between them.
_SMALLEST_TILE_PX = 2 * _REACH_PX + 2
#: A filled pixel of a mask is salt above this (method section 2).
_SALT = 0.7
#: Increased whenever padded tiles change.
_FORMAT = 1
#: Largest pair of matrices that is made (62 MiB at 128 px): beyond, solving costs about as little as the product.
_MATRIX_BYTES = 64 << 20
#: Tiles that are solved for at a time: with more, BLAS starts threads for products that are too small for them, which
#: took up to 20 times as long on two busy cores.
_TILES_SOLVED = 4
#: Filled values held at a time (float64, four arrays of 16 MiB): enough tiles for a fast matrix product …
_BLOCK_VALUES = 1 << 21
#: … and tiles that the steps after it are done for at a time, so that they stay in a core's cache.
_TILES_IN_CACHE = 16
#: Memory that equations and factors take at their peak, for each filled pixel (2,000 to 2,600 from 200 to 4,096 px).
_BYTES_PER_FILLED = 3072

Pixels = TypeVar("Pixels", np.ndarray, "torch.Tensor")


class GeometryError(SaltRayError, ValueError):
    """The sizes of tile, crop and padded tile do not fit together."""


@dataclass(frozen=True)
class Frame:
    """Sides in pixels of a tile, of the padded tile and of the crop the network sees; every offset follows.

    Raises:
        GeometryError: unless padded >= crop >= tile >= 1; names the field of the experiment and the fix.
    """

    tile_px: int
    padded_px: int
    crop_px: int

    def __post_init__(self) -> None:
        if self.tile_px < 1:
            raise GeometryError(f"tile_px = {self.tile_px}: a tile has at least one pixel")
        if self.crop_px < self.tile_px:
            raise GeometryError(
                f"geometry.crop_px = {self.crop_px} is smaller than the tiles of {self.tile_px} px: set it to a "
                f"multiple of 32 of at least {self.tile_px}, or unset it"
            )
        if self.padded_px < self.crop_px:
            raise GeometryError(
                f"geometry.padded_px = {self.padded_px} is below the crop of {self.crop_px} px: set it to "
                f"{self.crop_px} or more, lower geometry.crop_px, or unset both"
            )

    @property
    def before(self) -> int:
        """Pixels added above, and left of, the tile (23 for 101 in 148; below and right of it are 24)."""
        return (self.padded_px - self.tile_px) // 2

    @property
    def crop_offset(self) -> int:
        """First row and column of the centre crop in the padded tile (10 for 128 in 148)."""
        return (self.padded_px - self.crop_px) // 2

    @property
    def tile_in_crop(self) -> int:
        """First row and column of the tile in the centre crop (13 for 101 in 128)."""
        return self.before - self.crop_offset


def frame_for(tile_px: int, geometry: Geometry) -> Frame:
    """The frame of an experiment for tiles of ``tile_px`` pixels.

    What the geometry leaves out: the crop is the smallest multiple of 32 that leaves 16 px of context, and 20 px are
    left for the random crop to move in (101 -> 128 and 148, method section 2).

    Raises:
        GeometryError: unless padded >= crop >= tile; names the field and the fix.
    """
    crop_px = 32 * -(-(tile_px + 16) // 32) if geometry.crop_px is None else geometry.crop_px
    padded_px = crop_px + 20 if geometry.padded_px is None else geometry.padded_px
    return Frame(tile_px, padded_px, crop_px)


def centre_crop(padded: Pixels, frame: Frame) -> Pixels:
    """The (..., C, C) centre of padded tiles (..., P, P); a view. ValueError when they have another size."""
    if tuple(padded.shape[-2:]) != (frame.padded_px, frame.padded_px):
        raise ValueError(f"expected padded tiles of {frame.padded_px} px, not {tuple(padded.shape)}")
    return _cut(padded, frame.crop_offset, frame.crop_px)


def centre(array: Pixels, frame: Frame) -> Pixels:
    """The tiles (..., S, S) inside padded tiles (..., P, P) or centre crops (..., C, C): padding's inverse; a view.

    Raises:
        ValueError: the last two axes are neither those of a padded tile nor those of a centre crop.
    """
    height, width = array.shape[-2:]
    if height == width == frame.padded_px:
        return _cut(array, frame.before, frame.tile_px)
    if height == width == frame.crop_px:
        return _cut(array, frame.tile_in_crop, frame.tile_px)
    raise ValueError(
        f"expected padded tiles of {frame.padded_px} px or centre crops of {frame.crop_px} px, not {height} x {width}"
    )


def _cut(array: Pixels, offset: int, side: int) -> Pixels:
    return array[..., offset : offset + side, offset : offset + side]


@dataclass(frozen=True, eq=False)
class PaddingOperator:
    """The biharmonic fill of one geometry; made by ``operator``. ``fill`` is None where padding adds no pixel."""

    frame: Frame
    fill: _Equations | _Matrices | None

    def images(self, tiles: np.ndarray) -> np.ndarray:
        """Padded tiles, equal to scikit-image's after rounding to the nearest grey value (halves to even).

        Args:
            tiles: uint8 (N, S, S).

        Returns:
            uint8 (N, P, P).

        Raises:
            TypeError: ``tiles`` is not uint8.
            ValueError: ``tiles`` is not (N, S, S).
        """
        return self._padded(tiles, np.uint8)

    def masks(self, masks: np.ndarray) -> np.ndarray:
        """Padded masks: salt where the fill of 0 and 1 exceeds 0.7.

        Every filled pixel follows from all those near the tile's edge: where one of these is not labelled, no filled
        pixel of its tile is.

        Args:
            masks: bool (N, S, S), or int8 with pixels that are ``metric.UNLABELLED``.

        Returns:
            (N, P, P), bool or int8 as the masks; an empty mask stays empty.

        Raises:
            TypeError: ``masks`` is of another type.
            ValueError: ``masks`` is not (N, S, S).
        """
        if masks.dtype != np.int8:
            return self._padded(masks, np.bool_)
        padded, unlabelled = self._padded(masks > 0, np.bool_).view(np.int8), masks < 0
        centre(padded, self.frame)[unlabelled] = UNLABELLED
        unknown = unlabelled[:, _near_edge(self.frame)].any(axis=1)
        padded[unknown[:, None, None] & _outside(self.frame)] = UNLABELLED
        return padded

    def _padded(self, tiles: np.ndarray, dtype: type) -> np.ndarray:
        side, padded_px = self.frame.tile_px, self.frame.padded_px
        if tiles.dtype != dtype:
            raise TypeError(f"expected {np.dtype(dtype)} tiles, not {tiles.dtype}")
        if tiles.ndim != 3 or tiles.shape[1:] != (side, side):
            raise ValueError(f"expected tiles (N, {side}, {side}), not {tiles.shape}")
        if self.fill is None:
            return np.array(tiles)
        flat = np.ascontiguousarray(tiles).reshape(-1, side * side).view(np.uint8)
        padded = np.empty((len(tiles), padded_px**2), dtype=np.uint8)
        start = 0
        for filled in self.fill(flat):
            few = slice(start, start := start + len(filled))
            known = flat[few]
            np.clip(filled, known.min(axis=1, keepdims=True), known.max(axis=1, keepdims=True), out=filled)
            values = filled > _SALT if dtype is np.bool_ else np.rint(filled, out=filled).astype(np.uint8)
            parts = np.concatenate((known, values.view(np.uint8)), axis=1)
            # "clip": no buffer; all places are inside
            np.take(parts, self.fill.source, axis=1, out=padded[few], mode="clip")
        return padded.view(dtype).reshape(-1, padded_px, padded_px)


def operator_name(frame: Frame) -> str:
    """The name under which what an operator has padded is cached: whatever changes its values is in it."""
    return f"biharmonic-{frame.tile_px}-{frame.padded_px}-v{_FORMAT}"


def operator(frame: Frame) -> PaddingOperator:
    """The padding operator of a geometry; it takes a second to make.

    Raises:
        GeometryError: the tile has fewer than 6 px.
        NotEnoughMemory: for its equations or matrices.
    """
    if frame.tile_px < _SMALLEST_TILE_PX:
        raise GeometryError(f"tile_px = {frame.tile_px}: tiles of at least {_SMALLEST_TILE_PX} px can be padded")
    if frame.padded_px == frame.tile_px:
        return PaddingOperator(frame, None)
    filled = frame.padded_px**2 - frame.tile_px**2
    matrices = _Matrices.size(frame)
    needed = filled * _BYTES_PER_FILLED + (matrices if matrices <= _MATRIX_BYTES else 0)
    with room(f"padding tiles from {frame.tile_px} to {frame.padded_px} px", needed):
        fill = _Equations(frame)
        if matrices <= _MATRIX_BYTES:
            fill = _Matrices(fill, frame)
        return PaddingOperator(frame, fill)


class _Equations:
    """The fill by solving the biharmonic equations: time and memory of a tile grow with its edge, not with its area.

    Attributes:
        source: int (P * P): for every pixel of the padded tile its place in (tile, filled pixels), both in row-major
            order.
    """

    def __init__(self, frame: Frame) -> None:
        from scipy.sparse.linalg import splu  # here and below: most commands pad nothing

        outside = _outside(frame)
        rows = _biharmonic(outside)
        places = np.flatnonzero(~outside)  # of the tile's pixels in the padded tile
        self._known = np.flatnonzero(_near_edge(frame))
        self._influence = -rows[:, places[self._known]]
        # Symmetric and positive definite: no pivots, and the ordering that fills least.
        square = rows[:, np.flatnonzero(outside)].tocsc()
        self._factors = splu(square, "MMD_AT_PLUS_A", diag_pivot_thresh=0, options={"SymmetricMode": True})
        self.source = np.empty(outside.size, dtype=np.intp)
        self.source[places] = np.arange(len(places))
        self.source[outside.reshape(-1)] = np.arange(len(places), outside.size)

    def __call__(self, flat: np.ndarray) -> Iterator[np.ndarray]:
        """Filled values of tiles, uint8 (N, S * S), a few tiles at a time: float64 (n, F)."""
        for start in range(0, len(flat), _TILES_SOLVED):
            yield self.solve(flat[start : start + _TILES_SOLVED, self._known].astype(np.float64))

    def solve(self, known: np.ndarray) -> np.ndarray:
        """Filled values, float64 (n, F), of known pixels near the edge, float64 (n, K)."""
        return self._factors.solve(np.asfortranarray(self._influence @ known.T)).T


class _Matrices:
    """The fill as a matrix product.

    The fill of a transposed tile is the transposed fill. So the sum of a tile and its transpose and their difference
    are filled apart, each on the triangle row <= column alone: half the work of the whole matrix.

    ``even`` and ``odd``, float64 (k, f): the fill of sum and difference, for known and filled pixels of that triangle
    in row-major order. float64, because in float32 one filled pixel in 10,000 rounds to another grey value.

    Attributes:
        source: int (P * P): for every pixel of the padded tile its place in (tile, filled triangle, mirrored triangle).
    """

    def __init__(self, equations: _Equations, frame: Frame) -> None:
        near, outside = _near_edge(frame), _outside(frame)
        self._known, self._mirrored = _triangle(near)
        filled, mirrored = _triangle(outside)
        self.even, self.odd = (np.empty((len(self._known), len(filled))) for _ in range(2))
        self._block = max(1, _BLOCK_VALUES // len(filled))
        places = np.searchsorted(np.flatnonzero(near), self._known)
        direct, transposed = (np.searchsorted(np.flatnonzero(outside), pixels) for pixels in (filled, mirrored))
        # A pixel on the diagonal is its own mirror image and comes twice in the sum.
        share = np.where(self._known == self._mirrored, 0.25, 0.5)[:, None]
        for start in range(0, len(places), _TILES_SOLVED):
            few = slice(start, start + _TILES_SOLVED)
            impulses = np.zeros((len(places[few]), np.count_nonzero(near)))
            impulses[np.arange(len(impulses)), places[few]] = 1
            answers = equations.solve(impulses)
            self.even[few] = (answers[:, direct] + answers[:, transposed]) * share[few]
            self.odd[few] = (answers[:, direct] - answers[:, transposed]) * share[few]
        self.source = equations.source.copy()
        self.source[filled] = near.size + np.arange(len(filled))
        below = filled != mirrored
        self.source[mirrored[below]] = near.size + len(filled) + np.flatnonzero(below)

    @staticmethod
    def size(frame: Frame) -> int:
        """Bytes of ``even`` and ``odd``."""
        known, filled = (len(_triangle(where)[0]) for where in (_near_edge(frame), _outside(frame)))
        return 2 * 8 * known * filled

    def __call__(self, flat: np.ndarray) -> Iterator[np.ndarray]:
        """Filled values of tiles, uint8 (N, S * S), a few tiles at a time: float64 (n, 2 * f)."""
        for first in range(0, len(flat), self._block):
            block = flat[first : first + self._block]
            upper, lower = block[:, self._known].astype(np.float64), block[:, self._mirrored].astype(np.float64)
            sums, differences = (upper + lower) @ self.even, (upper - lower) @ self.odd
            for start in range(0, len(block), _TILES_IN_CACHE):
                few = slice(start, start + _TILES_IN_CACHE)
                yield np.concatenate((sums[few] + differences[few], sums[few] - differences[few]), axis=1)


def _biharmonic(outside: np.ndarray) -> sparse.csr_array:
    """The equations of the filled pixels, (F, P * P): the Laplacian of the Laplacian is zero.

    As in scikit-image, a neighbour beyond the padded tile's edge is the pixel itself.

    Args:
        outside: bool (P, P), where pixels are filled.
    """
    from scipy import sparse
    from scipy.ndimage import binary_dilation

    side = len(outside)
    rows, columns = np.nonzero(binary_dilation(outside))  # beyond the direct neighbours no Laplacian is asked for
    pixels = rows * side + columns
    around = [
        np.clip(rows + down, 0, side - 1) * side + np.clip(columns + right, 0, side - 1)
        for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1))
    ]
    weights = np.repeat([1.0, 1.0, 1.0, 1.0, -4.0], len(pixels))
    laplacian = sparse.csr_array((weights, (np.tile(pixels, 5), np.concatenate([*around, pixels]))), (side**2, side**2))
    return laplacian[np.flatnonzero(outside)] @ laplacian


def _near_edge(frame: Frame) -> np.ndarray:
    """The tile's pixels within the stencil's reach of its edge: bool (S, S)."""
    near = np.ones((frame.tile_px, frame.tile_px), dtype=bool)
    near[_REACH_PX:-_REACH_PX, _REACH_PX:-_REACH_PX] = False
    return near


def _outside(frame: Frame) -> np.ndarray:
    """The padded tile's pixels outside the tile: bool (P, P)."""
    outside = np.ones((frame.padded_px, frame.padded_px), dtype=bool)
    centre(outside, frame)[:] = False
    return outside


def _triangle(where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flat places with row <= column of a symmetric bool (A, A), and those of their mirror images."""
    rows, columns = np.nonzero(np.triu(where))
    return rows * len(where) + columns, columns * len(where) + rows
