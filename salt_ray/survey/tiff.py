"""One TIFF's bytes as grey values, or a sentence that says what is wrong with them.

A TIFF is a directory of tags and, anywhere in the file, strips of rows. OpenCV decodes; but it is handed a directory
that is written here, of tags that were checked: so its reader meets no size that was not, none of the many kinds of
TIFF that no tile needs, and no tag of a GeoTIFF, for each of which it would print a line. The format has no checksum: a
value that was changed on its way may not be noticed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import cv2
import numpy as np

from salt_ray.survey.memory import MAX_EDGE_PX
from salt_ray.survey.problems import Unsuited

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_OFFSETS, _ORIENTATION, _CHANNELS, _ROWS, _COUNTS = 273, 274, 277, 278, 279
_PREDICTOR, _TILE_WIDTH, _SAMPLES = 317, 322, 339
#: Tags that are read, and what stands for an absent one; all but the strips' have a single value.
_TAGS = {
    **{_WIDTH: 0, _HEIGHT: 0, _BITS: 1, _COMPRESSION: 1, _PHOTOMETRIC: 1, _OFFSETS: 0, _ORIENTATION: 1},
    **{_CHANNELS: 1, _ROWS: 2**32 - 1, _COUNTS: 0, _PREDICTOR: 1, _TILE_WIDTH: 0, _SAMPLES: 1},
}
#: By (bits, kind of sample): 1 is unsigned, 2 signed, 3 floating point.
_TYPES = {(8, 1): np.uint8, (16, 1): np.uint16, (16, 2): np.int16, (32, 3): np.float32}
#: LZW and deflate (two numbers are in use), which may be used on differences; none and PackBits.
_PREDICTED = (5, 8, 32946)
_COMPRESSIONS = (1, *_PREDICTED, 32773)
_SHORT, _LONG = 3, 4
#: Byte order, the number 42, where the directory lies.
_HEAD_BYTES = 8


@dataclass(frozen=True)
class _Directory:
    """The one directory of a file: byte order ('<' or '>'), values of each tag in ``_TAGS``."""

    order: str
    tags: dict[int, tuple[int, ...]]

    def __getitem__(self, tag: int) -> int:
        return self.tags[tag][0]


def decode_grey(content: bytes) -> np.ndarray:
    """Grey values of a TIFF of one page and one channel.

    Args:
        content: the whole file.

    Returns:
        uint8, uint16, int16 or float32 (H, W), by the samples of the file.

    Raises:
        ValueError: no TIFF; cut off; damaged.
        Unsuited: several pages or channels, other samples or compression, tiled, turned, white at 0; longer than
            ``MAX_EDGE_PX``.
    """
    directory = _read_directory(content)
    dtype = _check_kind(directory)
    _check_strips(directory, dtype, len(content))
    if dtype == np.uint8 and directory[_COMPRESSION] != 1:
        _check_data(directory, content)
    return _decoded(directory.order, directory.tags, content, dtype)


def _read_directory(content: bytes) -> _Directory:
    """The tags of the file's only page."""
    if not content:
        raise ValueError("is empty")
    order = {b"II": "<", b"MM": ">"}.get(content[:2])
    kind = content[2:4] if order != ">" else content[3:1:-1]
    if order is None or kind not in (b"*\0", b"+\0"):
        raise ValueError("is cut off" if len(content) < 4 and order else "is no TIFF")
    if kind == b"+\0":
        raise Unsuited("is a BigTIFF")
    try:
        (place,) = struct.unpack_from(f"{order}I", content, 4)
        (count,) = struct.unpack_from(f"{order}H", content, place)
        tags = {tag: (absent,) for tag, absent in _TAGS.items()}
        for entry in range(place + 2, place + 2 + 12 * count, 12):
            tag, type_, number = struct.unpack_from(f"{order}HHI", content, entry)
            if tag in _TAGS:
                tags[tag] = _values(content, order, type_, number, entry + 8)
        (following,) = struct.unpack_from(f"{order}I", content, place + 2 + 12 * count)
    except struct.error:  # it would lie beyond the end of the file
        raise ValueError("is cut off") from None
    if following:
        raise Unsuited("has several pages")
    return _Directory(order, tags)


def _values(content: bytes, order: str, type_: int, number: int, place: int) -> tuple[int, ...]:
    """Whole numbers of one tag, which stand at ``place`` or, where four bytes do not hold them, where it says."""
    if type_ not in (_SHORT, _LONG) or not 1 <= number <= MAX_EDGE_PX:
        raise ValueError("is damaged (its directory)")
    code = "H" if type_ == _SHORT else "I"
    if number * struct.calcsize(code) > 4:
        (place,) = struct.unpack_from(f"{order}I", content, place)
    return struct.unpack_from(f"{order}{number}{code}", content, place)


