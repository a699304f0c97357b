"""One PNG's bytes as grey values, or a message that says what is wrong with them.

OpenCV decodes; older versions of it return a half-grey picture for half a file without a word. So the chunks are walked
first: a file that was cut or damaged fails a checksum or lacks its end mark. That costs 5 % of the decoding. A file may
hold chunks that are known to leave its samples as they are, and no others.
"""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
from PIL import ExifTags
from PIL.PngImagePlugin import PngImageFile

from salt_ray.survey.memory import MAX_EDGE_PX
from salt_ray.survey.problems import Unsuited

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: The chunks that make up a picture: OpenCV gets no others, since libpng would print a line of its own about each ICC
#: profile, time or text that it finds fault with.
_PICTURE = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}
#: Those that describe it and leave its samples alone: colour management, resolution, text, times; of Apple, Microsoft,
#: ImageMagick and Fireworks. gAMA and sBIT too: no reader changes samples for them.
_DESCRIPTIONS = set(
    b"cHRM cICP cLLI cLLi gAMA iCCP mDCV mDCv sBIT sRGB bKGD hIST pHYs sPLT sCAL oFFs tIME tEXt zTXt iTXt eXIf sTER "
    b"gIFg gIFx dSIG caBX iDOT msOG caNv vpAg mkBF mkBS mkBT mkTS prVW".split()
)
#: Of those that do not, the ones with a name.
_UNSUITED = {
    b"tRNS": "has transparent pixels",
    **dict.fromkeys((b"acTL", b"fcTL", b"fdAT"), "has several pictures (an animation)"),
}
#: Where software writes that a picture is to be turned.
_ORIENTED = (b"eXIf", b"iTXtXML:com.adobe.xmp", b"zTXtRaw profile type exif", b"tEXtRaw profile type exif")


def decode(content: bytes) -> np.ndarray:
    """Grey values of a PNG that is grey or has three equal channels.

    Args:
        content: the whole file.

    Returns:
        uint8 or uint16 (H, W), by the depth of the file.

    Raises:
        ValueError: not a PNG; truncated; damaged; far more data than its picture needs.
        Unsuited: transparent; channels differ; several pictures; to be turned; a chunk that is not known to leave the
            samples as they are; longer than ``MAX_EDGE_PX``.
    """
    picture = _picture(content)
    try:
        pixels = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_UNCHANGED)
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


def _picture(content: bytes) -> bytes:
    """The chunks of the picture alone, of a file that is whole: header first, every checksum right, end mark there."""
    if content[:8] != _SIGNATURE:
        raise ValueError("is truncated" if _SIGNATURE.startswith(content) else "is not a PNG file")
    if content[12:16] != b"IHDR" and len(content) >= 16:
        raise ValueError("is damaged (its header is missing)")
    view = memoryview(content)
    place = 8
    kind = b""
    data = 0  # compressed bytes of the picture
    parts: list[memoryview | bytes] = [_SIGNATURE]
    others: list[memoryview] = []
    while kind != b"IEND":
        length = int.from_bytes(content[place : place + 4], "big")
        kind = content[place + 4 : place + 8]
        end = place + 8 + length
        if end + 4 > len(content):
            raise ValueError("is truncated")
        if zlib.crc32(view[place + 4 : end]) != int.from_bytes(content[end : end + 4], "big"):
            raise ValueError(f"is damaged (checksum of its {kind.decode('ascii', 'replace')} chunk)")
        data += length * (kind == b"IDAT")
        (parts if kind in _PICTURE else others).append(view[place : end + 4])
        place = end + 4
    width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    if max(width, height) > MAX_EDGE_PX:
        raise Unsuited(f"is {width} x {height} px; at most {MAX_EDGE_PX} are read")
    if data > 2 * height * (8 * width + 1) + 1024:  # 8 bytes a px at most; libpng would inflate all of it, for minutes
        raise ValueError(f"is damaged ({data:,} bytes of picture data for {width} x {height} px)")
    if not others:
        return content
    _check_others(content, others)
    return b"".join(parts)


def _check_others(content: bytes, chunks: list[memoryview]) -> None:
    """Unsuited unless what surrounds the picture leaves it as it is."""
    for chunk in chunks:
        kind = bytes(chunk[4:8])
        if kind not in _DESCRIPTIONS:
            name = kind.decode("ascii", "replace")
            unknown = f"has the chunk {name}, which may change pixel values"
            raise Unsuited(_UNSUITED.get(kind, unknown))
    if any(bytes(chunk[4:40]).startswith(_ORIENTED) for chunk in chunks):
        try:
            orientation = PngImageFile(io.BytesIO(content)).getexif().get(ExifTags.Base.Orientation, 1)
        except (OSError, SyntaxError, ValueError, LookupError, struct.error):
            raise ValueError("is damaged (its EXIF or XMP data)") from None
        if orientation != 1:
            raise Unsuited("has an orientation that rotates or mirrors it")
