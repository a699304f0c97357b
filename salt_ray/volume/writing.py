"""Writes SEG-Y revision 1, big-endian: file headers, and traces with given header fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from salt_ray.volume.headers import BINARY_BYTES, TEXT_BYTES, Field, trace_fields
from salt_ray.volume.sample_format import IBM, segy_format

_CARD, _CARDS = 80, 40  # characters per line of the text header, and lines
_FIXED_LENGTH, _REVISION_1, _METRES = 1, 0x0100, 1
#: First bytes of the binary header fields that are written, all 16-bit integers.
_INTERVAL, _SAMPLES, _CODE, _UNIT, _REVISION, _LENGTH = 3217, 3221, 3225, 3255, 3501, 3503


@dataclass(frozen=True)
class SegyWriting:
    """Properties shared by all traces of a file to be written.

    Attributes:
        code: sample format code, one of ``sample_format.CODES``.
        samples: samples per trace, up to 65,535.
        interval_us: sample interval in microseconds, up to 32,767.
    """

    code: int
    samples: int
    interval_us: int

    def file_headers(self, text: Sequence[str]) -> bytes:
        """The text header (EBCDIC) and the binary one, 3,600 bytes.

        Args:
            text: up to 38 lines of up to 76 characters, written in capitals; two lines required by the standard follow.
        """
        lines = [*text, *[""] * (_CARDS - 2 - len(text)), "SEG Y REV1", "END TEXTUAL HEADER"]
        cards = [f"C{number:2} {line.upper()}".ljust(_CARD) for number, line in enumerate(lines, 1)]
        assert len(cards) == _CARDS and all(len(card) == _CARD for card in cards), text
        binary = np.zeros(BINARY_BYTES // 2, ">u2")
        for place, number in {
            _INTERVAL: self.interval_us,
            _SAMPLES: self.samples,
            _CODE: self.code,
            _UNIT: _METRES,
            _REVISION: _REVISION_1,
            _LENGTH: _FIXED_LENGTH,
        }.items():
            binary[(place - TEXT_BYTES - 1) // 2] = number
        return "".join(cards).encode("cp037") + binary.tobytes()

    def traces(self, values: np.ndarray, fields: Mapping[int, np.ndarray | int]) -> bytes:
        """Encode consecutive traces, each with its header.

        Args:
            values: (traces, samples), finite; rounded (IBM) or truncated (integers) to the format.
            fields: trace header fields by first byte, one value per trace or one for all; samples and interval are
                added, all others are 0.
        """
        fields = {Field.SAMPLES: self.samples, Field.INTERVAL: self.interval_us, **fields}
        header = trace_fields((*fields,), ">")
        word = segy_format(self.code, ">").word
        records = np.zeros(len(values), np.dtype([("header", header), ("samples", word, (self.samples,))]))
        for place, numbers in fields.items():
            records["header"][str(place)] = numbers
        records["samples"] = ibm_words(values) if self.code == IBM else values
        return records.tobytes()


def ibm_words(values: np.ndarray) -> np.ndarray:
    """Nearest IBM floats to float32 values, as uint32 of the same shape; ties round to even.

    A float32 with up to 21 significant bits is always exact, one with 24 if its exponent allows.

    Args:
        values: finite, float32.
    """
    fraction, exponent = np.frexp(values.astype(np.float32).astype(np.float64))
    base_16 = -(-exponent // 4)  # rounded up: the fraction is then in [1/16, 1)
    # 24 bits are never rounded up to 1: a float32 fraction that close to it has no more bits.
    digits = np.rint(np.ldexp(np.abs(fraction), exponent - 4 * base_16 + 24)).astype(np.uint32)
    exponent_bits = np.where(digits == 0, 0, base_16 + 64).astype(np.uint32)
    return np.signbit(values).astype(np.uint32) << 31 | exponent_bits << 24 | digits