def _check_kind(directory: _Directory) -> np.dtype:
    """The type of the samples of a page that is of the kind that is read."""
    width, height, channels = directory[_WIDTH], directory[_HEIGHT], directory[_CHANNELS]
    if min(width, height) < 1:
        raise ValueError("is damaged (its directory)")
    if max(width, height) > MAX_EDGE_PX:
        raise Unsuited(f"is {width} x {height} px; at most {MAX_EDGE_PX} are read")
    if channels != 1:
        raise Unsuited(f"has {channels} channels")
    dtype = _TYPES.get((directory[_BITS], directory[_SAMPLES]))
    if dtype is None:
        kind = {1: "unsigned", 2: "signed", 3: "floating-point"}.get(directory[_SAMPLES], "other")
        raise Unsuited(f"has {kind} samples of {directory[_BITS]} bits; uint8, uint16, int16 and float32 are read")
    if directory[_COMPRESSION] not in _COMPRESSIONS:
        raise Unsuited(f"is compressed by method {directory[_COMPRESSION]}; none, LZW, deflate and PackBits are read")
    if directory[_TILE_WIDTH]:
        raise Unsuited("is divided into tiles where strips are read")
    if directory[_PHOTOMETRIC] != 1:
        raise Unsuited("has white at 0, or a palette, where grey with black at 0 is read")
    if directory[_ORIENTATION] != 1:
        raise Unsuited("is to be turned or mirrored (its orientation)")
    return np.dtype(dtype)


def _check_strips(directory: _Directory, dtype: np.dtype, length: int) -> None:
    """ValueError unless the strips lie in the file and make up the picture; a little more where they are compressed."""
    height, rows = directory[_HEIGHT], directory[_ROWS]
    offsets, counts = directory.tags[_OFFSETS], directory.tags[_COUNTS]
    if rows < 1 or len(offsets) != -(-height // rows) or len(counts) != len(offsets):
        raise ValueError("is damaged (its strips do not make up the picture)")
    if min(offsets) < _HEAD_BYTES:
        raise ValueError("is damaged (its strips lie in its head)")
    if any(offset + count > length for offset, count in zip(offsets, counts, strict=True)):
        raise ValueError("is cut off")
    row_bytes = directory[_WIDTH] * dtype.itemsize
    for strip, count in enumerate(counts):
        size = min(rows, height - strip * rows) * row_bytes
        if count < 1 or (count != size if directory[_COMPRESSION] == 1 else count > 2 * size + 1024):
            raise ValueError(f"is damaged ({count:,} bytes of picture data for {size:,})")


def _check_data(directory: _Directory, content: bytes) -> None:
    """ValueError unless each strip of a compressed picture of 8 bits can be decompressed (but for its last byte or so).

    OpenCV leaves black what it cannot decompress of 8 bits, and says so only of 16: these are what a strip's bytes are
    taken for here.
    """
    width, height, rows = directory[_WIDTH], directory[_HEIGHT], directory[_ROWS]
    for strip, (offset, count) in enumerate(zip(directory.tags[_OFFSETS], directory.tags[_COUNTS], strict=True)):
        size = min(rows, height - strip * rows) * width
        lines = 1 + (size >> 20)  # OpenCV reads no line of more than 2^20 samples
        if size < 2 * lines:
            continue
        tags = {_WIDTH: size // (2 * lines), _HEIGHT: lines, _BITS: 16, _ROWS: lines, _COUNTS: count}
        tags |= {_COMPRESSION: directory[_COMPRESSION], _OFFSETS: _HEAD_BYTES}
        alone = content[:_HEAD_BYTES] + content[offset : offset + count]
        values = {tag: (tags.get(tag, absent),) for tag, absent in _TAGS.items()}
        _decoded(directory.order, values, alone, np.dtype(np.uint16))


def _decoded(order: str, tags: dict[int, tuple[int, ...]], content: bytes, dtype: np.dtype) -> np.ndarray:
    """The picture of checked tags; ValueError where OpenCV cannot decode it."""
    # OpenCV would tell of each strip that it cannot decode, amid the lines for the person; here the file is named. Its
    # log belongs to the process, and other threads decode at the same time: so it stays off from the first TIFF on.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        pixels = cv2.imdecode(np.frombuffer(_rewritten(order, tags, content), np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None or pixels.shape != (tags[_HEIGHT][0], tags[_WIDTH][0]) or pixels.dtype != dtype:
        raise ValueError("is damaged (its picture data cannot be decoded)")
    return pixels


def _rewritten(order: str, tags: dict[int, tuple[int, ...]], content: bytes) -> bytes:
    """The file with a directory of the checked tags alone behind its end."""
    place = len(content) + len(content) % 2
    tags = tags | {_ROWS: (min(tags[_ROWS][0], tags[_HEIGHT][0]),)}
    del tags[_TILE_WIDTH]
    if tags[_COMPRESSION][0] not in _PREDICTED:
        del tags[_PREDICTOR]
    entries, outside = b"", b""
    beyond = place + 2 + 12 * len(tags) + 4
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}I", *values)
        if len(packed) > 4:
            packed, outside = struct.pack(f"{order}I", beyond + len(outside)), outside + packed
        entries += struct.pack(f"{order}HHI", tag, _LONG, len(values)) + packed
    head = content[:4] + struct.pack(f"{order}I", place) + content[_HEAD_BYTES:]
    return head.ljust(place, b"\0") + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + outside
