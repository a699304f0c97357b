"""Biharmonic padding against scikit-image tile by tile. Target: 300 times at 101 px; a cost that stays small at 512."""

from __future__ import annotations

import cv2
import numpy as np
from skimage.restoration import inpaint_biharmonic

from benchmarks.harness import alternate, per_tile, row, survey
from salt_ray.config import Geometry
from salt_ray.survey import padding

_TILES = 2048
#: scikit-image takes a tenth of a second for a tile of 101 px.
_PEER_TILES = 4
_COMPARED_TILES = 60
_LARGE_PX = 512
_LARGE_TILES = 16


def measure() -> list[dict]:
    """Milliseconds a tile; the operator is made before, once per geometry."""
    images, _ = survey(_TILES)
    large = np.stack([cv2.resize(image, (_LARGE_PX, _LARGE_PX)) for image in images[:_LARGE_TILES]])
    return [_padding(images, _PEER_TILES, _COMPARED_TILES), _padding(large, 1, 4)]


def _padding(images: np.ndarray, peer_tiles: int, compared: int) -> dict:
    frame = padding.frame_for(images.shape[-1], Geometry())
    operator = padding.operator(frame)
    equal = np.array_equal(operator.images(images[:compared]), _one_by_one(images[:compared], frame))
    ours, peer = alternate(lambda: operator.images(images), lambda: _one_by_one(images[:peer_tiles], frame))
    name = f"padding {frame.tile_px} -> {frame.padded_px}"
    return row(name, per_tile(ours, len(images)), per_tile(peer, peer_tiles), "ms/tile", equal)


def _one_by_one(images: np.ndarray, frame: padding.Frame) -> np.ndarray:
    inner = slice(frame.before, frame.before + frame.tile_px)
    unknown = np.ones((frame.padded_px, frame.padded_px), dtype=bool)
    unknown[inner, inner] = False
    padded = []
    for image in images:
        canvas = np.zeros(unknown.shape, dtype=np.uint8)
        canvas[inner, inner] = image
        padded.append(np.rint(inpaint_biharmonic(canvas, unknown) * 255).astype(np.uint8))
    return np.stack(padded)
