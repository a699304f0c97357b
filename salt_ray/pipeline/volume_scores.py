"""How well a predicted section or volume fits labels: over all, by line and by depth.

Letters: S samples, W traces of a line.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from salt_ray.errors import RunError
from salt_ray.metric import UNLABELLED, has_label, tile_scores
from salt_ray.pipeline.assembly import TALLIES
from salt_ray.storage import load_fields, write_atomically
from salt_ray.volume.labels import join_labels
from salt_ray.volume.lines import line_at
from salt_ray.volume.reading import Reading
from salt_ray.volume.scan import open_volume
from salt_ray.volume.slabs import read_values
from salt_ray.volume.volume import Volume
from salt_ray.volume.windows import window_starts

#: Ranges of depth that are told apart.
BANDS = 8
#: Places in counts: both say salt, the prediction alone, the labels alone, neither.
_BOTH, _PREDICTED, _LABELLED, _NEITHER = range(4)


def score_volume(to: Path, labels: Volume, salt: float = 1, without: Volume | None = None) -> dict[str, Any]:
    """Compare a folder of ``volumes.predict_volume`` with labels, which are joined to it by inline and crossline.

    Only labelled samples of traces count that are not dead. The metric is that of tiles, over windows along inlines
    that do not overlap but for the last ones; a window without a labelled sample has none.

    Args:
        to: the folder; ``scores.json`` is written there, and ``report.html`` again.
        labels: ``salt`` where there is salt, 0 where there is none, -1 or 255 where nobody knows.
        salt: the value.
        without: inlines that have a trace here are left out, for instance those that trained the run.

    Returns:
        The content of ``scores.json``.

    Raises:
        RunError: there is no finished prediction, or the labels label none of its traces.
        VolumeError: one of the files has other samples or values, or no trace in common with it, or cannot be read.
    """
    if not (to / "done.json").exists():
        raise RunError(f"{to} holds no finished prediction: run volume predict first")
    summary = load_fields(to / "summary.json", to, "reading", "mask_threshold", "window", "files")
    found = _predicted(to, summary)
    given = join_labels(found, labels, salt)
    geometry, samples = found.geometry, found.traces.samples
    labelled = (given.traces >= 0).any(axis=1)
    trained = np.zeros_like(labelled) if without is None else (join_labels(found, without).traces >= 0).any(axis=1)
    left_out = int(np.count_nonzero(labelled & trained))
    by_sample, lines, scores = np.zeros((4, samples), np.int64), [], []
    for row in np.flatnonzero(labelled & ~trained).tolist():
        line = line_at(geometry, "inline", row)
        probability, truth = read_values(found, geometry.traces[row]), given.on(line).T
        truth[~probability.any(1)] = UNLABELLED
        if not has_label(truth[None])[0]:
            continue
        mask = probability > summary["mask_threshold"]
        counts = _counts(mask, truth)
        by_sample += counts
        own = _windows_scores(mask.T, truth.T, summary["window"])
        scores.append(own)
        lines.append({"inline": line.number, **_shares(counts), "score": float(own.mean()), "windows": len(own)})
    if not lines:
        besides = f" besides those of {without.path}" if left_out else ""
        raise RunError(f"{labels.path} labels no trace of {to}{besides}: give labels of the lines that were predicted")
    result = {
        "labels": str(labels.path),
        "without": None if without is None else str(without.path),
        "left_out": left_out,
        **_shares(by_sample),
        "score": float(np.concatenate(scores).mean()),
        "windows": sum(map(len, scores)),
        "lines": lines,
        "depths": [
            {
                "z_first": found.start + band[0] * found.interval,
                "z_last": found.start + band[-1] * found.interval,
                **_shares(by_sample[:, band]),
            }
            for band in np.array_split(np.arange(samples), BANDS)
            if len(band)
        ],
    }
    write_atomically(to / "scores.json", json.dumps(result, indent=1))
    if set(TALLIES) <= set(summary["files"]):
        from salt_ray.report.volume_page import write_volume_report  # matplotlib: only pictures need it

        write_volume_report(to, labels=given)
    return result


def _predicted(to: Path, summary: dict[str, Any]) -> Volume:
    """The probabilities in a folder, with what was settled for the volume that they come from."""
    if "probability.npy" in summary["files"]:
        return open_volume(to / "probability.npy", Reading(line=summary["reading"]["line"]))
    return open_volume(to / "probability.sgy", Reading(format=5, **summary["reading"]))


def _counts(mask: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """int64 (4, S): how often masks and labels say salt, of labelled samples of traces (W, S)."""
    known, is_salt = truth != UNLABELLED, truth == 1
    kinds = (mask & is_salt, mask & known & ~is_salt, ~mask & is_salt, ~mask & known & ~is_salt)
    return np.stack([kind.sum(0) for kind in kinds])


def _shares(counts: np.ndarray) -> dict[str, Any]:
    """IoU of salt (None where neither says any) and accuracy (None where nothing is labelled), of counts (4, …)."""
    both, predicted, labelled, neither = (int(each) for each in counts.reshape(4, -1).sum(1))
    union, known = both + predicted + labelled, both + predicted + labelled + neither
    return {
        "labelled": known,
        "iou": both / union if union else None,
        "accuracy": (both + neither) / known if known else None,
    }


def _windows_scores(mask: np.ndarray, truth: np.ndarray, window_px: int) -> np.ndarray:
    """The metric of each window of a section (S, W) with a labelled sample, the last windows flush with its ends."""
    starts = [window_starts(length, window_px, window_px) for length in mask.shape]
    cuts = [np.s_[row : row + window_px, column : column + window_px] for row in starts[0] for column in starts[1]]
    pairs = [(truth[cut][None], mask[cut][None]) for cut in cuts]
    return np.concatenate([tile_scores(known, said) for known, said in pairs if has_label(known)[0]])
