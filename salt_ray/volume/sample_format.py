"""How a sample is stored, and its conversion to float32.

numpy decodes all formats. Including reading, IBM floats take 1.3 times as long as with segyio 1.9.14, int8 two thirds
of the time (experiments/LOG.md). segyio, the reference reader in the tests, reads format 4 as IEEE, formats 7 and 15 as
noise, IBM floats whose first digit is 0 as other values, tiny ones as 0, and too large ones as NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Supported SEG-Y codes (bytes 3225-3226) and their numpy types; code 1 holds IBM floats in 32-bit words.
CODES = {
    1: ("IBM float, 4 bytes", "u4"),
    2: ("int32", "i4"),
    3: ("int16", "i2"),
    5: ("IEEE float, 4 bytes", "f4"),
    6: ("IEEE float, 8 bytes", "f8"),
    8: ("int8", "i1"),
    9: ("int64", "i8"),
    10: ("uint32", "u4"),
    11: ("uint16", "u2"),
    12: ("uint64", "u8"),
    16: ("uint8", "u1"),
}
#: SEG-Y codes that are not supported, with the bytes of a sample.
REFUSED = {4: ("fixed point with gain", 4), 7: ("int24", 3), 15: ("uint24", 3)}
IBM, IEEE = 1, 5

#: An IBM float is normalised: its first hexadecimal digit is not 0. In real IEEE files at least 4 % of the words begin
#: with a 0 when read as IBM, in real IBM files none.
_MOST_ZERO_DIGITS = 0.005
#: With fewer words, or fewer different ones, the test is inconclusive: 0 and 1 stored as IEEE look normalised.
_FEWEST_WORDS, _FEWEST_DIFFERENT = 1000, 100
#: So it is for words within one step of the IBM exponent, a factor of 4 in IEEE: all may fall between two words with a
#: 0. Water velocities do, amplitudes do not.
_SMALLEST_SPAN = 1 << 24
#: Factor of the 24-bit fraction for each first byte of an IBM float (sign and exponent). Exact as float64.
_IBM_SCALE = np.array([(-1.0) ** (byte >> 7) * 2.0 ** (4 * ((byte & 0x7F) - 64) - 24) for byte in range(256)])


@dataclass(frozen=True)
class SampleFormat:
    """The format of stored samples.

    Attributes:
        name: for display.
        word: numpy type of a stored word, including byte order.
        ibm: whether a word is an IBM float.
    """

    name: str
    word: np.dtype
    ibm: bool = False

    def decode(self, words: np.ndarray) -> np.ndarray:
        """Convert stored words to the nearest float32; values out of range become infinite.

        Args:
            words: any shape, of type ``word``.

        Returns:
            A new float32 array of the same shape.
        """
        if self.ibm:
            return _from_ibm(words)
        with np.errstate(over="ignore"):
            return words.astype(np.float32)


def segy_format(code: int, order: str) -> SampleFormat:
    """The format of a code in ``CODES``; ``order`` is numpy's byte order character, '>' or '<'."""
    name, word = CODES[code]
    return SampleFormat(name, np.dtype(word).newbyteorder(order), ibm=code == IBM)


def is_ibm(words: np.ndarray) -> bool | None:
    """Whether 32-bit words are IBM rather than IEEE floats, whatever the header says; None: inconclusive.

    Args:
        words: unsigned integers of 32 bits, as stored, in any byte order and shape.
    """
    words = words.ravel() & np.uint32(0x7FFFFFFF)
    words = words[words != 0]
    if len(words) < _FEWEST_WORDS or len(np.unique(words)) < _FEWEST_DIFFERENT:
        return None
    if np.mean(words & np.uint32(0x00F00000) == 0) > _MOST_ZERO_DIGITS:
        return False
    low, high = np.percentile(words, (1, 99))
    return True if high - low >= _SMALLEST_SPAN else None


def _from_ibm(words: np.ndarray) -> np.ndarray:
    words = words.astype(np.uint32)  # in the machine's byte order
    values = _IBM_SCALE[words >> 24]
    values *= words & 0x00FFFFFF
    with np.errstate(over="ignore"):
        return values.astype(np.float32)
