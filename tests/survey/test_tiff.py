"""A TIFF is read as libtiff shows it, or refused: cut at any byte, with any directory, before memory is taken."""

import io
import struct
import tracemalloc

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from salt_ray.survey.memory import MAX_EDGE_PX
from salt_ray.survey.problems import Unsuited
from salt_ray.survey.tiff import decode

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, silent where a survey is read

TYPES = (np.uint8, np.uint16, np.int16, np.float32)
NOISE = np.random.default_rng(0).integers(-20_000, 20_000, (9, 7))
ASCII, LONG = 2, 4
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, OFFSETS, ORIENTATION = 256, 257, 258, 259, 262, 273, 274
CHANNELS, ROWS, COUNTS, PREDICTOR, SAMPLES = 277, 278, 279, 317, 339
FILL_ORDER, PLANES, SUB_PAGES, EXTRA_SAMPLES, GDAL_METADATA = 266, 284, 330, 338, 42112


def noise(dtype: type) -> np.ndarray:
    return (NOISE * np.pi / 3).astype(dtype) if dtype is np.float32 else NOISE.astype(dtype)


def by_opencv(pixels: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(".tif", pixels, options)[1].tobytes()


def by_tifffile(pixels: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, **{"photometric": "minisblack", **options})
    return stream.getvalue()


def with_a_thumbnail(pixels: np.ndarray) -> bytes:
    """In a directory of its own, which the page's names (SubIFDs)."""
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        writer.write(pixels, photometric="minisblack", subifds=1)
        writer.write(pixels[::2, ::2], photometric="minisblack", subfiletype=1)
    return stream.getvalue()


#: Tags of an uncompressed picture of 7 x 9 px of 8 bits, whose only strip lies at byte 8.
TAGS = {WIDTH: 7, HEIGHT: 9, BITS: 8, COMPRESSION: 1, PHOTOMETRIC: 1, OFFSETS: 8, CHANNELS: 1, ROWS: 9, COUNTS: 63}


def handmade(
    tags: dict[int, int | list[int] | str], *, order: str = "<", data: bytes = NOISE.astype(np.uint8).tobytes()
):
    """A TIFF with these tags, or with lists of values in their place, behind the data."""
    place = 8 + len(data) + len(data) % 2
    entries, outside = b"", b""
    beyond = place + 2 + 12 * len(tags) + 4
    for tag, value in sorted(tags.items()):
        if isinstance(value, str):
            type_, number, packed = ASCII, len(value) + 1, value.encode() + b"\0"
        else:
            values = value if isinstance(value, list) else [value]
            type_, number, packed = LONG, len(values), struct.pack(f"{order}{len(values)}I", *values)
        if len(packed) != 4:
            packed, outside = struct.pack(f"{order}I", beyond + len(outside)), outside + packed
        entries += struct.pack(f"{order}HHI", tag, type_, number) + packed
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", place) + data
    return head.ljust(place, b"\0") + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + outside


# What is read


@pytest.mark.parametrize("compression", [1, 5, 8, 32773, 32946])
@pytest.mark.parametrize("dtype", TYPES)
def test_every_type_and_compression_is_exact(dtype: type, compression: int):
    """As OpenCV, which has a libtiff of its own, wrote it and reads it."""
    content = by_opencv(noise(dtype), cv2.IMWRITE_TIFF_COMPRESSION, compression)
    by_peer = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(by_peer, noise(dtype), strict=True)
    np.testing.assert_array_equal(decode(content), noise(dtype), strict=True)


@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("parts", [{}, {"rowsperstrip": 2}, {"tile": (16, 16)}, {"tile": (16, 32)}], ids=str)
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("dtype", TYPES)
def test_values_in_strips_and_tiles_are_exact(dtype: type, compression: str | None, parts: dict, order: str, planes):
    """In either byte order; planes of one channel are what GDAL writes as INTERLEAVE=BAND."""
    pixels = np.tile(noise(dtype), (3, 5))
    page_name, channel_planes = (struct.pack(f"{order}HHI", tag, 3, 1) for tag in (285, PLANES))
    content = by_tifffile(pixels, byteorder=order, compression=compression, extratags=[(285, 3, 1, planes)], **parts)
    assert content.count(page_name) == 1
    content = content.replace(page_name, channel_planes)
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(content)), pixels, strict=True)
    np.testing.assert_array_equal(decode(content), pixels, strict=True)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_differences_are_summed(dtype: type, order: str):
    content = by_tifffile(noise(dtype), compression="zlib", predictor=True, byteorder=order)
    np.testing.assert_array_equal(decode(content), noise(dtype), strict=True)


