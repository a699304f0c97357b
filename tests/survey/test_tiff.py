"""A TIFF is decoded exactly, or refused: cut at any byte, with any directory, and before anything is allocated."""

import io
import struct
import tracemalloc

import cv2
import numpy as np
import pytest
import tifffile

from salt_ray.survey.memory import MAX_EDGE_PX
from salt_ray.survey.problems import Unsuited
from salt_ray.survey.tiff import decode_grey

TYPES = (np.uint8, np.uint16, np.int16, np.float32)
NOISE = np.random.default_rng(0).integers(-20_000, 20_000, (9, 7))
SHORT, LONG = 3, 4
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, OFFSETS, ORIENTATION = 256, 257, 258, 259, 262, 273, 274
CHANNELS, ROWS, COUNTS, PREDICTOR, SAMPLES = 277, 278, 279, 317, 339


def noise(dtype: type) -> np.ndarray:
    return (NOISE * np.pi / 3).astype(dtype) if dtype is np.float32 else NOISE.astype(dtype)


def by_opencv(pixels: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(".tif", pixels, options)[1].tobytes()


def by_tifffile(pixels: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, **{"photometric": "minisblack", **options})
    return stream.getvalue()


#: Tags of an uncompressed picture of 7 x 9 px of 8 bits, whose only strip lies at byte 8.
TAGS = {WIDTH: 7, HEIGHT: 9, BITS: 8, COMPRESSION: 1, PHOTOMETRIC: 1, OFFSETS: 8, CHANNELS: 1, ROWS: 9, COUNTS: 63}


def handmade(tags: dict[int, int | list[int]], *, order: str = "<", data: bytes = NOISE.astype(np.uint8).tobytes()):
    """A TIFF with these tags, or with lists of values in their place, behind the data."""
    place = 8 + len(data) + len(data) % 2
    entries, outside = b"", b""
    beyond = place + 2 + 12 * len(tags) + 4
    for tag, value in sorted(tags.items()):
        values = value if isinstance(value, list) else [value]
        packed = struct.pack(f"{order}{len(values)}I", *values)
        if len(packed) != 4:
            packed, outside = struct.pack(f"{order}I", beyond + len(outside)), outside + packed
        entries += struct.pack(f"{order}HHI", tag, LONG, len(values)) + packed
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", place) + data
    return head.ljust(place, b"\0") + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + outside


@pytest.mark.parametrize("compression", [None, 1, 5, 8, 32773, 32946])
@pytest.mark.parametrize("dtype", TYPES)
def test_values_that_opencv_wrote_are_exact(dtype: type, compression: int | None):
    options = [] if compression is None else [cv2.IMWRITE_TIFF_COMPRESSION, compression]
    np.testing.assert_array_equal(decode_grey(by_opencv(noise(dtype), *options)), noise(dtype), strict=True)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    "options",
    [{}, {"rowsperstrip": 2}, {"rowsperstrip": 1}, {"compression": "zlib"}, {"compression": "zlib", "rowsperstrip": 4}],
    ids=str,
)
@pytest.mark.parametrize("dtype", TYPES)
def test_values_that_tifffile_wrote_are_exact(dtype: type, options: dict, order: str):
    content = by_tifffile(noise(dtype), byteorder=order, **options)
    np.testing.assert_array_equal(decode_grey(content), noise(dtype), strict=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_differences_are_summed(dtype: type):
    content = by_tifffile(noise(dtype), compression="zlib", predictor=True)
    np.testing.assert_array_equal(decode_grey(content), noise(dtype), strict=True)


@pytest.mark.parametrize("order", "<>")
def test_tags_that_are_not_needed_are_not(order: str):
    grey = NOISE.astype(np.uint8)
    np.testing.assert_array_equal(decode_grey(handmade(TAGS, order=order)), grey, strict=True)
    fewest = {tag: value for tag, value in TAGS.items() if tag not in (COMPRESSION, PHOTOMETRIC, CHANNELS, ROWS)}
    np.testing.assert_array_equal(decode_grey(handmade(fewest, order=order)), grey)
    more = TAGS | {ROWS: 2**32 - 1, PREDICTOR: 2, 33550: [1, 2, 3], 65000: 7}
    np.testing.assert_array_equal(decode_grey(handmade(more, order=order)), grey)


def test_special_values_are_left_to_whoever_reads():
    pixels = np.array([[np.nan, np.inf], [-np.inf, -0.0]], np.float32)
    np.testing.assert_array_equal(decode_grey(by_tifffile(pixels)), pixels, strict=True)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (by_tifffile(np.stack([NOISE, NOISE]).astype(np.uint8)), "has several pages"),
        (by_tifffile(np.repeat(NOISE.astype(np.uint8)[..., None], 3, 2), photometric="rgb"), "has 3 channels"),
        (by_opencv(np.repeat(NOISE.astype(np.uint8)[..., None], 3, 2)), "has 3 channels"),
        (by_tifffile(NOISE.astype(np.uint8), tile=(16, 16)), "is divided into tiles"),
        (by_tifffile(NOISE.astype(np.uint8), bigtiff=True), "is a BigTIFF"),
        (by_tifffile(NOISE.astype(np.uint8), bigtiff=True, byteorder=">"), "is a BigTIFF"),
        (by_tifffile(NOISE.astype(np.uint8), photometric="miniswhite"), "white at 0"),
        (by_tifffile(NOISE > 0), "unsigned samples of 1 bits"),
        (by_tifffile(NOISE.astype(np.int8)), "signed samples of 8 bits"),
        (by_tifffile(NOISE.astype(np.int32)), "signed samples of 32 bits"),
        (by_tifffile(NOISE.astype(np.float16)), "floating-point samples of 16 bits"),
        (by_tifffile(NOISE.astype(np.float64)), "floating-point samples of 64 bits"),
        (by_opencv(NOISE.astype(np.float64)), "floating-point samples of 64 bits"),
        (by_tifffile(NOISE.astype(np.complex64)), "other samples of 64 bits"),
        (handmade(TAGS | {ORIENTATION: 3}), "is to be turned or mirrored"),
        (handmade(TAGS | {COMPRESSION: 7}), "is compressed by method 7"),
        (handmade(TAGS | {COMPRESSION: 4}), "is compressed by method 4"),
        (handmade(TAGS | {PHOTOMETRIC: 3}), "a palette"),
        (handmade(TAGS | {WIDTH: MAX_EDGE_PX + 1}), f"at most {MAX_EDGE_PX} are read"),
    ],
)
def test_another_kind_of_tiff_is_named(content: bytes, says: str):
    with pytest.raises(Unsuited, match=says):
        decode_grey(content)


