"""One PNG's bytes as grey values, or a sentence that says what is wrong with them.

OpenCV decodes; older versions of it return a half-grey picture for half a file without a word. So the chunks are walked
first: a file that was cut or damaged fails a checksum or lacks its end mark. That costs 5 % of the decoding.
"""

from __future__ import annotations

import zlib

import cv2
import numpy as np

from salt_ray.survey.memory import MAX_EDGE_PX
from salt_ray.survey.problems import Unsuited

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def decode_grey(content: bytes) -> np.ndarray:
    """Grey values of a PNG that is grey or has three equal channels.

    Args:
        content: the whole file.

    Returns:
        uint8 or uint16 (H, W), by the depth of the file.

    Raises:
        ValueError: no PNG; cut off; damaged; far more data than its picture needs.
        Unsuited: transparent; channels differ; longer than ``MAX_EDGE_PX``.
    """
    _check_chunks(content)
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise ValueError("is damaged (its picture data cannot be decoded)")
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[2] != 3:
        raise Unsuited("has a transparency channel")
    blue, green, red = cv2.split(pixels)
    grey = blue.tobytes()  # comparing bytes is a memcmp: a quarter of the time of an elementwise comparison
    if grey != green.tobytes() or grey != red.tobytes():
        raise Unsuited("has channels that differ")
    return blue


def _check_chunks(content: bytes) -> None:
    """ValueError unless ``content`` is whole: header first, every checksum right, end mark there."""
    if not content:
        raise ValueError("is empty")
    if content[:8] != _SIGNATURE:
        raise ValueError("is cut off" if _SIGNATURE.startswith(content) else "is no PNG")
    if content[12:16] != b"IHDR" and len(content) >= 16:
        raise ValueError("is damaged (it does not begin with its header)")
    view = memoryview(content)
    place = 8
    kind = b""
    data = 0  # compressed bytes of the picture
    while kind != b"IEND":
        length = int.from_bytes(content[place : place + 4], "big")
        kind = content[place + 4 : place + 8]
        end = place + 8 + length
        if end + 4 > len(content):
            raise ValueError("is cut off")
        if zlib.crc32(view[place + 4 : end]) != int.from_bytes(content[end : end + 4], "big"):
            raise ValueError(f"is damaged (checksum of its {kind.decode('ascii', 'replace')} chunk)")
        data += length * (kind == b"IDAT")
        place = end + 4
    width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    if max(width, height) > MAX_EDGE_PX:
        raise Unsuited(f"is {width} x {height} px; at most {MAX_EDGE_PX} are read")
    if data > 2 * height * (8 * width + 1) + 1024:  # 8 bytes a px at most; libpng would inflate all of it, for minutes
        raise ValueError(f"is damaged ({data:,} bytes of picture data for {width} x {height} px)")
