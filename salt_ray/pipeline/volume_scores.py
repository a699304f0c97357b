"""Scores of a predicted section or volume against labels: overall, by line and by depth.

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

#: Number of depth ranges.
BANDS = 8
#: Indices of counts: salt in both, in the prediction only, in the labels only, in neither.
_BOTH, _PREDICTED, _LABELLED, _NEITHER = range(4)


def score_volume(to: Path, labels: Volume, salt: float = 1, without: Volume | None = None) -> dict[str, Any]:
    """Compare the results of ``volumes.predict_volume`` with labels, matched by inline and crossline.

    Only labelled samples of live traces count. The metric is that of tiles, over adjacent windows along inlines, of
    which only the last may overlap; windows without a labelled sample are skipped.

    Args:
        to: the results folder; writes ``scores.json`` and updates ``report.html``.
        labels: ``salt`` for salt, 0 for none, -1 or 255 for unlabelled.
        salt: the value of salt.
        without: inlines with a trace in this file are excluded, for example those used for training.

    Returns:
        The content of ``scores.json``.

    Raises:
        RunError: there is no finished prediction, or none of its traces is labelled.
        VolumeError: a file differs in samples or values, has no trace in common, or cannot be read.
    """
    if not (to / "done.json").exists():
        raise RunError(f"{to} contains no finished prediction: run volume predict first")
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
        besides = f" outside {without.path}" if left_out else ""
        raise RunError(f"{labels.path} labels no trace of {to}{besides}: give labels of the predicted lines")
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
    """The predicted probabilities, read with the options resolved for the volume."""
    if "probability.npy" in summary["files"]:
        return open_volume(to / "probability.npy", Reading(line=summary["reading"]["line"]))
    return open_volume(to / "probability.sgy", Reading(format=5, **summary["reading"]))


def _counts(mask: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Confusion counts, int64 (4, S), over labelled samples of traces (W, S)."""
    known, is_salt = truth != UNLABELLED, truth == 1
    kinds = (mask & is_salt, mask & known & ~is_salt, ~mask & is_salt, ~mask & known & ~is_salt)
    return np.stack([kind.sum(0) for kind in kinds])


def _shares(counts: np.ndarray) -> dict[str, Any]:
    """IoU of salt (None if neither has any) and accuracy (None if nothing is labelled) from counts (4, …)."""
    both, predicted, labelled, neither = (int(each) for each in counts.reshape(4, -1).sum(1))
    union, known = both + predicted + labelled, both + predicted + labelled + neither
    return {
        "labelled": known,
        "iou": both / union if union else None,
        "accuracy": (both + neither) / known if known else None,
    }


def _windows_scores(mask: np.ndarray, truth: np.ndarray, window_px: int) -> np.ndarray:
    """The metric of each window with a labelled sample in a section (S, W); the last windows are flush with the end."""
    starts = [window_starts(length, window_px, window_px) for length in mask.shape]
    cuts = [np.s_[row : row + window_px, column : column + window_px] for row in starts[0] for column in starts[1]]
    pairs = [(truth[cut][None], mask[cut][None]) for cut in cuts]
    return np.concatenate([tile_scores(known, said) for known, said in pairs if has_label(known)[0]])
