"""A PNG is decoded exactly, or refused: at every cut and every flipped bit."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from salt_ray.survey.memory import MAX_EDGE_PX
from salt_ray.survey.png import decode_grey

GREY = np.random.default_rng(0).integers(0, 256, (9, 7), np.uint8)


def encoded(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def handmade(width: int, height: int, data: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_grey_values_are_exact(dtype: type, channels: int):
    pixels = GREY.astype(dtype) * (257 if dtype is np.uint16 else 1)
    decoded = decode_grey(encoded(np.repeat(pixels[..., None], channels, axis=2)))
    np.testing.assert_array_equal(decoded, pixels, strict=True)


def test_every_cut_is_found():
    content = encoded(GREY)
    for length in range(len(content)):
        with pytest.raises(ValueError, match=r"cut off|empty"):
            decode_grey(content[:length])


def test_every_flipped_bit_is_found():
    content = encoded(GREY)
    for at in range(len(content)):
        with pytest.raises(ValueError):
            decode_grey(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])


def test_right_checksums_over_wrong_data_are_refused():
    rows = b"".join(b"\0" + row.tobytes() for row in GREY)
    np.testing.assert_array_equal(decode_grey(handmade(7, 9, zlib.compress(rows))), GREY)
    for data in (b"junk", zlib.compress(rows)[:-6]):
        with pytest.raises(ValueError, match="is damaged"):
            decode_grey(handmade(7, 9, data))


def test_a_header_that_claims_a_huge_picture_is_refused():
    with pytest.raises(ValueError, match=f"at most {MAX_EDGE_PX}"):
        decode_grey(handmade(MAX_EDGE_PX + 1, 9, b""))
