"""One TIFF's bytes as grey values, or a message that says what is wrong with them.

Pillow and its libtiff decode. A file may hold tags that are known to leave its samples as they are, and no others:
what readers show differently is refused. The format has no checksum: a value that was changed on its way may not be
noticed.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import re
import struct
from typing import Any

import numpy as np
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from salt_ray.survey.memory import MAX_EDGE_PX
from salt_ray.survey.problems import Unsuited

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _STRIPS, _ROWS, _STRIP_BYTES = 256, 257, 258, 259, 273, 278, 279
_PREDICTOR, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES, _SUB_PAGES, _FORMAT = 317, 322, 323, 324, 325, 330, 339
_GDAL_METADATA, _GDAL_NODATA = 42112, 42113
#: By (bits, sample format): 1 is unsigned, 2 signed, 3 floating point.
_TYPES = {(8, 1): np.uint8, (16, 1): np.uint16, (16, 2): np.int16, (32, 3): np.float32}
_NONE, _PACKBITS = 1, 32773
#: LZW, and deflate under both of its numbers: differences may be stored with them.
_PREDICTED = (5, 8, 32946)
#: Tags of one value: the value that an absent one means, those that are read, and what is said of others.
_VALUES: dict[int, tuple[int, tuple[int, ...], str]] = {
    254: (0, (0, 2), "is a thumbnail or a mask of another picture"),
    255: (1, (1, 3), "is a thumbnail of another picture"),
    _COMPRESSION: (
        *(_NONE, (_NONE, _PACKBITS, *_PREDICTED)),
        "is compressed by method {}; supported are none, LZW, deflate and PackBits",
    ),
    262: (-1, (1,), "is not greyscale with black at 0 (it may be inverted, or have a palette)"),
    266: (1, (1,), "has the bits of each byte in reverse order (FillOrder {})"),
    277: (1, (1,), "has {} channels"),
    284: (1, (1, 2), "has an unknown PlanarConfiguration ({})"),
    _PREDICTOR: (1, (1, 2, 3), "uses an unknown Predictor ({})"),
}
#: Tags of whole numbers that say where the samples are and what they are.
_LAYOUT = {_WIDTH, _HEIGHT, _BITS, _FORMAT, _STRIPS, _ROWS, _STRIP_BYTES}
_LAYOUT |= {_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES, *_VALUES}
#: Tags that describe a picture and leave its samples alone: names, dates, resolution, range, colour management, XMP,
#: EXIF, IPTC, Photoshop, ICC, GeoTIFF, GDAL, ImageJ, Micro-Manager, padding. (XMP may turn it, which is asked Pillow.)
_DESCRIPTIONS = {263, 269, 270, 271, 272, 274, 280, 281, 282, 283, 285, 286, 287, 288, 289, 296, 297, 301, 305, 306}
_DESCRIPTIONS |= {315, 316, 318, 319, 337, 340, 341, 700, 33432, 33550, 33723, 33922, 34264, 34377, 34665, 34675, 34735}
_DESCRIPTIONS |= {
    34736,
    34737,
    34853,
    37724,
    *range(40091, 40096),
    40965,
    _GDAL_METADATA,
    _GDAL_NODATA,
    50838,
    50839,
    51123,
}
_DESCRIPTIONS |= {59932, 59933}
#: Items of GDAL's metadata that turn samples into amplitudes.
_SCALING = re.compile(r"""<Item\b[^>]*\brole=["'](scale|offset)["'][^>]*>\s*([^<]*?)\s*<""")
#: How the samples of a type are laid out, as Pillow calls it; with the byte order: the file's ("" or B), or, of what
#: libtiff has decoded, the machine's (N).
_RAW_MODES = {np.uint8: "L", np.uint16: "I;16{}", np.int16: "I;16{}S", np.float32: "F;32{}F"}
#: What Pillow raises where a file is damaged.
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError, struct.error)
_BAD_DIRECTORY = "is truncated or damaged (its directory)"


def decode(content: bytes) -> np.ndarray:
    """Grey values of a TIFF of one page and one channel.

    Args:
        content: the whole file.

    Returns:
        uint8, uint16, int16 or float32 (H, W), by the samples of the file.

    Raises:
        ValueError: not a TIFF; truncated; damaged.
        Unsuited: several pages or channels; other samples or compression; turned, to be scaled, white at 0; a tag that
            is not known to leave samples as they are; longer than ``MAX_EDGE_PX``.
    """
    tags = _layout(_directory(content))
    dtype = _check_kind(tags)
    _check_parts(tags, dtype, len(content))
    _silence_libtiff()
    try:
        picture = TiffImageFile(io.BytesIO(content))
        orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)  # of its tag, or else of XMP
        # Said here, because Pillow 13 takes another for int16 and float32 of compressed files whose first byte is the
        # high one, and for a single channel that is said to be stored apart (GDAL's INTERLEAVE=BAND).
        orders = {"libtiff": "N", "raw": "" if content.startswith(b"II") else "B"}
        picture.tile = [
            tile._replace(args=(_RAW_MODES[dtype.type].format(orders[tile.codec_name]), *tile.args[1:]))
            for tile in picture.tile
        ]
        pixels = np.asarray(picture)
    except _DAMAGE:
        raise ValueError("is damaged (its picture data cannot be decoded)") from None
    if orientation != 1:
        raise Unsuited("has an orientation that rotates or mirrors it")
    return pixels.astype(dtype)  # Pillow keeps int16 as int32, and uint16 in the file's byte order


def declared_nodata(content: bytes) -> float | None:
    """The value that a TIFF which ``decode`` reads says to stand for no data; None where it names none.

    GDAL and GeoTIFFs name it as text.
    """
    text = str(_directory(content).get(_GDAL_NODATA))
    try:
        return float(text.strip("\0 "))
    except ValueError:
        return None


