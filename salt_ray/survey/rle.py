"""Run-length text of masks, both ways (method section 1).

A text is "start length start length …": pixels are numbered from 1, top to bottom, then left to right; an empty mask
is the empty text.

Letters: N masks, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: No mask has as many pixels as a number of more digits counts.
MOST_DIGITS = 9
NO_NUMBERS = np.zeros(0, dtype=np.int64)


class RleError(ValueError):
    """A run-length text is malformed; the message gives the index of the text, what is wrong and what is expected."""


def encode(masks: np.ndarray) -> list[str]:
    """Texts of masks (method section 1).

    Args:
        masks: bool (N, H, W).

    Returns:
        N texts; '' for an empty mask. Runs are sorted, disjoint and as long as possible.

    Raises:
        TypeError: ``masks`` is not bool.
        ValueError: ``masks`` is not (N, H, W) with at least one pixel.
    """
    masks = np.asarray(masks)
    if masks.dtype != np.bool_:
        raise TypeError(f"masks must be bool, not {masks.dtype}: threshold them first")
    if masks.ndim != 3 or masks.shape[1] * masks.shape[2] == 0:
        raise ValueError(f"masks must be (N, H, W) with H, W >= 1, not {masks.shape}")
    return [_text(mask) for mask in masks]


def decode(texts: Sequence[str | float | None], height: int, width: int) -> np.ndarray:
    """Masks of texts (method section 1).

    Args:
        texts: N texts; '', None and NaN (pandas' empty cell) stand for an empty mask. Numbers are separated by spaces.
        height: H in pixels.
        width: W in pixels.

    Returns:
        bool (N, H, W).

    Raises:
        RleError: a text has an odd count of numbers, something that is no whole number, a start or length below 1, a
            run that leaves the mask, or runs that overlap or are not sorted.
        ValueError: ``height`` or ``width`` is below 1.
    """
    if height < 1 or width < 1:
        raise ValueError(f"height and width must be at least 1, not {height} and {width}")
    masks = np.zeros((len(texts), height, width), dtype=bool)  # pages of empty masks are never touched
    for index, text in enumerate(texts):
        numbers = _numbers(text, index)
        if len(numbers):
            masks[index] = _filled(numbers, height * width, index).reshape(width, height).T
    return masks


def runs(line: np.ndarray) -> np.ndarray:
    """The runs of salt on a line of pixels, in order.

    Args:
        line: (S,) bool.

    Returns:
        (k, 2) int64: first pixel of each run and the one after its last, numbered from 0.
    """
    pixels = np.zeros(len(line) + 2, dtype=bool)  # one more before and one behind, so that every run has two ends
    pixels[1:-1] = line
    return np.flatnonzero(pixels[1:] != pixels[:-1]).reshape(-1, 2)


def _text(mask: np.ndarray) -> str:
    numbers = runs(mask.T.reshape(-1))
    numbers[:, 1] -= numbers[:, 0]
    numbers[:, 0] += 1
    return " ".join(map(str, numbers.ravel().tolist()))


def _numbers(text: str | float | None, index: int) -> np.ndarray:
    """The numbers of a text, int64, an even count of them; ``index``: of the text, for errors."""
    if text is None or text != text:  # NaN is the only value that differs from itself
        return NO_NUMBERS
    if not isinstance(text, str):
        raise RleError(f"text {index} is {text!r}: expected 'start length start length …', '' or a missing value")
    digits = text.replace(" ", "")
    if not digits:
        return NO_NUMBERS
    if not (digits.isascii() and digits.isdigit()):
        word = next(word for word in text.split(" ") if word and not (word.isascii() and word.isdigit()))
        raise RleError(f"text {index}: {word!r} is not a whole number; expected 'start length start length …'")
    numbers = np.fromstring(text, dtype=np.int64, sep=" ")  # the largest int64 for what is larger
    if numbers.max() >= 10**MOST_DIGITS:
        longest = max(map(len, text.split()))
        raise RleError(f"text {index} holds a number of {longest} digits: no mask is that large")
    if len(numbers) % 2:
        raise RleError(f"text {index} has {len(numbers)} numbers: expected pairs 'start length start length …'")
    return numbers


def _filled(numbers: np.ndarray, pixels: int, index: int) -> np.ndarray:
    """The mask of a text's numbers, bool (pixels,), column by column; ``index``: of the text, for errors."""
    edges = np.zeros(len(numbers) + 2, dtype=np.int64)  # between pixels: the mask's own, and two of each run
    edges[1:-1:2] = numbers[0::2] - 1
    edges[2:-1:2] = edges[1:-1:2] + numbers[1::2]
    edges[-1] = pixels
    spans = np.diff(edges)  # of pixels outside and inside of runs, in turn
    if spans.min() < 0 or not spans[1::2].all():
        raise RleError(f"text {index}: {_fault(numbers[0::2], numbers[1::2], pixels)}")
    return np.repeat(np.arange(len(spans)) % 2 == 1, spans)


def _fault(starts: np.ndarray, lengths: np.ndarray, pixels: int) -> str:
    """What is wrong with runs of which something is wrong, and with which of them first."""
    ends = starts + lengths
    faults = (
        (starts < 1, "a start is below 1 (pixels are numbered from 1)"),
        (lengths < 1, "a length is below 1"),
        (ends - 1 > pixels, f"a run ends beyond the mask of {pixels} pixels"),
        (starts < np.append(0, starts[:-1]), "runs are not sorted by start"),
        (starts < np.append(0, ends[:-1]), "runs overlap"),
    )
    wrong, fault = next((wrong, fault) for wrong, fault in faults if wrong.any())
    run = wrong.argmax()
    return f"{fault}, at '{starts[run]} {lengths[run]}'"