@pytest.mark.parametrize("edges", [{WIDTH: 2**31}, {HEIGHT: 2**31}, {WIDTH: 2**31, HEIGHT: 2**31}, {HEIGHT: 2**32 - 1}])
@pytest.mark.parametrize("compression", [1, 5, 8])
def test_a_directory_that_claims_a_huge_picture_is_refused_before_anything_is_allocated(edges: dict, compression: int):
    content = handmade(TAGS | edges | {COMPRESSION: compression})
    tracemalloc.start()
    with pytest.raises(Unsuited, match=f"at most {MAX_EDGE_PX} are read"):
        decode_grey(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize(
    ("tags", "says"),
    [
        ({WIDTH: 0}, "its directory"),
        ({HEIGHT: 0}, "its directory"),
        ({OFFSETS: 9999}, "is cut off"),
        ({OFFSETS: 2**32 - 1}, "is cut off"),
        ({COUNTS: 2**32 - 1}, "is cut off"),
        ({COUNTS: 62}, "62 bytes of picture data for 63"),
        ({COUNTS: 64}, "64 bytes of picture data for 63"),
        ({OFFSETS: 0}, "its strips lie in its head"),
        ({OFFSETS: 7}, "its strips lie in its head"),
        ({COUNTS: 0}, "0 bytes of picture data"),
        ({COUNTS: 0, COMPRESSION: 5}, "0 bytes of picture data"),
        ({ROWS: 0}, "its strips do not make up"),
        ({ROWS: 3}, "its strips do not make up"),
        ({OFFSETS: [8, 8]}, "its strips do not make up"),
        ({COUNTS: [63, 63]}, "its strips do not make up"),
        ({OFFSETS: [8, 8], COUNTS: [63, 63]}, "its strips do not make up"),
        ({OFFSETS: [8] * 9, COUNTS: [63] * 9, ROWS: 1}, "63 bytes of picture data for 7"),
        ({OFFSETS: []}, "its directory"),
        ({OFFSETS: [8] * (MAX_EDGE_PX + 1)}, "its directory"),
        ({WIDTH: 8}, "63 bytes of picture data for 72"),
        ({COMPRESSION: 8}, "cannot be decoded"),
        ({COMPRESSION: 5}, "cannot be decoded"),
        ({WIDTH: MAX_EDGE_PX, HEIGHT: MAX_EDGE_PX, ROWS: MAX_EDGE_PX, COMPRESSION: 8}, "cannot be decoded"),
    ],
)  # fmt: skip
def test_strips_that_do_not_make_up_the_picture_are_refused(tags: dict, says: str):
    with pytest.raises(ValueError, match=says) as raised:
        decode_grey(handmade(TAGS | tags))
    assert not isinstance(raised.value, Unsuited)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [5, 8])
