"""An .npy file is read exactly, or refused: nothing is unpickled, and nothing allocated that the file does not hold."""

import io
import pickle
import struct
import tracemalloc
import warnings

import numpy as np
import pytest
from numpy.lib import format as npy_format

from salt_ray.survey.memory import MAX_EDGE_PX
from salt_ray.survey.npy import decode
from salt_ray.survey.problems import Unsuited

NOISE = np.random.default_rng(0).integers(-90, 90, (9, 7))
NUMBERS = ["?", "i1", "u1", "<i2", ">i2", "<u2", ">u2", "<i4", ">u4", "<i8", ">i8", "<f2", "<f4", ">f4", "<f8", ">f8"]


def encoded(values: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    stream = io.BytesIO()
    npy_format.write_array(stream, values, version)
    return stream.getvalue()


def handmade(descr: str, shape: str, data: bytes = b"", order: str = "False") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
@pytest.mark.parametrize("kind", NUMBERS)
def test_values_are_exact_and_in_the_order_of_the_machine(kind: str, version: tuple[int, int], order: str):
    values = np.asarray(NOISE.astype(kind), order=order)
    decoded = decode(encoded(values, version))
    assert decoded.dtype == values.dtype.newbyteorder("=") and decoded.dtype.isnative
    np.testing.assert_array_equal(decoded, values)


def test_a_part_of_a_larger_array_is_read_as_it_was_saved():
    np.testing.assert_array_equal(decode(encoded(NOISE[::2, 1:-1])), NOISE[::2, 1:-1], strict=True)


@pytest.mark.parametrize("kind", ["?", "<i2", ">f8"])
def test_every_cut_is_found(kind: str):
    content = encoded(NOISE.astype(kind))
    for length in range(len(content)):
        with pytest.raises(ValueError, match=r"is truncated|is empty"):
            decode(content[:length])


@pytest.mark.parametrize("more", [b"\0", b"junk", encoded(NOISE)])
def test_bytes_after_the_array_are_found(more: bytes):
    with pytest.raises(ValueError, match="is damaged"):
        decode(encoded(NOISE) + more)


class Trap:
    """Raises where it is unpickled."""

    def __reduce__(self) -> tuple:
        return pytest.fail, ("it was unpickled",)


def test_objects_are_refused_and_not_unpickled():
    values = np.empty((2, 2), object)
    values.fill(Trap())
    stream = io.BytesIO()
    npy_format.write_array(stream, values, allow_pickle=True)
    content = stream.getvalue()
    with pytest.raises(BaseException, match="it was unpickled"):
        pickle.loads(content[content.index(b"\n") + 1 :])
    with pytest.raises(Unsuited, match="holds Python objects instead of numbers"):
        decode(content)


@pytest.mark.parametrize(
    "values",
    [
        NOISE.astype(complex),
        NOISE.astype(str),
        NOISE.astype(bytes),
        NOISE.astype("m8[s]"),
        np.zeros((3, 3), [("a", "f4"), ("b", "u1")]),
        np.zeros((3, 3), "V4"),
    ],
    ids=lambda values: str(values.dtype),
)
def test_what_is_no_number_is_refused(values: np.ndarray):
    with pytest.raises(Unsuited, match="instead of numbers"):
        decode(encoded(values))


@pytest.mark.parametrize("shape", [(), (5,), (3, 4, 1), (1, 3, 4), (0, 3), (3, 0), (0,)])
def test_what_has_no_rows_and_columns_is_refused(shape: tuple[int, ...]):
    with pytest.raises(Unsuited, match="a tile must be two-dimensional"):
        decode(encoded(np.zeros(shape)))


@pytest.mark.parametrize("shape", [(MAX_EDGE_PX + 1, 1), (1, MAX_EDGE_PX + 1), (2**31, 2**31), (2**64, 1), (10**60, 3)])
def test_a_header_that_claims_a_huge_array_is_refused_before_anything_is_allocated(shape: tuple[int, int]):
    content = handmade("'<f8'", str(shape), bytes(64))
    tracemalloc.start()
    with pytest.raises(Unsuited, match=f"at most {MAX_EDGE_PX} are read"):
        decode(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_the_largest_array_that_may_be_is_not_allocated_where_the_file_does_not_hold_it():
    content = handmade("'<f8'", f"({MAX_EDGE_PX}, {MAX_EDGE_PX})", bytes(64))
    tracemalloc.start()
    with pytest.raises(ValueError, match="is truncated"):
        decode(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("version", [(3, 0), (1, 1), (0, 0), (255, 255)])
def test_other_versions_are_named(version: tuple[int, int]):
    content = encoded(NOISE)
    with pytest.raises(Unsuited, match=rf"version {version[0]}\.{version[1]}"):
        decode(content[:6] + bytes(version) + content[8:])


DESCRIPTIONS = """
'<f4 '|5|None|()|('<f4', -1)|('<f4', 2**70)|[('a',)]|[[]]|{'ab': 1}|'U99999999999999999'|'\\ud800'|''|'(2,)f4'
|__import__('os').abort()|(((((('f4', 1), 1), 1), 1), 1), 1)|'f4' * 9
""".replace("\n", "").split("|")


@pytest.mark.parametrize("descr", DESCRIPTIONS)
@pytest.mark.parametrize("shape", ["(2, 2)", "(True, 2)", "(-1, 2)", "(2,", "None", "2"])
def test_a_header_of_any_literals_is_refused(descr: str, shape: str):
    with pytest.raises(ValueError):
        decode(handmade(descr, shape, bytes(16)))


def test_a_header_of_python_2_is_read():
    """Its long integers; numpy warns of them, which is silent where a survey is read."""
    with pytest.warns(UserWarning, match="Python 2"):
        assert decode(handmade("'<f4'", "(2L, 2L)", bytes(16))).shape == (2, 2)


@pytest.mark.parametrize(
    "header",
    [
        *(b"", b"\n", b"{}", b"[1]", b"{'descr': '<f4'}", b"'''", b"\xff", b" 1\n  2"),
        *(character * 900 for character in (b"{", b"(", b"-", b"9")),
    ],
    ids=lambda header: repr(header[:12]),
)
def test_a_header_that_is_none_is_damaged(header: bytes):
    with pytest.raises(ValueError, match=r"is truncated or damaged \(its header\)"):
        decode(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)


def test_a_header_of_any_length_is_not_parsed():
    with pytest.raises(ValueError, match="its header"):
        decode(handmade("'<f4'" + " " * 5000, "(2, 2)", bytes(16)))


@pytest.mark.parametrize("content", [b"no array", b"PK\x03\x04", b"\x93NUMPI\x01\x00", b"\x89PNG\r\n\x1a\n"])
def test_another_file_is_named_as_such(content: bytes):
    with pytest.raises(ValueError, match="is not an NPY file"):
        decode(content)


def test_changed_bytes_are_refused_or_give_an_array_of_numbers():
    rng = np.random.default_rng(7)
    content = encoded(NOISE.astype(np.int16))
    for _ in range(500):
        changed = bytearray(content)
        for at in rng.integers(0, len(content) - NOISE.size * 2, rng.integers(1, 4)):
            changed[at] = rng.integers(256)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's, of headers as Python 2 wrote them
            try:
                decoded = decode(bytes(changed))
            except ValueError:
                continue
        assert decoded.nbytes == NOISE.size * 2 and decoded.ndim == 2 and decoded.dtype.kind in "biuf"
