"""Run-length text of masks, both ways, for a whole survey at once (method section 1).

A text is "start length start length …": pixels are numbered from 1, top to bottom, then left to right; an empty mask
is the empty text. Neither way transposes pixels: one exclusive-or of each row with the row above finds the few places
where a column changes, and only those are put into column order (and the reverse for reading).

Letters: N masks, H rows, W columns, R runs, T numbers in all texts.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

#: Pixels worked on at a time: small enough to stay in a core's cache, large enough to hide the cost of a numpy call.
_BLOCK_PIXELS = 1 << 21
#: Numbers up to here, and their separators, take less than eight characters; a table of them all is small.
_MOST_PIXELS_OF_VOCABULARY = 1 << 20
#: Two numbers of so many digits add up to less than 2**31; no mask has as many pixels.
_MOST_DIGITS = 9


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
    count, height, width = masks.shape
    block = max(1, _BLOCK_PIXELS // (height * width))
    texts = [""] * count
    for first in range(0, count, block):
        owners, starts, lengths = _runs(np.ascontiguousarray(masks[first : first + block]))
        if len(owners):
            is_last = np.append(owners[1:] != owners[:-1], True)
            filled = owners[is_last] + first
            for index, text in zip(filled.tolist(), _join(starts, lengths, is_last, height * width), strict=True):
                texts[index] = text
    return texts


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
    texts = list(texts)
    masks = np.zeros((len(texts), height, width), dtype=bool)  # pages of empty masks are never touched
    block = max(1, _BLOCK_PIXELS // (height * width))
    for first in range(0, len(texts), block):
        part = [_as_text(first + index, text) for index, text in enumerate(texts[first : first + block])]
        numbers, counts = _numbers(part, first)
        if len(numbers):
            owners, starts, lengths = _checked_runs(numbers, counts, height * width, first)
            _fill(masks[first : first + block].view(np.uint8), owners, starts - 1, lengths)
    return masks


def _runs(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Owner (index of the mask), start (from 1) and length of every run, in order: int (R,) each."""
    count, height, width = masks.shape
    pixels = masks.view(np.uint8)
    flips = np.empty_like(pixels)  # 1 where a pixel differs from its predecessor in column order
    np.bitwise_xor(pixels[:, 1:], pixels[:, :-1], out=flips[:, 1:])
    np.bitwise_xor(pixels[:, 0, 1:], pixels[:, -1, :-1], out=flips[:, 0, 1:])
    flips[:, 0, 0] = pixels[:, 0, 0]
    number = np.uint32 if count * (height * width + 1) < 2**32 else np.uint64  # half the width sorts in half the time
    owner, pixel = np.divmod(np.flatnonzero(flips.view(bool)).astype(number), number(height * width))
    row, column = np.divmod(pixel, number(width))
    stride = number(height * width + 1)  # one more place, for the end of a run that reaches a mask's last pixel
    reaches_end = np.flatnonzero(masks[:, -1, -1]).astype(number)
    places = np.concatenate((owner * stride + column * number(height) + row, reaches_end * stride + (stride - 1)))
    places.sort()
    begins, ends = places[0::2], places[1::2]
    owners = begins // stride
    return owners, begins - owners * stride + 1, ends - begins


def _join(starts: np.ndarray, lengths: np.ndarray, is_last: np.ndarray, pixels: int) -> list[str]:
    """Texts of runs; a text ends with each run that ``is_last``."""
    words = np.empty((len(starts), 2), dtype=np.int64)
    words[:, 0] = starts
    words[:, 1] = lengths
    if pixels > _MOST_PIXELS_OF_VOCABULARY:
        runs = zip(words.tolist(), np.where(is_last, "\n", " ").tolist(), strict=True)
        return "".join(f"{start} {length}{end}" for (start, length), end in runs)[:-1].split("\n")
    words[:, 1] += is_last * (pixels + 1)
    text = _vocabulary(pixels)[words.reshape(-1)].tobytes().translate(None, b"\0")
    return text[:-1].decode("ascii").split("\n")


@functools.lru_cache(maxsize=4)
def _vocabulary(pixels: int) -> np.ndarray:
    """Every number up to ``pixels`` followed by a space, then every number followed by a line end, filled with NUL."""
    numbers = [str(number) for number in range(pixels + 1)]
    words = np.array([n + " " for n in numbers] + [n + "\n" for n in numbers], dtype="S8")
    return words.view(np.uint64)


def _as_text(index: int, text: str | float | None) -> str:
    if isinstance(text, str):
        return text
    if text is None or text != text:  # NaN is the only value that differs from itself
        return ""
    raise RleError(f"text {index} is {text!r}: expected 'start length start length …', '' or a missing value")


