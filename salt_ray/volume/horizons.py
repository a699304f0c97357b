"""Top and base of salt: the first and last threshold crossing of the probability along a trace."""

from __future__ import annotations

import numpy as np


def top_and_base(probability: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Positions where salt begins and ends, linearly interpolated between samples.

    Args:
        probability: float32 (n, S), for n traces.
        threshold: samples above it are salt.

    Returns:
        float64 (n,) each, in samples from 0; NaN where there is no salt. Salt at the first sample begins at 0, and salt
        at the last one ends there.
    """
    salt = probability > threshold
    samples = salt.shape[1]
    first, last = salt.argmax(1), samples - 1 - salt[:, ::-1].argmax(1)
    top, base = _crossing(probability, threshold, first, -1), _crossing(probability, threshold, last, 1)
    nothing = ~salt.any(1)
    top[nothing] = base[nothing] = np.nan
    return top, base


def _crossing(probability: np.ndarray, threshold: float, salt: np.ndarray, step: int) -> np.ndarray:
    """Position of the threshold between a salt sample and its neighbour outside salt."""
    rows, samples = np.arange(len(salt)), probability.shape[1]
    outside = np.clip(salt + step, 0, samples - 1)
    inner, outer = (probability[rows, place].astype(np.float64) for place in (salt, outside))
    at_edge = outside == salt
    share = np.where(at_edge, 0, (inner - threshold) / np.where(inner > outer, inner - outer, 1))
    return salt + step * share
