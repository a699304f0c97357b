"""Positions of windows on a section, and cutting a section into windows with context.

Letters: H samples and W traces of a section, P edge of a window with its context.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from salt_ray.metric import UNLABELLED
from salt_ray.survey.window import Window


class Cut(NamedTuple):
    """A window of a section.

    Attributes:
        trace, sample: the first ones, without context.
        amplitudes: float32 (P, P), NaN where there is no data.
        labels: int8 (P, P): 1 salt, 0 none, -1 not labelled.
    """

    trace: int
    sample: int
    amplitudes: np.ndarray
    labels: np.ndarray


def window_starts(length: int, window_px: int, step: int) -> list[int]:
    """First pixels of the windows that cover an axis: one every ``step``, the last one flush with the end.

    An axis shorter than a window has one window, at its first pixel.
    """
    last = max(0, length - window_px)
    return [*range(0, last, step), last]


def mirrored(section: np.ndarray, window_px: int, context_px: int = 0) -> np.ndarray:
    """Pad an array of one or two axes by mirroring: to at least a window on each axis, plus context on all sides."""
    beyond = [(context_px, context_px + max(0, window_px - length)) for length in section.shape]
    return np.pad(section, beyond, "reflect")


def cut(amplitudes: np.ndarray, labels: np.ndarray, window: Window, step: int) -> Iterator[Cut]:
    """The windows of a section with a labelled pixel, not counting their context.

    Outside the section data are mirrored and unlabelled; pixels without data are unlabelled too.

    Args:
        amplitudes: float32 (H, W), NaN where there is no data.
        labels: int8 (H, W): 1 salt, 0 none, -1 not labelled.
        window: size of windows and width of their context.
        step: stride between windows in px, along both axes.
    """
    size, context = window.window_px, window.context_px
    whole = mirrored(amplitudes, size, context)
    known = np.full(whole.shape, UNLABELLED, np.int8)
    inside = known[context:, context:][: labels.shape[0], : labels.shape[1]]
    inside[:] = np.where(np.isnan(amplitudes), UNLABELLED, labels)
    for sample in window_starts(amplitudes.shape[0], size, step):
        for trace in window_starts(amplitudes.shape[1], size, step):
            if (known[sample + context :, trace + context :][:size, :size] != UNLABELLED).any():
                part = np.s_[sample : sample + window.tile_px, trace : trace + window.tile_px]
                yield Cut(trace, sample, whole[part], known[part])
