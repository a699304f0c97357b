"""A section predicted window by window, with the predictions blended into one.

Letters: H samples, W traces, C edge of a window in px, n windows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property

import numpy as np

from salt_ray.volume.windows import mirrored, window_starts

#: Standard deviation of the Gaussian weights, as a fraction of the window's edge. Predictions are least reliable near a
#: window's edges (Isensee et al., 2021, "nnU-Net").
SIGMA = 1 / 8
#: Smallest weight, so that the total is never 0 where windows meet at their corners.
SMALLEST_WEIGHT = 1e-3
#: Windows cut at a time, however long the section.
AT_ONCE = 256

#: Maps windows (n, C, C) to predictions float32 (n, C, C).
Answer = Callable[[np.ndarray], np.ndarray]


def window_weights(window_px: int) -> np.ndarray:
    """Weights float64 (C, C) of a window's pixels, symmetric about its centre."""
    from_centre = np.arange(window_px) - (window_px - 1) / 2
    bell = np.exp(-0.5 * (from_centre / (SIGMA * window_px)) ** 2)
    return np.maximum(np.outer(bell, bell), SMALLEST_WEIGHT)


class Blending:
    """Windows over sections of one shape. A side shorter than a window is extended by mirroring.

    Args:
        shape: (H, W) of the sections.
        window_px: C.
        step: stride between neighbouring windows in px, 1 to C.
    """

    def __init__(self, shape: tuple[int, int], window_px: int, step: int) -> None:
        self.window_px = window_px
        self._shape = tuple(max(window_px, length) for length in shape)
        self._inside = tuple(map(slice, shape))
        rows, columns = (window_starts(length, window_px, step) for length in shape)
        self._places = [(row, column) for row in rows for column in columns]
        self._weights = window_weights(window_px)

    @cached_property
    def _total(self) -> np.ndarray:
        """Sum of all windows' weights over each pixel; computed on first use, as counting windows does not need it."""
        total = np.zeros(self._shape)
        for place in self._places:
            total[self._window(place)] += self._weights
        return total

    def __len__(self) -> int:
        """How many windows a section has."""
        return len(self._places)

    def join(self, section: np.ndarray, live: np.ndarray, answer: Answer) -> np.ndarray:
        """Predict a section: for each pixel the weighted mean of ``answer`` over the windows that cover it.

        Args:
            section: (H, W), any type.
            live: bool (W,), traces that are predicted; windows without any are skipped.

        Returns:
            float32 (H, W), 0 in traces that are not live.
        """
        padded, alive = mirrored(section, self.window_px), mirrored(live, self.window_px)
        total = np.zeros(self._shape)
        for places in self._groups(alive):
            answers = answer(np.stack([padded[self._window(place)] for place in places]))
            for place, window in zip(places, answers, strict=True):
                total[self._window(place)] += self._weights * window
        total /= self._total
        joined = total[self._inside].astype(np.float32)
        joined[:, ~live] = 0
        return joined

    def _groups(self, alive: np.ndarray) -> Iterator[list[tuple[int, int]]]:
        places = [(row, column) for row, column in self._places if alive[column : column + self.window_px].any()]
        for start in range(0, len(places), AT_ONCE):
            yield places[start : start + AT_ONCE]

    def _window(self, place: tuple[int, int]) -> tuple[slice, slice]:
        row, column = place
        return slice(row, row + self.window_px), slice(column, column + self.window_px)