def test_the_decoder_prints_nothing_of_its_own(dtype: type, compression: int, capfd: pytest.CaptureFixture[str]):
    content = by_opencv(noise(dtype), cv2.IMWRITE_TIFF_COMPRESSION, compression)
    with pytest.raises(ValueError, match="cannot be decoded"):
        decode_grey(content[:8] + b"\xff" * 40 + content[48:])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("absent", [WIDTH, HEIGHT, OFFSETS, COUNTS])
def test_tags_that_are_needed_are(absent: int):
    with pytest.raises(ValueError, match="is damaged"):
        decode_grey(handmade({tag: value for tag, value in TAGS.items() if tag != absent}))


@pytest.mark.parametrize("place", [9999, 2**31, 2**32 - 1])
@pytest.mark.parametrize("order", "<>")
def test_a_directory_beyond_the_end_is_a_cut_file(order: str, place: int):
    content = handmade(TAGS, order=order)
    with pytest.raises(ValueError, match="is cut off"):
        decode_grey(content[:4] + struct.pack(f"{order}I", place) + content[8:])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"I", "is not a TIFF"),
        (b"II", "is cut off"),
        (b"MM\0", "is cut off"),
        (b"II*\0", "is cut off"),
        (b"no picture", "is not a TIFF"),
        (b"II\0*\0\0\0\0", "is not a TIFF"),
        (b"MM*\0\0\0\0\0", "is not a TIFF"),
        (b"IM*\0\x08\0\0\0", "is not a TIFF"),
        (b"\x89PNG\r\n\x1a\n", "is not a TIFF"),
    ],
)
def test_another_file_is_named_as_such(content: bytes, says: str):
    with pytest.raises(ValueError, match=says):
        decode_grey(content)


@pytest.mark.parametrize(
    "content",
    [
        *(by_opencv(noise(dtype)) for dtype in TYPES),
        by_opencv(noise(np.uint16), cv2.IMWRITE_TIFF_COMPRESSION, 8),
        by_opencv(noise(np.uint8), cv2.IMWRITE_TIFF_COMPRESSION, 32773),
        by_tifffile(noise(np.float32)),
        by_tifffile(noise(np.int16), rowsperstrip=2, byteorder=">"),
        by_tifffile(noise(np.uint16), rowsperstrip=2, compression="zlib"),
    ],
    ids=["lzw u1", "lzw u2", "lzw i2", "f4", "deflate", "packbits", "plain", "strips", "deflated strips"],
)
def test_no_cut_gives_other_values(content: bytes):
    whole = decode_grey(content)
    lengths = [*range(0, len(content), 7), *range(len(content) - 8, len(content))]
    refused = 0
    for length in lengths:
        try:
            decoded = decode_grey(content[:length])
        except ValueError as error:
            assert not isinstance(error, Unsuited), (length, error)
            refused += 1
        else:  # what was cut off belonged to nothing that is read
            np.testing.assert_array_equal(decoded, whole, strict=True)
    assert refused >= len(lengths) * 0.75


