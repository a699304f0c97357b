"""The submission file: one row a tile, in the order that the survey asks for (method sections 1 and 5)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from salt_ray.errors import SaltRayError
from salt_ray.storage import write_atomically
from salt_ray.survey import rle


class SubmissionError(SaltRayError):
    """Predictions do not cover what the submission asks for."""


def write_submission(path: Path, ids: np.ndarray, masks: np.ndarray, wanted: np.ndarray) -> None:
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
        (missing, "asked for by sample_submission.csv, but not predicted"),
        (extra, "predicted, but not asked for"),
    )
    for tiles, fault in faults:
        if len(tiles):
            raise SubmissionError(f"{len(tiles)} tiles are {fault} (first: {tiles[0]}): run prepare and predict again")
    rows = pd.Series(rle.encode(masks), index=ids).loc[wanted]
    write_atomically(path, pd.DataFrame({"id": wanted, "rle_mask": rows.to_numpy()}).to_csv(index=False))
