"""From the files of tiles to checked arrays: the amplitudes of images, and masks, in any of the formats read."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TypeVar

import numpy as np

from salt_ray.survey import npy, png, tiff
from salt_ray.survey.coding import CodedMask, coded
from salt_ray.survey.layout import Entry, tile_name
from salt_ray.survey.memory import Memory
from salt_ray.survey.nodata import masked, valid
from salt_ray.survey.problems import Problem, SurveyError, Unsuited

_DECODERS = {"PNG": png.decode, "TIFF": tiff.decode, "NPY": npy.decode}
_AGAIN = "replace it with an intact file or remove its tile"
_CONVERT = "convert it (images: grey, all PNG, all TIFF or all NPY; masks: 0 and one other value) or remove its tile"
_FEWER = "use fewer tiles or a larger machine"
#: Of a tile's file, which is some ten kilobytes.
MAX_TILE_BYTES = 64 << 20
#: Tiles a thread reads between two visits to the pool: enough to hide the visit, few enough to share the work evenly.
_CHUNK = 64

Decoded = TypeVar("Decoded", np.ndarray, CodedMask)


def decode_files(
    files: dict[str, Entry],
    decode: Callable[[str, bytes], Decoded],
    memory: Memory,
    place: str,
    problems: list[Problem],
) -> dict[str, Decoded]:
    """What ``decode`` makes of the name and the content of each readable file, by id.

    Threads: reading, hashing, inflating and decoding all release the interpreter's lock.

    Args:
        files: of tiles, by id.
        decode: ``decode_image`` or ``decode_mask`` of a format.
        memory: what the arrays may take.
        place: that contains the files, for messages.
        problems: takes what is wrong with the others.

    Raises:
        SurveyError: the memory cannot hold the arrays.
    """
    ids = sorted(files)

    def one(i: str) -> Decoded | Problem:
        entry = files[i]
        try:
            if entry.size > MAX_TILE_BYTES:
                raise ValueError(f"is {entry.size:,} bytes long; at most {MAX_TILE_BYTES:,} are read")
            array = decode(entry.name, entry.read())
        except OSError as error:
            return Problem(entry.place, f"cannot be read ({error.strerror or error})", _AGAIN, drops=(i,))
        except ValueError as error:
            remedy = _CONVERT if isinstance(error, Unsuited) else _AGAIN
            return Problem(entry.place, str(error), remedy, drops=(i,))
        if not memory.take(array.nbytes):
            raise SurveyError([Problem(place, f"its pictures take more than {memory}", _FEWER)])
        return array

    # numpy and Pillow warn about files that they can still read (Python 2 headers, EXIF notes), once a file; set
    # here and not by each thread, because filters belong to the process.
    with warnings.catch_warnings(action="ignore", category=UserWarning), ThreadPoolExecutor(_cores()) as pool:
        chunks = pool.map(lambda start: [one(i) for i in ids[start : start + _CHUNK]], range(0, len(ids), _CHUNK))
        results = dict(zip(ids, chain.from_iterable(chunks), strict=True))
    problems += [result for result in results.values() if isinstance(result, Problem)]
    return {i: result for i, result in results.items() if not isinstance(result, Problem)}


def _cores() -> int:
    """Cores this process may use: a container's share, not the machine's count, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decode_image(kind: str, name: str, content: bytes, nodata: float | None = None) -> np.ndarray:
    """Amplitudes (H, W) of an image, in the type that the file has: integers or floating-point numbers, all finite.

    Args:
        kind: the format of the survey's images.
        name: the file's name; its end tells the format.
        content: the whole file.
        nodata: the value that stands for no data; None: what a TIFF says, unless its values are greys of 8 bits, which
            are used as they are.

    Returns:
        A masked array where there are pixels without data.

    Raises:
        ValueError: the file is not whole.
        Unsuited: it is, but of another format, no grey image of numbers, or a longer one than ``MAX_EDGE_PX``.
    """
    pixels = _decode(kind, name, content)
    if pixels.dtype == bool:
        raise Unsuited("holds booleans instead of amplitudes")
    if nodata is None and kind == "TIFF" and pixels.dtype != np.uint8:
        nodata = tiff.declared_nodata(content)
    if nodata is not None:
        pixels = masked(pixels, nodata)
    _check_finite(pixels)
    return pixels


def decode_mask(kind: str | None, name: str, content: bytes) -> CodedMask:
    """A mask's file (H, W); what its values mean all masks of a survey tell together (``coding``).

    Args:
        kind: the format of the survey's masks; None: any.
        name, content: as of ``decode_image``.

    Raises:
        ValueError, Unsuited: as ``decode_image``; and the mask holds more values than there are classes.
    """
    pixels = _decode(kind, name, content)
    _check_finite(pixels)
    return coded(pixels)


def _decode(kind: str | None, name: str, content: bytes) -> np.ndarray:
    format_ = tile_name(name).format
    if format_ != (kind or format_):
        raise Unsuited(f"is {format_}, but most files of its kind are {kind}")
    if not content:
        raise ValueError("is empty")
    return _DECODERS[format_](content)


def _check_finite(pixels: np.ndarray) -> None:
    """Unsuited where a pixel with data is NaN or infinite."""
    values = valid(pixels)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        count = np.count_nonzero(~np.isfinite(values))
        raise Unsuited(f"holds {count:,} non-finite values (NaN or infinity)")
