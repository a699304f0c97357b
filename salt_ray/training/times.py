"""How long the epochs of a stage took: ``times.csv`` beside its ``history.csv``, a note on which no result depends."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import pandas as pd

from salt_ray.errors import RunError
from salt_ray.storage import StoragePath, readable, write_atomically
from salt_ray.training.models import FoldModel

COLUMNS = {"epoch": int, "ended": float, "seconds": float}


def read_times(folder: StoragePath) -> pd.DataFrame:
    """One row an epoch; none of a stage that was trained before they were kept.

    Args:
        folder: of the stage.

    Returns:
        ``epoch``, from 1; ``ended``, when its validation ended, in seconds since 1970; ``seconds`` of training and
        validation.

    Raises:
        RunError: the file is damaged.
    """
    path = folder / "times.csv"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return pd.DataFrame(columns=list(COLUMNS))
    with readable(path, path):
        return pd.read_csv(io.BytesIO(content), dtype=COLUMNS)[list(COLUMNS)]


def kept_times(folder: StoragePath, epochs: int) -> list[dict[str, Any]]:
    """The rows of a stage that resumes after so many epochs; a damaged file, on which nothing depends, is deleted."""
    with contextlib.suppress(RunError):
        times = read_times(folder)
        return times[times["epoch"] <= epochs].to_dict("records")
    return []


def write_times(folder: StoragePath, times: Sequence[dict[str, Any]]) -> None:
    """Replace the file of a stage by these rows, to the millisecond."""
    write_atomically(folder / "times.csv", pd.DataFrame(times).to_csv(index=False, float_format="%.3f"))


def training_seconds(stages: Sequence[FoldModel]) -> float | None:
    """How long a fold's finished stages trained and validated, in seconds, without the pauses between its starts.

    None where the time of an epoch is not known: it was trained by an older version.

    Raises:
        RunError: a file is damaged.
    """
    times = [(stage, read_times(stage.folder)) for stage in stages]
    if any(len(table) < stage.marker["epochs"] for stage, table in times):
        return None
    return float(sum(table["seconds"].sum() for _, table in times))
