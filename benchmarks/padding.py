"""Biharmonic padding 101 -> 148: one matrix product against scikit-image tile by tile. Target: 300 times."""

from __future__ import annotations

import numpy as np
from skimage.restoration import inpaint_biharmonic

from benchmarks.harness import alternate, per_tile, row, survey
from salt_ray.config import Geometry
from salt_ray.survey import padding

_TILES = 2048
#: scikit-image takes a tenth of a second for a tile.
_PEER_TILES = 4
_COMPARED_TILES = 60


def measure() -> list[dict]:
    """Milliseconds a tile; the operator is ready (it comes from the cache, where it is built once per geometry)."""
    images, _ = survey(_TILES)
    frame = padding.frame_for(101, Geometry())
    operator = padding.operator(frame.tile_px, frame.padded_px)
    equal = np.array_equal(operator.images(images[:_COMPARED_TILES]), _one_by_one(images[:_COMPARED_TILES], frame))
    ours, peer = alternate(lambda: operator.images(images), lambda: _one_by_one(images[:_PEER_TILES], frame))
    return [row("padding 101 -> 148", per_tile(ours, _TILES), per_tile(peer, _PEER_TILES), "ms/tile", equal)]


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
