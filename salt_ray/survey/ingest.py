"""Reading a survey and checking all of it: arrays on one side, every problem on the other.

Letters: N tiles = L labelled, then U unlabelled, each sorted by id; S tile edge in px.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

import numpy as np

from salt_ray.survey import png, rle
from salt_ray.survey.memory import Memory
from salt_ray.survey.problems import Problem, SurveyError
from salt_ray.survey.source import FOLDERS, TABLES, Entry, Source
from salt_ray.survey.tables import ID, ID_RULE, depth_ft, read_table

_TRAIN, _MASKS, _TEST = FOLDERS
_TRAIN_CSV, _DEPTHS_CSV, _SUBMISSION_CSV = TABLES
_AGAIN = "get the file again or leave its tile out"
_CONVERT = "convert it (images: 8-bit grey PNG; masks: 0 and one other value) or leave its tile out"
_CUT = "cut it to that size or leave its tile out"
_FEWER = "use fewer tiles or a larger machine"
#: Tiles a thread reads between two visits to the pool: enough to hide the visit, few enough to share the work evenly.
_CHUNK = 64


@dataclass(frozen=True)
class Reading:
    """What was read.

    Attributes:
        arrays: ids, images, masks, depths, constant, submission_ids as in ``tiles.Survey``; empty where
            ``problems`` forbid to go on.
        problems: everything that is wrong.
        notes: what is odd, but allowed, one line each.
        digest: sha256 hex of the names and bytes of every file of the survey.
    """

    arrays: dict[str, np.ndarray]
    problems: list[Problem]
    notes: list[str]
    digest: str


def read_survey(source: Source, *, skip_bad: bool) -> Reading:
    """Read and check every file of a survey.

    With ``skip_bad`` the tiles that a problem drops are left out; without it any problem leaves ``arrays`` empty.

    Raises:
        SurveyError: the memory cannot hold the tiles.
    """
    memory = Memory()
    entries, problems = source.entries(memory)
    place = str(source.directory)
    digests: dict[str, bytes] = {}
    tables = _read_tables(entries, problems, digests)
    train, masks, test = (_by_id(folder, entries, problems) for folder in FOLDERS)
    train_images = _decode(train, _decode_image, memory, place, problems, digests)
    test_images = _decode(test, _decode_image, memory, place, problems, digests)
    mask_pngs = _decode(masks, _decode_mask, memory, place, problems, digests)
    tile_px = _majority([*train_images.values(), *test_images.values()])
    for files, arrays in ((train, train_images), (test, test_images), (masks, mask_pngs)):
        _drop_other_sizes(files, arrays, tile_px, problems)
    problems += _stray_ids(train, masks, test)
    labels = mask_pngs
    if _TRAIN_CSV in tables or _TRAIN_CSV not in entries:  # of a table that cannot be used nothing can be missed
        labels = _labels(tables.get(_TRAIN_CSV), train, masks, mask_pngs, tile_px, problems)
    depths = _depths(tables.get(_DEPTHS_CSV), train, test, problems)
    if _SUBMISSION_CSV in tables and test:
        problems += _unmatched(_SUBMISSION_CSV, tables[_SUBMISSION_CSV], test)

    digest = hashlib.sha256(b"".join(name.encode() + b"\0" + digests[name] for name in sorted(digests))).hexdigest()
    dropped = {i for problem in problems for i in problem.drops or ()}
    labelled, unlabelled = ([i for i in sorted(files) if i not in dropped] for files in (train, test))
    is_stopped = any(problem.drops is None or not skip_bad for problem in problems)
    if is_stopped or not labelled + unlabelled:
        return Reading({}, problems, [], digest)
    images = np.stack([train_images[i] for i in labelled] + [test_images[i] for i in unlabelled])
    pixels = images.reshape(len(images), -1)
    asked = tables[_SUBMISSION_CSV] if _SUBMISSION_CSV in tables and test else unlabelled
    arrays = {
        "ids": np.array(labelled + unlabelled, dtype=str),
        "images": images,
        "masks": np.stack([labels[i] for i in labelled]) if labelled else np.empty((0, tile_px, tile_px), bool),
        "depths": np.array([depths.get(i, np.nan) for i in labelled + unlabelled], dtype=np.float32),
        "constant": pixels.max(axis=1) == pixels.min(axis=1),
        "submission_ids": np.array(list(asked), dtype=str),
    }
    return Reading(arrays, problems, _notes(arrays, tables, train, test), digest)


def _by_id(folder: str, entries: dict[str, Entry], problems: list[Problem]) -> dict[str, Entry]:
    found = {}
    for name, entry in entries.items():
        if name.startswith(folder):
            identity = name[len(folder) + 1 : -len(".png")]
            if ID.fullmatch(identity):
                found[identity] = entry
            else:
                problems.append(Problem(entry.place, "has a name that is no id", f"rename it: {ID_RULE}", drops=()))
    return found


def _read_tables(
    entries: dict[str, Entry], problems: list[Problem], digests: dict[str, bytes]
) -> dict[str, dict[str, str]]:
    """Rows of each table that is there: text by id."""
    tables = {}
    for name, column in ((_TRAIN_CSV, "rle_mask"), (_DEPTHS_CSV, "z"), (_SUBMISSION_CSV, "rle_mask")):
        if name in entries:
            try:
                content = entries[name].read()
                tables[name], wrong = read_table(content, entries[name].place, column)
            except (OSError, ValueError) as error:
                remedy = f"expected comma-separated text with the columns id and {column}"
                problems.append(Problem(entries[name].place, str(error), remedy))
                continue
            digests[name] = hashlib.sha256(content).digest()
            problems += wrong
    return tables


def _decode_image(content: bytes) -> np.ndarray:
    image = png.decode_grey(content)
    if image.dtype != np.uint8:
        raise png.Unsuited(f"has {8 * image.dtype.itemsize} bits a channel where 8 are expected")
    return image


def _decode_mask(content: bytes) -> np.ndarray:
    return png.two_valued(png.decode_grey(content))


def _decode(
    files: dict[str, Entry],
    decode: Callable[[bytes], np.ndarray],
    memory: Memory,
    place: str,
    problems: list[Problem],
    digests: dict[str, bytes],
) -> dict[str, np.ndarray]:
    """What ``decode`` makes of each readable file, by id.

    Threads: reading, hashing, inflating and decoding all release the interpreter's lock.
    """
    ids = sorted(files)

    def work(first: int) -> list[tuple[bytes, np.ndarray | Problem]]:
        results: list[tuple[bytes, np.ndarray | Problem]] = []
        for i in ids[first : first + _CHUNK]:
            digest = b"unread"
            try:
                content = files[i].read()
                digest = hashlib.sha256(content).digest()
                array = decode(content)
                if not memory.take(array.nbytes):
                    raise SurveyError([Problem(place, f"its pictures take more than {memory}", _FEWER)])
                results.append((digest, array))
            except SurveyError:  # a ValueError, but not one of this tile
                raise
            except OSError as error:
                reason = f"cannot be read ({error.strerror or error})"
                results.append((digest, Problem(files[i].place, reason, _AGAIN, drops=(i,))))
            except ValueError as error:
                remedy = _CONVERT if isinstance(error, png.Unsuited) else _AGAIN
                results.append((digest, Problem(files[i].place, str(error), remedy, drops=(i,))))
        return results

    arrays = {}
    with ThreadPoolExecutor(_cores()) as pool:
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


def _majority(images: list[np.ndarray]) -> int:
    """Tile edge S in px: the most frequent one of square images, the smallest of equally frequent ones; 0 if none."""
    edges = Counter(image.shape[0] for image in images if image.shape[0] == image.shape[1])
    return min(edges, key=lambda edge: (-edges[edge], edge), default=0)


def _drop_other_sizes(
    files: dict[str, Entry], arrays: dict[str, np.ndarray], tile_px: int, problems: list[Problem]
) -> None:
    """``tile_px``: 0 where no image could be read; then only what is not square is known to be wrong."""
    for i, (height, width) in [(i, array.shape) for i, array in arrays.items()]:
        if height == width == (tile_px or height):
            continue
        del arrays[i]
        expected = f"the survey's tiles are {tile_px} x {tile_px}" if tile_px else "a tile is square"
        problems.append(Problem(files[i].place, f"is {width} x {height} px, but {expected}", _CUT, drops=(i,)))


def _stray_ids(train: dict[str, Entry], masks: dict[str, Entry], test: dict[str, Entry]) -> list[Problem]:
    twice = [
        Problem(train[i].place, f"has the same id as {test[i].place}", "rename one of the two", drops=(i,))
        for i in sorted(train.keys() & test.keys())
    ]
    return twice + [
        Problem(masks[i].place, "is a mask without an image", f"add {_TRAIN}/{i}.png or remove the mask", drops=())
        for i in sorted(masks.keys() - train.keys())
    ]


def _unmatched(table: str, rows: dict[str, str], files: dict[str, Entry]) -> list[Problem]:
    """Rows without a file and files without a row."""
    return [
        Problem(table, f"lists {i}, which has no image", "add the image or remove the row", drops=())
        for i in rows
        if i not in files
    ] + [
        Problem(files[i].place, f"is not listed in {table}", "add the row or remove the image", drops=(i,))
        for i in sorted(files.keys() - rows.keys())
    ]


def _labels(
    rows: dict[str, str] | None,
    train: dict[str, Entry],
    masks: dict[str, Entry],
    mask_pngs: dict[str, np.ndarray],
    tile_px: int,
    problems: list[Problem],
) -> dict[str, np.ndarray]:
    """Mask of each labelled tile, bool (S, S), by id: from its PNG, or else its run-length text; both must agree."""
    if rows is None:
        remedy = f"add {_MASKS}/ID.png or {_TRAIN_CSV}"
        problems += [Problem(train[i].place, "has no mask", remedy, (i,)) for i in sorted(train.keys() - masks.keys())]
        return mask_pngs
    if not train or not tile_px:
        return mask_pngs
    problems += _unmatched(_TRAIN_CSV, rows, train)
    labels = dict(mask_pngs)
    listed = sorted(train.keys() & rows.keys())
    for i, mask in zip(listed, _decode_rle(listed, rows, tile_px, problems), strict=True):
        if mask is None:
            continue
        if i not in masks:
            labels[i] = mask
        elif i in mask_pngs and not np.array_equal(mask, mask_pngs[i]):
            what = f"differs from {_TRAIN_CSV} in {np.count_nonzero(mask != mask_pngs[i])} px"
            problems.append(Problem(masks[i].place, what, "find out which is right and remove the other", (i,)))
    return labels


def _decode_rle(
    ids: list[str], rows: dict[str, str], tile_px: int, problems: list[Problem]
) -> Sequence[np.ndarray | None]:
    """Masks of the rows, bool (S, S) each; None for each malformed one."""
    try:
        return rle.decode([rows[i] for i in ids], tile_px, tile_px)
    except ValueError:
        pass  # some are malformed: one by one, to find out which
    masks: list[np.ndarray | None] = []
    for i in ids:
        try:
            masks.append(rle.decode([rows[i]], tile_px, tile_px)[0])
        except ValueError as error:
            what = f"the mask of {i} is malformed ({str(error).removeprefix('text 0').strip(': ')})"
            problems.append(Problem(_TRAIN_CSV, what, "mend the row or leave its tile out", drops=(i,)))
            masks.append(None)
    return masks


def _depths(
    rows: dict[str, str] | None, train: dict[str, Entry], test: dict[str, Entry], problems: list[Problem]
) -> dict[str, float]:
    """Depth in feet by id; nothing where there is no depths.csv."""
    if rows is None:
        return {}
    unmatched = _unmatched(_DEPTHS_CSV, rows, train | test)
    # Kaggle's depths.csv has both sets; with only one of them there, it lists tiles that nobody misses.
    problems += unmatched if train and test else [problem for problem in unmatched if problem.drops]
    depths = {}
    for i in rows:
        depth = depth_ft(rows[i])
        if depth is not None:
            depths[i] = depth
        elif i in train or i in test:
            what = f"the depth of {i} is {rows[i]!r}, not a number"
            problems.append(Problem(_DEPTHS_CSV, what, "write its depth in feet or leave its tile out", drops=(i,)))
    return depths


def _notes(
    arrays: dict[str, np.ndarray], tables: dict[str, dict[str, str]], train: dict[str, Entry], test: dict[str, Entry]
) -> list[str]:
    notes = []
    for table, files, folder in ((_TRAIN_CSV, train, _TRAIN), (_SUBMISSION_CSV, test, _TEST)):
        if tables.get(table) and not files:
            notes.append(f"{table} is not used: there are no tiles in {folder}")
    masks = arrays["masks"]
    is_salt = masks.any(axis=(1, 2))
    for i in arrays["ids"][: len(masks)][is_salt & arrays["constant"][: len(masks)]]:
        notes.append(f"{_TRAIN}/{i}.png is of one colour, yet its mask holds salt; it is set aside")
    return notes
