"""A PNG is decoded exactly, or refused: at every cut and every flipped bit."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from salt_ray.survey.memory import MAX_EDGE_PX
from salt_ray.survey.png import decode
from salt_ray.survey.problems import Unsuited

GREY = np.random.default_rng(0).integers(0, 256, (9, 7), np.uint8)


def encoded(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def handmade(width: int, height: int, data: bytes, *chunks: tuple[bytes, bytes], colour: int = 0) -> bytes:
    """With these chunks before the picture's data."""
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)),
        *chunks,
        (b"IDAT", data),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def with_chunks(*chunks: tuple[bytes, bytes], colour: int = 0) -> bytes:
    """A PNG of ``GREY`` with these chunks; of colour type 3 the greys are places in a palette."""
    return handmade(7, 9, zlib.compress(b"".join(b"\0" + row.tobytes() for row in GREY)), *chunks, colour=colour)


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes().removeprefix(b"Exif\0\0")


def xmp(orientation: int) -> bytes:
    return b'XML:com.adobe.xmp\0\0\0\0\0<rdf:Description tiff:Orientation="%d"/>' % orientation


def as_text(profile: bytes) -> bytes:
    """As ImageMagick keeps a profile."""
    return b"Raw profile type exif\0\nexif\n%8d\n%s\n" % (len(profile), profile.hex().encode())


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_grey_values_are_exact(dtype: type, channels: int):
    pixels = GREY.astype(dtype) * (257 if dtype is np.uint16 else 1)
    decoded = decode(encoded(np.repeat(pixels[..., None], channels, axis=2)))
    np.testing.assert_array_equal(decoded, pixels, strict=True)


def test_every_cut_is_found():
    content = encoded(GREY)
    for length in range(len(content)):
        with pytest.raises(ValueError, match=r"truncated|empty"):
            decode(content[:length])


def test_every_flipped_bit_is_found():
    content = encoded(GREY)
    for at in range(len(content)):
        with pytest.raises(ValueError):
            decode(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])


def test_right_checksums_over_wrong_data_are_refused():
    rows = b"".join(b"\0" + row.tobytes() for row in GREY)
    np.testing.assert_array_equal(decode(handmade(7, 9, zlib.compress(rows))), GREY)
    for data in (b"junk", zlib.compress(rows)[:-6]):
        with pytest.raises(ValueError, match="is damaged"):
            decode(handmade(7, 9, data))


def test_a_header_that_claims_a_huge_picture_is_refused():
    with pytest.raises(ValueError, match=f"at most {MAX_EDGE_PX}"):
        decode(handmade(MAX_EDGE_PX + 1, 9, b""))


SRGB = b"icc\0\0" + zlib.compress(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())


@pytest.mark.parametrize(
    "chunks",
    [
        [(b"iCCP", SRGB)],
        [(b"iCCP", b"no profile")],
        [(b"cHRM", b"too short"), (b"tIME", bytes(7)), (b"sRGB", b"\xff")],
        [(b"gAMA", struct.pack(">I", 90909)), (b"sBIT", b"\3"), (b"pHYs", bytes(9)), (b"bKGD", b"\0\5")],
        [(b"tEXt", b"Software\0x"), (b"zTXt", b"a\0\0" + zlib.compress(b"x")), (b"iDOT", bytes(28))],
        [(b"eXIf", exif(1))],
        [(b"iTXt", xmp(1))],
    ],
    ids=lambda chunks: " ".join(kind.decode() for kind, _ in chunks),
)
def test_chunks_that_describe_a_picture_change_nothing_and_nothing_is_printed(chunks: list, capfd):
    """libpng has a line of its own for each profile that it finds fault with, for damaged times and more."""
    np.testing.assert_array_equal(decode(with_chunks(*chunks)), GREY, strict=True)
    assert capfd.readouterr() == ("", "")


def test_a_grey_palette_is_read_as_it_is_shown():
    greys = np.arange(255, -1, -1, dtype=np.uint8)
    np.testing.assert_array_equal(decode(with_chunks((b"PLTE", greys.repeat(3).tobytes()), colour=3)), greys[GREY])


def animation() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(GREY).save(stream, "PNG", save_all=True, append_images=[Image.fromarray(255 - GREY)])
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (animation(), "has several pictures"),
        (with_chunks((b"tRNS", b"\0\5")), "has transparent pixels"),
        (with_chunks((b"PLTE", bytes(768)), (b"tRNS", b"\0"), colour=3), "has transparent pixels"),
        (with_chunks((b"PLTE", bytes(range(256)) * 3), colour=3), "has channels that differ"),
        (encoded(np.dstack([GREY] * 4)), "has a transparency channel"),
        (with_chunks((b"eXIf", exif(6))), "has an orientation that rotates or mirrors it"),
        (with_chunks((b"iTXt", xmp(3))), "has an orientation that rotates or mirrors it"),
        (with_chunks((b"tEXt", as_text(b"Exif\0\0" + exif(8)))), "has an orientation that rotates or mirrors it"),
        (with_chunks((b"pCAL", b"depth\0" + bytes(10))), "has the chunk pCAL, which may change pixel values"),
        (with_chunks((b"orNT", b"\6")), "has the chunk orNT"),
        (with_chunks((b"CgBI", bytes(4))), "has the chunk CgBI"),
    ],
)
def test_another_kind_of_png_is_named(content: bytes, says: str, capfd: pytest.CaptureFixture[str]):
    with pytest.raises(Unsuited, match=says):
        decode(content)
    assert capfd.readouterr() == ("", "")


def test_exif_that_cannot_be_read_may_turn_the_picture():
    with pytest.raises(ValueError, match="its EXIF or XMP data"):
        decode(with_chunks((b"tEXt", b"Raw profile type exif\0\nexif\n  9\nno hex")))