def _numbers(texts: list[str], first: int) -> tuple[np.ndarray, np.ndarray]:
    """All numbers in order, int32 (T,), and how many belong to each text, int64 (N,); ``first``: index of texts[0]."""
    text_ends = np.cumsum(np.fromiter(map(len, texts), dtype=np.int64, count=len(texts)) + 1)
    characters = np.frombuffer((" " + " ".join(texts) + " ").encode("ascii", "replace"), dtype=np.uint8)
    digits = characters - np.uint8(ord("0"))  # anything but a digit wraps round to 10 or more
    is_digit = digits < 10
    if np.count_nonzero(is_digit) + np.count_nonzero(characters == ord(" ")) < len(characters):
        foreign = np.flatnonzero(~is_digit & (characters != ord(" ")))[0]
        index = int(np.searchsorted(text_ends, foreign))
        word = next(w for w in texts[index].split(" ") if w and not (w.isascii() and w.isdigit()))
        raise RleError(f"text {first + index}: {word!r} is not a whole number; expected 'start length start length …'")
    edges = np.flatnonzero(is_digit[1:] != is_digit[:-1])
    befores, lasts = edges[0::2], edges[1::2]  # the space before a number and its last digit
    sizes = lasts - befores
    longest = int(sizes.max(initial=0))
    if longest > _MOST_DIGITS:
        index = int(np.searchsorted(text_ends, lasts[sizes.argmax()]))
        raise RleError(f"text {first + index} holds a number of {longest} digits: no mask is that large")
    numbers = digits[lasts].astype(np.int32)
    for place in range(1, longest):
        reaching = np.flatnonzero(sizes > place)
        numbers[reaching] += digits[lasts[reaching] - place] * np.int32(10**place)
    counts = np.diff(np.searchsorted(befores, text_ends), prepend=0)
    return numbers, counts


def _checked_runs(
    numbers: np.ndarray, counts: np.ndarray, pixels: int, first: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Owners, starts (from 1) and lengths, (R,) each, of texts that have none of the faults; else RleError."""
    odd = np.flatnonzero(counts % 2)
    if len(odd):
        raise RleError(
            f"text {first + odd[0]} has {counts[odd[0]]} numbers: expected pairs 'start length start length …'"
        )
    starts, lengths = numbers[0::2], numbers[1::2]
    owners = np.repeat(np.arange(len(counts)), counts // 2)
    ends = starts + lengths
    follows = owners[1:] == owners[:-1]
    faults = (
        (starts < 1, "a start is below 1 (pixels are numbered from 1)"),
        (lengths < 1, "a length is below 1"),
        (ends - 1 > pixels, f"a run leaves the mask of {pixels} pixels"),
        (np.append(False, follows & (starts[1:] < starts[:-1])), "runs are not sorted by start"),
        (np.append(False, follows & (starts[1:] < ends[:-1])), "runs overlap"),
    )
    for is_wrong, fault in faults:
        if is_wrong.any():
            run = int(is_wrong.argmax())
            raise RleError(f"text {first + owners[run]}: {fault}, at '{starts[run]} {lengths[run]}'")
    return owners, starts, lengths


def _fill(pixels: np.ndarray, owners: np.ndarray, begins: np.ndarray, lengths: np.ndarray) -> None:
    """Set the pixels of runs to 1 in ``pixels``, uint8 (N, H, W) of zeros; ``begins`` count from 0.

    First only those pixels are set that differ from the one above them, then every row takes up the row above. Above a
    column's first pixel there is nothing: a run that goes on in the next column is marked there once more. This happens
    in an array (H, filled masks, W), whose rows are long enough for numpy, and leaves the empty masks alone.
    """
    count, height, width = pixels.shape
    ends = begins + lengths
    touches = (owners[1:] == owners[:-1]) & (begins[1:] == ends[:-1])  # no difference between touching runs …
    is_begin = np.append(True, ~touches) | (begins % height == 0)  # … except at a column's top
    is_end = np.append(~touches, True) & (ends % height != 0)
    next_column = begins // height + 1
    crossings = (ends - 1) // height + 1 - next_column  # columns whose top lies inside the run and is not its first
    crossing_run = np.repeat(np.arange(len(crossings)), crossings)
    step = np.arange(len(crossing_run)) - (np.cumsum(crossings) - crossings)[crossing_run]
    tops = (next_column[crossing_run] + step) * height
    column, row = np.divmod(np.concatenate((begins[is_begin], ends[is_end], tops)), height)
    owner = np.concatenate((owners[is_begin], owners[is_end], owners[crossing_run]))
    is_filled = np.bincount(owners, minlength=count) > 0
    filled = np.flatnonzero(is_filled)
    rows = np.zeros((height, len(filled), width), dtype=np.uint8)
    rows.reshape(-1)[(row * len(filled) + (np.cumsum(is_filled) - 1)[owner]) * width + column] = 1
    for below, above in zip(rows[1:], rows[:-1], strict=True):
        below ^= above
    pixels[filled] = rows.transpose(1, 0, 2)
