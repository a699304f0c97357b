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
from salt_ray.volume.blending import window_starts
from salt_ray.volume.reading import Reading
from salt_ray.volume.scan import open_volume
from salt_ray.volume.slabs import read_values
from salt_ray.volume.volume import Volume

#: Ranges of depth that are told apart.
BANDS = 8
#: Values of labels for samples that nobody labelled.
_NOT_LABELLED = (-1, 255)
#: Places in counts: both say salt, the prediction alone, the labels alone, neither.
_BOTH, _PREDICTED, _LABELLED, _NEITHER = range(4)


def score_volume(to: Path, labels: Volume, salt: float = 1, without: Volume | None = None) -> dict[str, Any]:
    """Compare a folder of ``volumes.predict_volume`` with labels, which are joined to it by inline and crossline.

    Only labelled samples of traces count that are not dead. The metric is that of tiles, over windows along inlines
    that do not overlap but for the last ones; a window without a labelled sample has none.

    Args:
        to: the folder; ``scores.json`` is written there, and ``report.html`` anew.
        labels: ``salt`` where there is salt, 0 where there is none, -1 or 255 where nobody knows.
        salt: the value.
        without: inlines that have a trace here are left out, for instance those that trained the run.

    Returns:
        The content of ``scores.json``.

    Raises:
        RunError: there is no finished prediction; or the labels have another interval, start or other values, or
            no line in common with it.
        VolumeError: a file cannot be read.
    """
    if not (to / "done.json").exists():
        raise RunError(f"{to} holds no finished prediction: run volume predict first")
    summary = load_fields(to / "summary.json", to, "reading", "mask_threshold", "window", "files")
    found = _predicted(to, summary)
    _check_fits(found, labels)
    geometry, samples = found.geometry, found.traces.samples
    by_sample, lines, scores, left_out = np.zeros((4, samples), np.int64), [], [], 0
    for row in range(geometry.inlines.count):
        inline = geometry.inlines.first + row * geometry.inlines.step
        numbers = _numbers_on(labels, inline, found)
        if not (numbers >= 0).any():
            continue
        if without is not None and (_numbers_on(without, inline, found) >= 0).any():
            left_out += 1
            continue
        probability = read_values(found, geometry.traces[row])
        truth = _truth(labels, read_values(labels, numbers), salt)
        truth[(numbers < 0) | ~probability.any(1)] = UNLABELLED
        if not has_label(truth[None])[0]:
            continue
        mask = probability > summary["mask_threshold"]
        counts = _counts(mask, truth)
        by_sample += counts
        own = _windows_scores(mask.T, truth.T, summary["window"])
        scores.append(own)
        lines.append({"inline": inline, **_shares(counts), "score": float(own.mean()), "windows": len(own)})
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
        from salt_ray.report.predicted_volume import Labels
        from salt_ray.report.volume_page import write_volume_report  # matplotlib: only pictures need it

        write_volume_report(to, labels=Labels(labels, salt))
    return result


def _predicted(to: Path, summary: dict[str, Any]) -> Volume:
    """The probabilities in a folder, with what was settled for the volume that they come from."""
    reading = summary["reading"]
    if "probability.npy" in summary["files"]:
        return open_volume(to / "probability.npy")
    return open_volume(to / "probability.sgy", Reading(format=5, **reading))


def _check_fits(found: Volume, labels: Volume) -> None:
    """Make sure that samples of labels are those of the prediction.

    Raises:
        RunError: they are not.
    """
    if found.geometry.is_line != labels.geometry.is_line:
        kinds = ("a line" if one.geometry.is_line else "a volume" for one in (labels, found))
        raise RunError("{} holds {}, and {} was predicted: give labels of that".format(labels.path, *kinds))
    compared = (
        ("samples", found.traces.samples, labels.traces.samples),
        ("sample interval", found.interval, labels.interval),
        ("start", found.start, labels.start),
    )
    for name, here, theirs in compared:
        if not np.isclose(here, theirs):
            raise RunError(
                f"{labels.path} has {theirs:g} as {name}, the prediction {here:g}: give labels of the same samples"
            )


def _numbers_on(labels: Volume, inline: int, found: Volume) -> np.ndarray:
    """Traces of labels on an inline, int64 (W,) by the crosslines of the prediction; -1 where there is none."""
    own, theirs = found.geometry.crosslines, labels.geometry
    row, rest = divmod(inline - theirs.inlines.first, theirs.inlines.step)
    numbers = np.full(own.count, -1)
    if rest or not 0 <= row < theirs.inlines.count:
        return numbers
    columns, rests = np.divmod(
        own.first + np.arange(own.count) * own.step - theirs.crosslines.first, theirs.crosslines.step
    )
    there = (rests == 0) & (columns >= 0) & (columns < theirs.crosslines.count)
    numbers[there] = theirs.traces[row, columns[there]]
    return numbers


def _truth(labels: Volume, values: np.ndarray, salt: float) -> np.ndarray:
    """Labels int8: 1 salt, 0 none, -1 not labelled.

    Raises:
        RunError: a value is none of those that are known.
    """
    truth = np.full(values.shape, UNLABELLED, np.int8)
    truth[values == 0], truth[values == salt] = 0, 1
    strange = (truth == UNLABELLED) & ~np.isin(values, _NOT_LABELLED)
    if strange.any():
        raise RunError(
            f"{labels.path} holds {values[strange][0]:g}, which is neither salt ({salt:g}), nor none (0), nor not "
            "labelled (-1, 255): say with --salt which value is salt"
        )
    return truth


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
    starts = [window_starts(length, min(window_px, length), window_px) for length in mask.shape]
    cuts = [np.s_[row : row + window_px, column : column + window_px] for row in starts[0] for column in starts[1]]
    pairs = [(truth[cut][None], mask[cut][None]) for cut in cuts]
    return np.concatenate([tile_scores(known, said) for known, said in pairs if has_label(known)[0]])
