"""One .npy file's bytes as an array, or a message that says what is wrong with them.

numpy reads it; the header is looked at first, so that nothing is unpickled, and no memory is taken that the file does
not fill. The format has no checksum: a value that was changed on its way is not noticed.
"""

from __future__ import annotations

import io
import tokenize

import numpy as np
from numpy.lib import format as npy_format

from salt_ray.survey.memory import MAX_EDGE_PX
from salt_ray.survey.problems import Unsuited

_HEADERS = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}
#: Of an array of numbers it has about a hundred; literals of any length would keep Python busy.
_MAX_HEADER_CHARS = 1000
_KINDS = "biuf"


def decode(content: bytes) -> np.ndarray:
    """The array of a file.

    Args:
        content: the whole file.

    Returns:
        Bool, integers or floating-point numbers (H, W), in the machine's byte order.

    Raises:
        ValueError: not an .npy file; truncated; longer than its array.
        Unsuited: not two-dimensional; other values than numbers; longer than ``MAX_EDGE_PX``.
    """
    if not content.startswith(npy_format.MAGIC_PREFIX):
        raise ValueError("is truncated" if npy_format.MAGIC_PREFIX.startswith(content) else "is not an NPY file")
    stream = io.BytesIO(content)
    try:
        version = npy_format.read_magic(stream)
        if version not in _HEADERS:
            raise Unsuited(f"is an NPY file of version {version[0]}.{version[1]}; 1.0 and 2.0 are read")
        shape, _, dtype = _HEADERS[version](stream, max_header_size=_MAX_HEADER_CHARS)
    except Unsuited:
        raise
    except (ValueError, TypeError, LookupError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError):
        raise ValueError("is truncated or damaged (its header)") from None
    if dtype.kind not in _KINDS:
        what = "Python objects" if dtype.hasobject else f"values of type {dtype}"
        raise Unsuited(f"holds {what} instead of numbers")
    if len(shape) != 2 or min(shape) < 1:
        raise Unsuited(f"holds an array of shape {shape}; a tile must be two-dimensional")
    height, width = shape
    if max(shape) > MAX_EDGE_PX:
        raise Unsuited(f"is {width} x {height} px; at most {MAX_EDGE_PX} are read")
    held, size = len(content) - stream.tell(), height * width * dtype.itemsize
    if held != size:
        says = f"{held:,} bytes of data, its header says {size:,}"
        raise ValueError("is truncated" if held < size else f"is damaged ({says})")
    values = np.load(io.BytesIO(content), allow_pickle=False, max_header_size=_MAX_HEADER_CHARS)
    return values.astype(dtype.newbyteorder("="), copy=False)