def test_differences_of_floating_point_are_summed():
    stream = io.BytesIO()
    options = {"compression": "tiff_adobe_deflate", "tiffinfo": {PREDICTOR: 3}}
    Image.fromarray(noise(np.float32)).save(stream, "TIFF", **options)
    assert tifffile.TiffFile(io.BytesIO(stream.getvalue())).pages[0].predictor == 3
    np.testing.assert_array_equal(decode(stream.getvalue()), noise(np.float32), strict=True)


SCALED = '<GDALMetadata><Item name="{0}" sample="0" role="{0}">{1}</Item></GDALMetadata>'


@pytest.mark.parametrize(
    ("changes", "more"),
    [
        ({}, b""),
        ({COMPRESSION: None, CHANNELS: None, ROWS: None}, b""),
        ({COUNTS: None}, b""),
        ({COUNTS: 80}, bytes(17)),
        ({ROWS: 4, OFFSETS: [8, 36, 64], COUNTS: [28, 28, 28]}, bytes(21)),
        ({ROWS: 4, OFFSETS: [8, 36, 64], COUNTS: None}, b""),
        ({ROWS: 2**32 - 1}, b""),
        ({270: "a section", 33550: [1, 2, 3], 42113: "-9999", ORIENTATION: 1, FILL_ORDER: 1, PLANES: 2}, b""),
        ({GDAL_METADATA: SCALED.format("scale", "1") + SCALED.format("offset", "0")}, b""),
        ({GDAL_METADATA: SCALED.format("unittype", "m")}, b""),
    ],
    ids=str,
)
@pytest.mark.parametrize("order", "<>")
def test_what_says_nothing_of_the_samples_may_be_there_or_not(changes: dict, more: bytes, order: str):
    """Strips may be longer than their rows, or uncounted; tags that describe a picture are none of its samples."""
    tags = {tag: value for tag, value in (TAGS | changes).items() if value is not None}
    grey = NOISE.astype(np.uint8)
    content = handmade(tags, order=order, data=grey.tobytes() + more)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), grey)
    np.testing.assert_array_equal(decode(content), grey, strict=True)


def test_special_values_are_left_to_whoever_reads():
    pixels = np.array([[np.nan, np.inf], [-np.inf, -0.0]], np.float32)
    np.testing.assert_array_equal(decode(by_tifffile(pixels)), pixels, strict=True)


# What is refused: another kind


