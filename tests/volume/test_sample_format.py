"""Samples of every format are decoded to the bit, and floats are told apart by their words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import segyio
from made_segy import WORDS, ibm_bits, waves, write_segy

from salt_ray.volume.sample_format import CODES, REFUSED, is_ibm, segy_format
from salt_ray.volume.scan import describe

RNG = np.random.default_rng(1)


def stored(code: int, shape: tuple[int, int] = (42, 50)) -> np.ndarray:
    """Words of any value; floats are numbers."""
    word = np.dtype(WORDS[code])
    if word.kind == "f":
        return (RNG.normal(0, 1, shape) * 10.0 ** RNG.integers(-30, 30, shape)).astype(word)
    if code == 1:  # normalised, and in the range of float32: what any writer makes
        sign, exponent = RNG.integers(0, 2, shape) << 31, RNG.integers(36, 96, shape) << 24
        return (sign | exponent | RNG.integers(0x100000, 0x1000000, shape)).astype(np.uint32)
    return np.frombuffer(RNG.bytes(shape[0] * shape[1] * word.itemsize), word).reshape(shape)


def slow_ibm(word: int) -> float:
    """By the definition: sign, a power of 16 and 24 bits behind the point."""
    return (-1) ** (word >> 31) * (word & 0xFFFFFF) / 2**24 * 16.0 ** ((word >> 24 & 0x7F) - 64)


@pytest.mark.parametrize("little", [False, True])
@pytest.mark.parametrize("code", CODES)
def test_all_formats_equal_a_second_reader_to_the_bit(code: int, little: bool, tmp_path: Path) -> None:
    words = stored(code)
    path = write_segy(tmp_path / "made.sgy", words, code=code, little=little)
    volume = describe(path)
    assert volume.byte_order == ("little" if little else "big") and volume.traces.format.name == CODES[code][0]
    with segyio.open(path, ignore_geometry=True, endian=volume.byte_order) as second:
        expected = second.trace.raw[:]
    if code != 1:
        np.testing.assert_array_equal(expected, words)  # what the writer put there
    found = volume.traces.read(0, 42)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.view(np.uint32), expected.astype(np.float32).view(np.uint32))
    np.testing.assert_array_equal(volume.traces.read(3, 5), found[3:5])


@pytest.mark.parametrize("little", [False, True])
def test_any_word_is_an_ibm_float_by_its_definition(little: bool) -> None:
    """Where segyio errs: a first digit of 0, values below and above what float32 holds, minus zero."""
    words = RNG.integers(0, 2**32, 20_000, dtype=np.uint32)
    words[:4] = 0, 0x80000000, 0x41100000, 0xC276A000
    form = segy_format(1, "<" if little else ">")
    with np.errstate(over="ignore"):
        expected = np.array([np.float32(slow_ibm(int(word))) for word in words])
    found = form.decode(words.astype(form.word))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found[:4], [0, 0, 1, -118.625])
    assert np.isinf(found).any() and (np.abs(found[found != 0]) < np.finfo(np.float32).tiny).any()


def test_what_float64_holds_and_float32_does_not_is_infinite() -> None:
    form = segy_format(6, ">")
    np.testing.assert_array_equal(form.decode(np.array([1e300, -1e300, np.nan], ">f8")), [np.inf, -np.inf, np.nan])


@pytest.mark.parametrize("scale", [1e-20, 1e-3, 1, 1e4, 1e20])
def test_words_tell_ibm_from_ieee(scale: float) -> None:
    values = waves(40) * scale
    assert is_ibm(values.view(np.uint32)) is False
    assert is_ibm(np.vectorize(ibm_bits, otypes=[np.uint32])(values)) is True


def test_nothing_is_said_of_few_words_or_few_values() -> None:
    """0 and 1 as IEEE floats, a mask, would pass for normalised IBM floats."""
    mask = RNG.integers(0, 2, (100, 100)).astype(np.float32)
    assert is_ibm(mask.view(np.uint32)) is None
    assert is_ibm(waves(10).view(np.uint32)) is None
    assert is_ibm(RNG.uniform(1500, 2000, 5000).astype(np.float32).view(np.uint32)) is None  # velocities in water
    assert is_ibm(RNG.uniform(1500, 4500, 5000).astype(np.float32).view(np.uint32)) is False


@pytest.mark.parametrize("code", REFUSED)
def test_formats_that_are_not_read_are_refused_by_name(code: int, tmp_path: Path) -> None:
    words = np.zeros((42, 50), WORDS[code])
    for little in (False, True):
        with pytest.raises(ValueError, match=f"format {code}, {REFUSED[code][0]}, which is not supported"):
            describe(write_segy(tmp_path / "made.sgy", words, code=code, little=little))
