"""Rule 1: holes in predicted masks become salt (method section 6)."""

from __future__ import annotations

import cv2
import numpy as np

from salt_ray.postprocessing.seen import Correction, SeenMosaic


def fill_holes(mosaic: SeenMosaic) -> list[Correction]:
    """The predictions without their holes: background that no sideways and up-down steps join to the tile's border.

    Where nothing but holes is not salt they stay, if an all-salt mask would be emptied: the prediction is nearer to the
    truth than that.
    """
    predicted = np.flatnonzero(~mosaic.labelled & (mosaic.salt_px > 0)).tolist()
    filled = ((tile, _filled(mosaic.masks[tile])) for tile in predicted)
    return [Correction(tile, mask, ()) for tile, mask in filled if mosaic.full_tiles == "salt" or not mask.all()]


def _filled(mask: np.ndarray) -> np.ndarray:
    """The mask (S, S) bool with its holes filled."""
    framed = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    outside = 2
    cv2.floodFill(framed, None, (0, 0), outside)
    return framed[1:-1, 1:-1] != outside
