"""The files of tiles as arrays, read, hashed and decoded by threads."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TypeVar

import numpy as np

from salt_ray.survey.coding import CodedMask
from salt_ray.survey.layout import Entry
from salt_ray.survey.memory import Memory
from salt_ray.survey.problems import Problem, SurveyError, Unsuited

_AGAIN = "get the file again or leave its tile out"
_CONVERT = "convert it (images: grey, all PNG, all TIFF or all NPY; masks: 0 and one other value) or leave its tile out"
_FEWER = "use fewer tiles or a larger machine"
#: Tiles a thread reads between two visits to the pool: enough to hide the visit, few enough to share the work evenly.
_CHUNK = 64

Decoded = TypeVar("Decoded", np.ndarray, CodedMask)


def decode(
    files: dict[str, Entry],
    decode_file: Callable[[str, bytes], Decoded],
    memory: Memory,
    place: str,
    problems: list[Problem],
    digests: dict[str, bytes],
) -> dict[str, Decoded]:
    """What ``decode_file`` makes of the name and the content of each readable file, by id.

    Threads: reading, hashing, inflating and decoding all release the interpreter's lock.
    """
    ids = sorted(files)

    def work(first: int) -> list[tuple[bytes, Decoded | Problem]]:
        results: list[tuple[bytes, Decoded | Problem]] = []
        for i in ids[first : first + _CHUNK]:
            digest = b"unread"
            try:
                content = files[i].read()
                digest = hashlib.sha256(content).digest()
                array = decode_file(files[i].name, content)
                if not memory.take(array.nbytes):
                    raise SurveyError([Problem(place, f"its pictures take more than {memory}", _FEWER)])
                results.append((digest, array))
            except SurveyError:  # a ValueError, but not one of this tile
                raise
            except OSError as error:
                reason = f"cannot be read ({error.strerror or error})"
                results.append((digest, Problem(files[i].place, reason, _AGAIN, drops=(i,))))
            except ValueError as error:
                remedy = _CONVERT if isinstance(error, Unsuited) else _AGAIN
                results.append((digest, Problem(files[i].place, str(error), remedy, drops=(i,))))
        return results

    arrays = {}
    # numpy and Pillow warn of what they can read all the same (a header of Python 2, a note of EXIF), once a file; set
    # here and not by each thread, because filters belong to the process.
    with warnings.catch_warnings(action="ignore", category=UserWarning), ThreadPoolExecutor(_cores()) as pool:
        parts = pool.map(work, range(0, len(ids), _CHUNK))
        for i, (digest, result) in zip(ids, chain.from_iterable(parts), strict=True):
            digests[files[i].name] = digest
            if isinstance(result, Problem):
                problems.append(result)
            else:
                arrays[i] = result
    return arrays


def _cores() -> int:
    """Cores this process may use: a container's share, not the machine's count, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
