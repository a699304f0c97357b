"""Where windows are on a section; and a section cut into them with the data around each.

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
        trace, sample: its first ones, its context aside.
        amplitudes: float32 (P, P), NaN where there is no data.
        labels: int8 (P, P): 1 salt, 0 none, -1 not labelled.
    """

    trace: int
    sample: int
    amplitudes: np.ndarray
    labels: np.ndarray


def window_starts(length: int, window_px: int, step: int) -> list[int]:
    """First pixels of the windows that cover an axis: every ``step``, and the last one flush with the end.

    An axis that is shorter than a window has one, from its first pixel on.
    """
    last = max(0, length - window_px)
    return [*range(0, last, step), last]


def mirrored(section: np.ndarray, window_px: int, context_px: int = 0) -> np.ndarray:
    """An array of one or two axes with a context on all sides, and each axis at least a window long between these.

    What is beyond the array is mirrored, as often as it takes.
    """
    beyond = [(context_px, context_px + max(0, window_px - length)) for length in section.shape]
    return np.pad(section, beyond, "reflect")


def cut(amplitudes: np.ndarray, labels: np.ndarray, window: Window, step: int) -> Iterator[Cut]:
    """The windows of a section that hold a labelled pixel, their context aside.

    What is beyond the section is mirrored, and not labelled; where there is no data there is no label either.

    Args:
        amplitudes: float32 (H, W), NaN where there is no data.
        labels: int8 (H, W): 1 salt, 0 none, -1 not labelled.
        window: edge of windows and width of their context.
        step: from one window to the next, in px, along both axes.
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
