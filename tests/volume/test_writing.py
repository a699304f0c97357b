"""SEG-Y that is written from nothing: IBM floats to the bit, headers where the standard has them, a second reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import segyio
from made_segy import ibm_bits

from salt_ray.volume.sample_format import segy_format
from salt_ray.volume.scan import open_volume
from salt_ray.volume.writing import SegyWriting, ibm_words

RNG = np.random.default_rng(5)


def decoded(words: np.ndarray) -> np.ndarray:
    """By the definition, as float64: sign, a power of 16 and 24 bits behind the point."""
    sign = np.where(words >> 31, -1.0, 1.0)
    return sign * (words & 0xFFFFFF) * 16.0 ** ((words >> 24 & 0x7F).astype(int) - 64) / 2**24


def test_what_an_ibm_float_holds_exactly_is_written_and_read_to_the_bit() -> None:
    count = 20_000
    words = RNG.integers(0, 2, count, np.uint32) << 31 | RNG.integers(36, 96, count, np.uint32) << 24
    words |= RNG.integers(0x100000, 0x1000000, count, np.uint32)  # normalised, and in the range of float32
    words[:4] = 0, 0x80000000, 0x41100000, 0xC276A000
    values = segy_format(1, "=").decode(words)
    np.testing.assert_array_equal(values, decoded(words))
    np.testing.assert_array_equal(ibm_words(values), words)
    np.testing.assert_array_equal(np.signbit(values), words >> 31)  # of minus zero too


def test_any_other_value_becomes_the_nearest_ibm_float() -> None:
    values = RNG.integers(0, 2**32, 50_000, np.uint32).view(np.float32)
    values = values[np.isfinite(values) & (values != 0)]
    limits = np.finfo(np.float32)
    edges = [limits.max, limits.tiny, limits.smallest_subnormal, *(np.nextafter(np.float32(16), np.float32((0, 99))))]
    values = np.concatenate([values, edges]).astype(np.float32)
    words = ibm_words(values)
    assert (words & 0x00F00000 != 0).all()  # normalised
    away = np.abs(decoded(words) - values)
    assert (away > 0).mean() > 0.3 and (away == 0).mean() > 0.1  # both kinds are there
    for neighbour in (words - 1, words + 1):
        assert (away <= np.abs(decoded(neighbour) - values)).all()
    chosen = np.flatnonzero(away == 0)[:200]
    assert words[chosen].tolist() == [ibm_bits(value) for value in values[chosen]]


@pytest.mark.parametrize("code", [1, 5, 8])
def test_two_readers_find_what_was_written(code: int, tmp_path: Path) -> None:
    inlines, crosslines, samples = 5, 7, 30
    rows, columns = (axis.ravel() for axis in np.indices((inlines, crosslines)))
    fields = {
        109: 100,
        71: -10,
        181: 5000 + 250 * rows,
        185: 9000 + 250 * columns,
        189: 10 + 2 * rows,
        193: 3 * columns,
    }
    values = RNG.integers(-100, 100, (inlines * crosslines, samples)).astype(np.float32)
    form = SegyWriting(code, samples, 2000)
    (tmp_path / "a.sgy").write_bytes(form.file_headers(["A title", "line two"]) + form.traces(values, fields))

    ours = open_volume(tmp_path / "a.sgy")
    assert (ours.interval, ours.start, ours.text[:2]) == (2.0, 100.0, ("C 1 A TITLE", "C 2 LINE TWO"))
    assert ours.coordinates.spacing == pytest.approx((25, 25))
    np.testing.assert_array_equal(ours.traces.read(0, len(values)), values)
    with segyio.open(tmp_path / "a.sgy") as second:  # its strict mode: a regular volume, sorted
        np.testing.assert_array_equal(segyio.tools.cube(second), values.reshape(inlines, crosslines, samples))
        assert second.ilines.tolist() == [10, 12, 14, 16, 18] and second.samples[:2].tolist() == [100, 102]
        assert second.bin[segyio.BinField.SEGYRevision] == 1 and second.bin[segyio.BinField.TraceFlag] == 1
        text = segyio.tools.wrap(second.text[0])
        assert text.startswith("C 1 A TITLE") and "C39 SEG Y REV1" in text and "C40 END TEXTUAL HEADER" in text
        header = second.header[len(values) - 1]
        written = {field: int(np.broadcast_to(number, len(values))[-1]) for field, number in fields.items()}
        assert {int(field): number for field, number in header.items() if number} == written | {115: 30, 117: 2000}