@pytest.mark.parametrize("shape", [(9, 7), (2, 10), (101, 101)], ids=str)
@pytest.mark.parametrize("compression", [1, 5, 8, 32773])
@pytest.mark.parametrize("dtype", TYPES)
def test_picture_data_that_end_too_early_are_found(dtype: type, compression: int, shape: tuple[int, int]):
    """The file is whole, but its last strip is shorter than it should be."""
    pixels = np.random.default_rng(3).integers(0, 256, shape).astype(dtype)
    content = by_opencv(pixels, cv2.IMWRITE_TIFF_COMPRESSION, compression)
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page = file.pages[0]
        tags = {code: page.tags[code].value for code in (*TAGS, PREDICTOR, SAMPLES) if code in page.tags}
        strips = [content[at : at + length] for at, length in zip(page.dataoffsets, page.databytecounts, strict=True)]
    tags = {code: list(value) if isinstance(value, tuple) else int(value) for code, value in tags.items()}

    def rebuilt(last: bytes) -> bytes:
        parts = [*strips[:-1], last]
        offsets = [8 + sum(map(len, parts[:i])) for i in range(len(parts))]
        return handmade(tags | {OFFSETS: offsets, COUNTS: list(map(len, parts))}, data=b"".join(parts))

    np.testing.assert_array_equal(decode_grey(rebuilt(strips[-1])), pixels, strict=True)
    most = len(strips[-1]) - 8  # an end mark and a checksum are no values
    for length in range(0, most, 1 + most // 60):
        with pytest.raises(ValueError, match="is damaged"):
            decode_grey(rebuilt(strips[-1][:length]))


def refused_or_sane(content: bytes) -> None:
    try:
        decoded = decode_grey(content)
    except ValueError:
        return
    assert decoded.ndim == 2 and decoded.dtype in TYPES
    assert 1 <= min(decoded.shape) <= max(decoded.shape) <= MAX_EDGE_PX


@pytest.mark.parametrize("kind", ["lzw", "deflate", "packbits", "plain", "strips"])
def test_changed_bytes_are_refused_or_give_a_picture(kind: str):
    content = {
        "lzw": by_opencv(noise(np.uint8)),
        "deflate": by_opencv(noise(np.float32), cv2.IMWRITE_TIFF_COMPRESSION, 8),
        "packbits": by_opencv(noise(np.int16), cv2.IMWRITE_TIFF_COMPRESSION, 32773),
        "plain": by_tifffile(noise(np.uint16), byteorder=">"),
        "strips": by_tifffile(noise(np.uint8), rowsperstrip=2, compression="zlib"),
    }[kind]
    rng = np.random.default_rng(len(content))
    for _ in range(400):
        changed = bytearray(content)
        for at in rng.integers(4, len(content), rng.integers(1, 6)):
            changed[at] = rng.choice([0, 1, 2, 255, rng.integers(256)])
        refused_or_sane(bytes(changed))


def test_random_bytes_behind_the_header_are_refused_or_give_a_picture():
    rng = np.random.default_rng(5)
    for _ in range(300):
        head = (b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08")[rng.integers(2)]
        refused_or_sane(head + rng.bytes(int(rng.integers(0, 3000))))


def test_directories_of_random_values_are_refused_or_give_a_picture():
    rng = np.random.default_rng(6)
    values = [0, 1, 2, 3, 5, 7, 8, 9, 16, 32, 63, 64, 255, 4096, 32773, 65535, 2**31 - 1, 2**31, 2**32 - 1]
    for _ in range(1000):
        tags = dict(TAGS)
        for tag in rng.choice([*TAGS, PREDICTOR, SAMPLES, ORIENTATION], rng.integers(1, 4)):
            tags[int(tag)] = int(rng.choice(values))
        refused_or_sane(handmade(tags, order="<>"[rng.integers(2)]))