BYTES = NOISE.astype(np.uint8)
TURNED = "<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:Description tiff:Orientation=\"6\"/></x:xmpmeta>"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (by_tifffile(np.stack([BYTES, BYTES])), "has several pages"),
        (with_a_thumbnail(BYTES), "has several pages"),
        (handmade(TAGS | {SUB_PAGES: 8}), "has several pages"),
        (by_tifffile(np.repeat(BYTES[..., None], 3, 2), photometric="rgb"), "has 3 channels"),
        (by_tifffile(np.stack([BYTES] * 3), photometric="rgb", planarconfig="separate"), "has 3 channels"),
        (by_tifffile(np.repeat(BYTES[..., None], 2, 2), extrasamples=["unassalpha"]), "has the tag 338"),
        (handmade(TAGS | {EXTRA_SAMPLES: 0}), "has the tag 338, which may change pixel values"),
        (handmade(TAGS | {65000: 7}), "has the tag 65000"),
        (handmade(TAGS | {32997: 2}), "has the tag 32997"),
        (handmade(TAGS | {291: [0] * 256}), "has the tag 291"),
        (handmade(TAGS | {320: [0] * 768}), "has the tag 320"),
        (by_tifffile(BYTES, bigtiff=True), "is a BigTIFF"),
        (by_tifffile(BYTES, bigtiff=True, byteorder=">"), "is a BigTIFF"),
        (by_tifffile(BYTES, photometric="miniswhite"), "may be inverted"),
        (by_tifffile(NOISE.astype(np.uint16), photometric="miniswhite"), "may be inverted"),
        (by_tifffile(BYTES, photometric="palette", colormap=np.zeros((3, 256), np.uint16)), "has the tag 320"),
        (handmade({tag: value for tag, value in TAGS.items() if tag != PHOTOMETRIC}), "may be inverted"),
        (by_tifffile(NOISE > 0), "unsigned samples of 1 bits"),
        (handmade(TAGS | {BITS: 4}), "unsigned samples of 4 bits"),
        (handmade(TAGS | {BITS: 12}), "unsigned samples of 12 bits"),
        (by_tifffile(NOISE.astype(np.int8)), "signed samples of 8 bits"),
        (by_tifffile(NOISE.astype(np.int32)), "signed samples of 32 bits"),
        (by_tifffile(NOISE.astype(np.float16)), "floating-point samples of 16 bits"),
        (by_opencv(NOISE.astype(np.float64)), "floating-point samples of 64 bits"),
        (by_tifffile(NOISE.astype(np.complex64)), "other samples of 64 bits"),
        (handmade(TAGS | {ORIENTATION: 3}), "has an orientation that rotates or mirrors it"),
        (by_tifffile(BYTES, extratags=[(700, 1, len(TURNED), TURNED.encode())]), "rotates or mirrors it"),
        (handmade(TAGS | {FILL_ORDER: 2}), "bits of each byte in reverse order"),
        (by_tifffile(BYTES, subfiletype=1), "is a thumbnail"),
        (handmade(TAGS | {COMPRESSION: 7}), "is compressed by method 7"),
        (handmade(TAGS | {COMPRESSION: 50000}), "is compressed by method 50000"),
        (handmade(TAGS | {PREDICTOR: 2}), "uses a Predictor without"),
        (handmade(TAGS | {PREDICTOR: 3, COMPRESSION: 8}), "a Predictor for another sample type"),
        (handmade(TAGS | {GDAL_METADATA: SCALED.format("scale", "0.1")}), "must be rescaled first .GDAL: scale 0.1"),
        (handmade(TAGS | {GDAL_METADATA: SCALED.format("offset", "-7")}), "must be rescaled first .GDAL: offset -7"),
        (handmade(TAGS | {WIDTH: MAX_EDGE_PX + 1}), f"at most {MAX_EDGE_PX} are read"),
    ],
)
def test_another_kind_of_tiff_is_named(content: bytes, says: str):
    with pytest.raises(Unsuited, match=says):
        decode(content)


