"""Masks and probabilities as they leave: the submission file, a row a tile (method sections 1 and 5), and pictures."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable

import cv2
import numpy as np
import pandas as pd

from salt_ray.errors import SaltRayError
from salt_ray.storage import StoragePath, write_atomically
from salt_ray.survey import rle


class SubmissionError(SaltRayError):
    """Predictions do not cover what the submission asks for."""


def write_submission(path: StoragePath, ids: np.ndarray, masks: np.ndarray, wanted: np.ndarray) -> None:
    """Write ``id,rle_mask`` rows.

    Args:
        ids: (U,) str, the predicted tiles.
        masks: (U, S, S) bool.
        wanted: (U,) str, the order of the rows.

    Raises:
        SubmissionError: a wanted tile has no prediction, or a predicted one is not wanted; nothing is written.
    """
    missing, extra = np.setdiff1d(wanted, ids), np.setdiff1d(ids, wanted)
    faults = (
        (missing, "listed in sample_submission.csv but not predicted"),
        (extra, "predicted but not listed"),
    )
    for tiles, fault in faults:
        if len(tiles):
            raise SubmissionError(f"{len(tiles)} tiles are {fault} (first: {tiles[0]}): run prepare and predict again")
    rows = pd.Series(rle.encode(masks), index=ids).loc[wanted]
    write_atomically(path, pd.DataFrame({"id": wanted, "rle_mask": rows.to_numpy()}).to_csv(index=False))


def write_masks(path: StoragePath, ids: np.ndarray, masks: np.ndarray) -> None:
    """Write a zip of ``ID.png``: 8-bit grey, 255 where salt is. The same masks give the same bytes.

    Args:
        ids: (n,) str.
        masks: (n, S, S) bool.
    """
    _write_pictures(path, ids, (mask.astype(np.uint8) * 255 for mask in masks))


def write_probabilities(path: StoragePath, ids: np.ndarray, probabilities: np.ndarray) -> None:
    """Write a zip of ``ID.png``: 16-bit grey, 65535 where the probability of salt is 1.

    Args:
        ids: (n,) str.
        probabilities: (n, S, S) floating point, from 0 to 1.
    """
    _write_pictures(path, ids, (np.rint(tile * np.float64(65535)).astype(np.uint16) for tile in probabilities))


def _write_pictures(path: StoragePath, ids: np.ndarray, pictures: Iterable[np.ndarray]) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:  # PNGs are packed already; members get no time of their own
        for tile, picture in zip(ids.tolist(), pictures, strict=True):
            _, png = cv2.imencode(".png", picture)
            archive.writestr(zipfile.ZipInfo(f"{tile}.png"), png.tobytes())
    write_atomically(path, content.getvalue())
