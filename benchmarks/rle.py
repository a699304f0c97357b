"""Run lengths of 18,000 masks, both ways, against loops over every pixel. Target: 20 times each.

The loops look at each pixel of the array in turn, as a first implementation does. A loop over a list of the pixels
takes half as long for encoding, one over the salt pixels alone a fifth for decoding.
"""

from __future__ import annotations

import numpy as np

from benchmarks.harness import alternate, per_tile, row, survey
from salt_ray.survey import rle

_MASKS = 18000
#: The loops take a millisecond for a mask.
_PEER_MASKS = 300


def measure() -> list[dict]:
    """Milliseconds a tile, first encoding, then decoding."""
    _, masks = survey(_MASKS)
    few = masks[:_PEER_MASKS]
    texts = rle.encode(masks)
    few_texts = texts[:_PEER_MASKS]
    encodes_alike = few_texts == [_encode(mask) for mask in few]
    decodes_alike = np.array_equal(rle.decode(texts, 101, 101), masks) and all(
        np.array_equal(_decode(text, 101, 101), mask) for text, mask in zip(few_texts, few, strict=True)
    )
    encoding = alternate(lambda: rle.encode(masks), lambda: [_encode(mask) for mask in few])
    decoding = alternate(lambda: rle.decode(texts, 101, 101), lambda: [_decode(text, 101, 101) for text in few_texts])
    return [
        row(name, per_tile(ours, _MASKS), per_tile(peer, _PEER_MASKS), "ms/tile", equal)
        for name, (ours, peer), equal in (
            ("rle encode", encoding, encodes_alike),
            ("rle decode", decoding, decodes_alike),
        )
    ]


def _encode(mask: np.ndarray) -> str:
    height, width = mask.shape
    words: list[str] = []
    start = length = 0
    for column in range(width):
        for row_index in range(height):
            if mask[row_index, column]:
                if not length:
                    start = column * height + row_index + 1
                length += 1
            elif length:
                words += [str(start), str(length)]
                length = 0
    if length:
        words += [str(start), str(length)]
    return " ".join(words)


def _decode(text: str, height: int, width: int) -> np.ndarray:
    numbers = [int(word) for word in text.split()]
    runs = iter(zip(numbers[0::2], numbers[1::2], strict=True))
    beyond = (height * width + 1, 0)
    start, length = next(runs, beyond)
    mask = np.zeros((height, width), dtype=bool)
    pixel = 0
    for column in range(width):
        for row_index in range(height):
            pixel += 1
            if pixel >= start + length:
                start, length = next(runs, beyond)
            mask[row_index, column] = pixel >= start
    return mask