@pytest.mark.parametrize("edges", [{WIDTH: 2**31}, {HEIGHT: 2**32 - 1}, {WIDTH: 2**31, HEIGHT: 2**31}])
@pytest.mark.parametrize("compression", [1, 5, 8])
def test_a_directory_that_claims_a_huge_picture_is_refused_before_anything_is_allocated(edges: dict, compression: int):
    content = handmade(TAGS | edges | {COMPRESSION: compression})
    tracemalloc.start()
    with pytest.raises(Unsuited, match=f"at most {MAX_EDGE_PX} are read"):
        decode(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


# What is refused: damage


@pytest.mark.parametrize(
    ("tags", "says"),
    [
        ({WIDTH: 0}, "its directory"),
        ({HEIGHT: 0}, "its directory"),
        ({OFFSETS: 9999}, "is truncated"),
        ({OFFSETS: 2**32 - 1}, "is truncated"),
        ({COUNTS: 2**32 - 1}, "is truncated"),
        ({COUNTS: 2**32 - 1, COMPRESSION: 8}, "is truncated"),
        ({COUNTS: 62}, "62 bytes of picture data for 63"),
        ({OFFSETS: 0}, "its strips overlap its header"),
        ({COUNTS: 0, COMPRESSION: 5}, "0 bytes of picture data"),
        ({ROWS: 0}, "its directory"),
        ({ROWS: 3}, "its strips do not cover"),
        ({OFFSETS: [8, 8]}, "its strips do not cover"),
        ({COUNTS: [63, 63]}, "its strips do not cover"),
        ({OFFSETS: [8, 8], COUNTS: [63, 63]}, "its strips do not cover"),
        ({OFFSETS: []}, "its directory"),
        ({322: 16, 323: 0, 324: 8, 325: 256}, "its directory"),
        ({322: 2**31, 323: 2**31, 324: 8, 325: 63}, "its directory"),
        ({322: 16, 323: 16, 324: 8, 325: 63}, "63 bytes of picture data for 256"),
        ({WIDTH: 8}, "63 bytes of picture data for 72"),
        ({COMPRESSION: 8}, "cannot be decoded"),
        ({COMPRESSION: 5}, "cannot be decoded"),
        ({WIDTH: MAX_EDGE_PX, HEIGHT: MAX_EDGE_PX, ROWS: MAX_EDGE_PX, COMPRESSION: 8}, "cannot be decoded"),
        ({WIDTH: None}, "its directory"),
        ({HEIGHT: None}, "its directory"),
        ({OFFSETS: None}, "its strips do not cover"),
    ],
    ids=str,
)
def test_a_directory_that_does_not_make_up_a_picture_is_damage(tags: dict, says: str):
    with pytest.raises(ValueError, match=says) as raised:
        decode(handmade({tag: value for tag, value in (TAGS | tags).items() if value is not None}))
    assert not isinstance(raised.value, Unsuited)


def test_of_two_tags_of_one_number_neither_is_taken():
    content = handmade(TAGS | {270: "x" * 9})
    twice = content.replace(struct.pack("<HH", 270, ASCII), struct.pack("<HH", 262, ASCII))
    with pytest.raises(ValueError, match="its directory"):
        decode(twice)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [5, 8])
def test_the_decoder_prints_nothing_of_its_own(dtype: type, compression: int, capfd: pytest.CaptureFixture[str]):
    content = by_opencv(noise(dtype), cv2.IMWRITE_TIFF_COMPRESSION, compression)
    with pytest.raises(ValueError, match="cannot be decoded"):
        decode(content[:8] + b"\xff" * 40 + content[48:])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("place", [9999, 2**31, 2**32 - 1])
@pytest.mark.parametrize("order", "<>")
def test_a_directory_beyond_the_end_is_a_cut_file(order: str, place: int):
    content = handmade(TAGS, order=order)
    with pytest.raises(ValueError, match="is truncated"):
        decode(content[:4] + struct.pack(f"{order}I", place) + content[8:])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"I", "is not a TIFF"),
        (b"II", "is truncated"),
        (b"MM\0", "is truncated"),
        (b"II*\0", "is truncated"),
        (b"no picture", "is not a TIFF"),
        (b"II\0*\0\0\0\0", "is not a TIFF"),
        (b"MM*\0\0\0\0\0", "is not a TIFF"),
        (b"IM*\0\x08\0\0\0", "is not a TIFF"),
        (b"\x89PNG\r\n\x1a\n", "is not a TIFF"),
    ],
)
def test_another_file_is_named_as_such(content: bytes, says: str):
    with pytest.raises(ValueError, match=says):
        decode(content)


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
    whole = decode(content)
    lengths = [*range(0, len(content), 7), *range(len(content) - 8, len(content))]
    refused = 0
    for length in lengths:
        try:
            decoded = decode(content[:length])
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

    np.testing.assert_array_equal(decode(rebuilt(strips[-1])), pixels, strict=True)
    most = len(strips[-1]) - 8  # an end mark and a checksum are no values
    for length in range(0, most, 1 + most // 60):
        with pytest.raises(ValueError, match="is damaged"):
            decode(rebuilt(strips[-1][:length]))


def refused_or_sane(content: bytes) -> None:
    try:
        decoded = decode(content)
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
    for _ in range(150):
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
    for _ in range(300):
        tags = dict(TAGS)
        for tag in rng.choice([*TAGS, PREDICTOR, SAMPLES, ORIENTATION], rng.integers(1, 4)):
            tags[int(tag)] = int(rng.choice(values))
        refused_or_sane(handmade(tags, order="<>"[rng.integers(2)]))
