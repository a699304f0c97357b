"""Biharmonic padding of tiles as a matrix product, and the frame of sizes that everything agrees on (method section 2).

For a fixed geometry scikit-image's ``inpaint_biharmonic`` is a linear map of the known pixels within two pixels of the
tile's edge (792 -> 11,703 for 101 -> 148), followed by a clip to the tile's own minimum and maximum. The matrix comes
from scikit-image itself, once per geometry, and is kept on disk: a tile then costs a fraction of a millisecond.

Letters: N tiles; S, P, C sides in pixels of tile, padded tile and crop (101, 148, 128); K known pixels near the edge
and F filled pixels, both of the triangle row <= column (398 and 5,875).
"""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import skimage

from salt_ray.config import Geometry
from salt_ray.errors import SaltRayError
from salt_ray.storage import CacheError, atomic_file, cache_folder, only_one

if TYPE_CHECKING:
    import torch

#: A filled pixel's equation reaches this far into the known ones (the biharmonic stencil is 5 x 5).
_REACH_PX = 2
#: The stencil's reach on both sides and two pixels between: see ``_from_skimage``.
_SMALLEST_TILE_PX = 2 * _REACH_PX + 2
#: Increased whenever the meaning of a stored matrix changes.
_FORMAT = 1
#: Filled values of a triangle held at a time (float64, four arrays of 16 MiB): enough rows for a fast matrix product …
_BLOCK_VALUES = 1 << 21
#: … and tiles that the steps after it are done for at a time, so that they stay in a core's cache.
_TILES_IN_CACHE = 16
#: Pixels times unit impulses that scikit-image is given at a time (float64, several copies: below 1 GiB).
_SOLVE_VALUES = 1 << 25
#: What numpy raises where there is no file or a damaged one: of the archive, its compression and the array's header.
_UNREADABLE = (
    *(OSError, EOFError, KeyError, ValueError, RuntimeError, TypeError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)

Pixels = TypeVar("Pixels", np.ndarray, "torch.Tensor")


class GeometryError(SaltRayError, ValueError):
    """The sizes of tile, crop and padded tile do not fit together."""


@dataclass(frozen=True)
class Frame:
    """Sides in pixels of a tile, of the padded tile and of the crop the network sees; every offset follows.

    Raises:
        GeometryError: unless padded >= crop >= tile >= 1; names the field of the experiment and the remedy.
    """

    tile_px: int
    padded_px: int
    crop_px: int

    def __post_init__(self) -> None:
        if self.tile_px < 1:
            raise GeometryError(f"tile_px = {self.tile_px}: a tile has at least one pixel")
        if self.crop_px < self.tile_px:
            raise GeometryError(
                f"geometry.crop_px = {self.crop_px} cuts into the tiles of {self.tile_px} px: set it to a multiple of "
                f"32 that is at least {self.tile_px}, or leave it out"
            )
        if self.padded_px < self.crop_px:
            raise GeometryError(
                f"geometry.padded_px = {self.padded_px} is below the crop of {self.crop_px} px: set it to "
                f"{self.crop_px} or more, lower geometry.crop_px, or leave both out"
            )

    @property
    def before(self) -> int:
        """Pixels added above, and left of, the tile (23 for 101 in 148)."""
        return (self.padded_px - self.tile_px) // 2

    @property
    def after(self) -> int:
        """Pixels added below, and right of, the tile (24 for 101 in 148)."""
        return self.padded_px - self.tile_px - self.before

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
        GeometryError: unless padded >= crop >= tile; names the field and the remedy.
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
    """The biharmonic fill of one geometry; made by ``operator``.

    The fill of a transposed tile is the transposed fill. So the sum of a tile and its transpose and their difference
    are filled apart, each on the triangle row <= column alone: half the work of the whole matrix.

    ``even`` and ``odd``, float64 (K, F): the fill of sum and difference, for known and filled pixels of that triangle
    in row-major order. float64, because in float32 one filled pixel in 10,000 rounds to another grey value.
    """

    tile_px: int
    padded_px: int
    even: np.ndarray
    odd: np.ndarray

    def images(self, tiles: np.ndarray, device: str | None = None) -> np.ndarray:
        """Padded tiles, equal to scikit-image's after rounding to the nearest grey value (halves to even).

        Args:
            tiles: uint8 (N, S, S).
            device: where torch computes ("cuda"); None: numpy on the CPU.

        Returns:
            uint8 (N, P, P).

        Raises:
            TypeError: ``tiles`` is not uint8.
            ValueError: ``tiles`` is not (N, S, S).
        """
        return self._padded(tiles, np.uint8, None, device)

    def masks(self, masks: np.ndarray, threshold: float = 0.7, device: str | None = None) -> np.ndarray:
        """Padded masks: salt where the fill of 0 and 1 exceeds ``threshold`` (0.7: method section 2).

        Args:
            masks: bool (N, S, S).
            threshold: at least 0 and below 1.
            device: where torch computes ("cuda"); None: numpy on the CPU.

        Returns:
            bool (N, P, P); an empty mask stays empty.

        Raises:
            TypeError: ``masks`` is not bool.
            ValueError: ``masks`` is not (N, S, S), or the threshold is out of range.
        """
        if not 0 <= threshold < 1:
            raise ValueError(f"threshold = {threshold}: choose one from 0 up to, but not including, 1")
        return self._padded(masks, np.bool_, threshold, device)

    def _padded(self, tiles: np.ndarray, dtype: type, threshold: float | None, device: str | None) -> np.ndarray:
        side = self.tile_px
        if tiles.dtype != dtype:
            raise TypeError(f"expected {np.dtype(dtype)} tiles, not {tiles.dtype}")
        if tiles.ndim != 3 or tiles.shape[1:] != (side, side):
            raise ValueError(f"expected tiles (N, {side}, {side}), not {tiles.shape}")
        padded = np.empty((len(tiles), self.padded_px**2), dtype=np.uint8)
        fill = self._fill_numpy if device is None else self._fill_torch(device)
        block = max(1, _BLOCK_VALUES // max(1, self.even.shape[1]))
        for first in range(0, len(tiles), block):
            flat = np.ascontiguousarray(tiles[first : first + block]).reshape(-1, side * side).view(np.uint8)
            fill(flat, threshold, padded[first : first + block])
        return padded.view(dtype).reshape(-1, self.padded_px, self.padded_px)

    def _fill_numpy(self, flat: np.ndarray, threshold: float | None, padded: np.ndarray) -> None:
        """Write the padded tiles, uint8 (N, P * P), of uint8 (N, S * S); rounded, or above ``threshold``."""
        known, mirrored = _triangle(_near_edge(self.tile_px))
        source = _source(self.tile_px, self.padded_px)
        low, high = flat.min(axis=1, keepdims=True), flat.max(axis=1, keepdims=True)
        upper, lower = flat[:, known].astype(np.float64), flat[:, mirrored].astype(np.float64)
        sums, differences = (upper + lower) @ self.even, (upper - lower) @ self.odd
        for start in range(0, len(flat), _TILES_IN_CACHE):
            few = slice(start, start + _TILES_IN_CACHE)
            filled = np.concatenate((sums[few] + differences[few], sums[few] - differences[few]), axis=1)
            np.clip(filled, low[few], high[few], out=filled)
            values = np.rint(filled, out=filled).astype(np.uint8) if threshold is None else filled > threshold
            parts = np.concatenate((flat[few], values.view(np.uint8)), axis=1)
            np.take(parts, source, axis=1, out=padded[few], mode="clip")  # "clip": no buffer; all places are inside

    def _fill_torch(self, device: str) -> Callable[[np.ndarray, float | None, np.ndarray], None]:
        """``_fill_numpy`` on a torch device, to which the matrices are moved once."""
        import torch

        def there(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(array).to(device)

        even, odd, source = there(self.even), there(self.odd), there(_source(self.tile_px, self.padded_px))
        known, mirrored = map(there, _triangle(_near_edge(self.tile_px)))

        def fill(flat: np.ndarray, threshold: float | None, padded: np.ndarray) -> None:
            tiles = there(flat)
            upper, lower = tiles[:, known].double(), tiles[:, mirrored].double()
            sums, differences = (upper + lower) @ even, (upper - lower) @ odd
            filled = torch.cat((sums + differences, sums - differences), dim=1)
            filled = filled.clamp(tiles.amin(1, keepdim=True).double(), tiles.amax(1, keepdim=True).double())
            values = filled.round() if threshold is None else filled > threshold
            padded[:] = torch.cat((tiles, values.to(torch.uint8)), dim=1)[:, source].cpu().numpy()

        return fill


def operator_name(tile_px: int, padded_px: int) -> str:
    """The name under which an operator, and what was padded by it, are cached: whatever changes its values is in it."""
    return f"biharmonic-{tile_px}-{padded_px}-v{_FORMAT}-skimage-{skimage.__version__}"


def operator(tile_px: int, padded_px: int, cache: Path | None = None) -> PaddingOperator:
    """The padding operator of a geometry, from the cache or else built (seconds) and put there.

    Args:
        tile_px: S, at least 6.
        padded_px: P, at least S.
        cache: folder of operators; None: ``padding`` in the folder named by the environment variable SALT_RAY_CACHE, or
            else in the user's cache folder. A damaged file in it is replaced.

    Raises:
        GeometryError: a side is too small.
        CacheError: the folder cannot be written; the message names it and SALT_RAY_CACHE.
    """
    if tile_px < _SMALLEST_TILE_PX:
        raise GeometryError(f"tile_px = {tile_px}: tiles of at least {_SMALLEST_TILE_PX} px can be padded")
    if padded_px < tile_px:
        raise GeometryError(f"padded_px = {padded_px} is below the tile's {tile_px} px: set geometry.padded_px higher")
    shape = (2, len(_triangle(_near_edge(tile_px))[0]), len(_triangle(_outside(tile_px, padded_px))[0]))
    path = (cache or cache_folder("padding")) / f"{operator_name(tile_px, padded_px)}.npz"
    halves = _stored(path, shape)
    if halves is None:
        try:
            with only_one(path):
                halves = _stored(path, shape)
                if halves is None:
                    halves = _from_skimage(tile_px, padded_px)
                    with atomic_file(path) as file:
                        np.savez(file, halves=halves)
        except OSError as error:
            raise CacheError(f"cannot keep {path} ({error}): let SALT_RAY_CACHE name a writable folder") from error
    return PaddingOperator(tile_px, padded_px, *halves)


def _stored(path: Path, shape: tuple[int, int, int]) -> np.ndarray | None:
    """The matrices in a file; None when there is no file or a damaged one (a zip archive carries a checksum)."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            halves = archive["halves"]
    except _UNREADABLE:
        return None
    return halves if halves.shape == shape and halves.dtype == np.float64 and np.isfinite(halves).all() else None


def _from_skimage(tile_px: int, padded_px: int) -> np.ndarray:
    """``even`` and ``odd`` of an operator, float64 (2, K, F), from the fills of unit impulses.

    The impulses are channels of one image, so that scikit-image factorises its system once for many. It clips to the
    smallest and largest known value: two pixels in the tile's middle, beyond the stencil's reach, are set to +-1000 so
    that the clip leaves the answers alone (at 101 -> 148 the largest weight is 4.9).
    """
    from skimage.restoration import inpaint_biharmonic  # 0.6 s that no command waits for once there is an operator

    known, mirrored_known = _triangle(_near_edge(tile_px))
    outside = _outside(tile_px, padded_px)
    filled, mirrored_filled = _triangle(outside)
    if not len(filled):
        return np.empty((2, len(known), 0))
    before = (padded_px - tile_px) // 2
    rows, columns = np.divmod(known, tile_px)
    direct, mirrored = np.empty((len(known), len(filled))), np.empty((len(known), len(filled)))
    chunk = max(1, _SOLVE_VALUES // padded_px**2)
    for first in range(0, len(known), chunk):
        impulses = np.arange(first, min(first + chunk, len(known)))
        image = np.zeros((padded_px, padded_px, len(impulses)))
        image[before + rows[impulses], before + columns[impulses], np.arange(len(impulses))] = 1
        image[before + _REACH_PX, before + _REACH_PX] = 1000
        image[before + _REACH_PX, before + _REACH_PX + 1] = -1000
        answers = inpaint_biharmonic(image, outside, channel_axis=-1).reshape(padded_px**2, -1)
        direct[impulses], mirrored[impulses] = answers[filled].T, answers[mirrored_filled].T
    # A pixel on the diagonal is its own mirror image and comes twice in the sum.
    share = np.where(known == mirrored_known, 0.25, 0.5)[:, None]
    return np.stack(((direct + mirrored) * share, (direct - mirrored) * share))


def _near_edge(tile_px: int) -> np.ndarray:
    """Where a tile's pixels lie within the stencil's reach of its edge: bool (S, S)."""
    near = np.ones((tile_px, tile_px), dtype=bool)
    near[_REACH_PX:-_REACH_PX, _REACH_PX:-_REACH_PX] = False
    return near


def _outside(tile_px: int, padded_px: int) -> np.ndarray:
    """Where the padded tile's pixels lie outside the tile: bool (P, P)."""
    before = (padded_px - tile_px) // 2
    outside = np.ones((padded_px, padded_px), dtype=bool)
    outside[before : before + tile_px, before : before + tile_px] = False
    return outside


def _triangle(where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flat places with row <= column of a symmetric bool (A, A), and those of their mirror images."""
    rows, columns = np.nonzero(np.triu(where))
    return rows * len(where) + columns, columns * len(where) + rows


def _source(tile_px: int, padded_px: int) -> np.ndarray:
    """For every pixel of the padded tile, its place in (tile, filled triangle, mirrored triangle): int (P * P)."""
    outside = _outside(tile_px, padded_px)
    filled, mirrored = _triangle(outside)
    sources = np.empty(padded_px**2, dtype=np.intp)
    sources[~outside.reshape(-1)] = np.arange(tile_px**2)
    sources[filled] = tile_px**2 + np.arange(len(filled))
    below = filled != mirrored
    sources[mirrored[below]] = tile_px**2 + len(filled) + np.flatnonzero(below)
    return sources