@functools.cache
def _silence_libtiff() -> None:
    """libtiff would print a line of its own about damaged data, amid ours; Pillow still raises."""
    with contextlib.suppress(AttributeError, OSError):  # some builds of Pillow do not let anybody ask for that
        set_handler = ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler
        set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
        set_handler(None)


def _directory(content: bytes) -> ImageFileDirectory_v2:
    """The tags of the file's only page, all of which are known."""
    order = {b"II": "little", b"MM": "big"}.get(content[:2])
    kind = content[2:4] if order == "little" else content[3:1:-1]
    if order is None or kind not in (b"*\0", b"+\0"):
        raise ValueError("is truncated" if len(content) < 4 and order else "is not a TIFF file")
    if kind == b"+\0":
        raise Unsuited("is a BigTIFF")
    place = int.from_bytes(content[4:8], order)
    if place + 2 > len(content):
        raise ValueError("is truncated")
    stream = io.BytesIO(content)
    stream.seek(place)
    try:
        directory = ImageFileDirectory_v2(content[:8])
        directory.load(stream)
    except _DAMAGE:
        raise ValueError(_BAD_DIRECTORY) from None
    # Pillow passes over what it cannot read, and where the directory ends too early its ``next`` is still the first.
    if len(directory) != int.from_bytes(content[place : place + 2], order) or directory.next == place:
        raise ValueError(_BAD_DIRECTORY)
    if directory.next or _SUB_PAGES in directory:
        raise Unsuited("has several pages")
    unknown = set(directory) - _LAYOUT - _DESCRIPTIONS
    if unknown:
        raise Unsuited(f"has the tag {min(unknown)}, which may change pixel values")
    for role, text in _SCALING.findall(str(directory.get(_GDAL_METADATA, ""))):
        if text not in (("1", "1.0") if role == "scale" else ("0", "0.0")):
            raise Unsuited(f"has values that must be rescaled first (GDAL: {role} {text}; gdal_translate -unscale)")
    return directory


def _layout(directory: ImageFileDirectory_v2) -> dict[int, Any]:
    """Whole numbers: one of each tag, of the parts of the picture as many as there are."""
    tags: dict[int, Any] = {tag: absent for tag, (absent, _, _) in _VALUES.items()}
    tags |= {_WIDTH: 0, _HEIGHT: 0, _BITS: 1, _FORMAT: 1, _ROWS: 2**32 - 1, _TILE_WIDTH: 0, _TILE_HEIGHT: 0}
    for tag in _LAYOUT & set(directory):
        value = directory[tag]
        values = value if isinstance(value, tuple) else (value,)
        if not all(isinstance(number, int) for number in values):
            raise ValueError(_BAD_DIRECTORY)
        tags[tag] = values if tag not in tags else values[0] if len(set(values)) == 1 else -1
    return tags


def _check_kind(tags: dict[int, Any]) -> np.dtype:
    """The type of the samples of a picture that is of the kind that is read."""
    width, height = tags[_WIDTH], tags[_HEIGHT]
    if min(width, height) < 1:
        raise ValueError(_BAD_DIRECTORY)
    if max(width, height) > MAX_EDGE_PX:
        raise Unsuited(f"is {width} x {height} px; at most {MAX_EDGE_PX} are read")
    for tag, (_, allowed, says) in sorted(_VALUES.items(), key=lambda item: item[0] != 277):
        if tags[tag] not in allowed:
            raise Unsuited(says.format(tags[tag]))
    dtype = _TYPES.get((tags[_BITS], tags[_FORMAT]))
    if dtype is None:
        kind = {1: "unsigned", 2: "signed", 3: "floating-point"}.get(tags[_FORMAT], "other")
        raise Unsuited(f"has {kind} samples of {tags[_BITS]} bits; supported are uint8, uint16, int16 and float32")
    if tags[_PREDICTOR] != 1 and tags[_COMPRESSION] not in _PREDICTED:  # readers disagree whether to sum
        raise Unsuited("uses a Predictor without LZW or deflate")
    if tags[_PREDICTOR] != 1 and (tags[_PREDICTOR] == 3) != (dtype == np.float32):
        raise Unsuited("uses a Predictor for another sample type")
    return np.dtype(dtype)


def _check_parts(tags: dict[int, Any], dtype: np.dtype, length: int) -> None:
    """ValueError unless strips, or tiles, are in the file and make up the picture; they may be longer than needed.

    A file may lack their lengths: those of pictures that are not compressed follow from the rest.
    """
    width, height, is_tiled = tags[_WIDTH], tags[_HEIGHT], _TILES in tags
    across, down = (tags[_TILE_WIDTH], tags[_TILE_HEIGHT]) if is_tiled else (width, min(tags[_ROWS], height))
    offsets, counts = (tags.get(tag, ()) for tag in ((_TILES, _TILE_BYTES) if is_tiled else (_STRIPS, _STRIP_BYTES)))
    if min(across, down) < 1 or max(across, down) > MAX_EDGE_PX:
        raise ValueError(_BAD_DIRECTORY)
    if len(offsets) != -(-width // across) * -(-height // down) or len(counts) not in (0, len(offsets)):
        raise ValueError("is damaged (its strips do not cover the image)")
    for n, offset in enumerate(offsets):
        rows = down if is_tiled else min(down, height - n * down)
        least = rows * across * dtype.itemsize if tags[_COMPRESSION] == _NONE else 1
        if counts and counts[n] < least:
            raise ValueError(f"is damaged ({counts[n]:,} bytes of picture data for {least:,})")
        if offset < 8:
            raise ValueError("is damaged (its strips overlap its header)")
        if offset + max((least, *counts[n : n + 1])) > length:
            raise ValueError("is truncated")
