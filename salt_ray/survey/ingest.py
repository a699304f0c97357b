"""Reading a survey and checking all of it: arrays on one side, every problem on the other.

Letters: N tiles = L labelled, then U unlabelled, each sorted by id; S tile edge in px.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np

from salt_ray.survey.account import account
from salt_ray.survey.amplitudes import Scaling
from salt_ray.survey.coding import decoded
from salt_ray.survey.decoding import decode
from salt_ray.survey.formats import decode_image, decode_mask
from salt_ray.survey.greys import greys_of
from salt_ray.survey.labels import labels_of
from salt_ray.survey.layout import FOLDERS, FORMATS, ID, ID_RULE, Entry, tile_name
from salt_ray.survey.meaning import AS_FOUND, Meaning
from salt_ray.survey.memory import Memory
from salt_ray.survey.problems import Problem, SurveyError
from salt_ray.survey.source import Source
from salt_ray.survey.tables import DEPTHS_CSV, SUBMISSION_CSV, TRAIN_CSV, depths_of, read_tables, unmatched

_TRAIN, _MASKS, _TEST = FOLDERS
_CUT = "cut it to that size or leave its tile out"


@dataclass(frozen=True)
class Reading:
    """What was read.

    Attributes:
        arrays: ids, images, masks, depths, constant, submission_ids and, where there are any, sections as in
            ``tiles.Survey``; empty where ``problems`` forbid to go on.
        problems: everything that is wrong.
        notes: what is odd, but allowed, one line each.
        account: what was found and assumed, one line each.
        digest: sha256 hex of the names and bytes of every file of the survey; of the range of greys, where amplitudes
            were brought to one; and of what was said of the files' values, where anything was.
        samples, scaling: as in ``tiles.Survey``.
    """

    arrays: dict[str, np.ndarray]
    problems: list[Problem]
    notes: list[str]
    account: list[str]
    digest: str
    samples: str = "uint8"
    scaling: Scaling | None = None


def read_survey(source: Source, meaning: Meaning = AS_FOUND, *, skip_bad: bool) -> Reading:
    """Read and check every file of a survey.

    With ``skip_bad`` the tiles that a problem drops are left out; without it any problem leaves ``arrays`` empty.

    Raises:
        SurveyError: the memory cannot hold the tiles.
    """
    memory = Memory()
    entries, problems = source.entries(memory)
    place = str(source.directory)
    digests: dict[str, bytes] = {}
    tables = read_tables(entries, problems, digests)
    image_format, mask_format = _usual_format((_TRAIN, _TEST), entries), _usual_format((_MASKS,), entries)
    train, test = (_by_id(folder, image_format, entries, problems) for folder in (_TRAIN, _TEST))
    masks = _by_id(_MASKS, mask_format, entries, problems)
    as_image = partial(decode_image, image_format, nodata=meaning.nodata)
    as_mask = partial(decode_mask, mask_format)
    train_images = decode(train, as_image, memory, place, problems, digests)
    test_images = decode(test, as_image, memory, place, problems, digests)
    coded_masks = decode(masks, as_mask, memory, place, problems, digests)
    tile_px = _majority([*train_images.values(), *test_images.values()])
    for files, arrays in ((train, train_images), (test, test_images), (masks, coded_masks)):
        _drop_other_sizes(files, arrays, tile_px, problems)
    mask_files, ignored = decoded(masks, coded_masks, meaning, problems)
    dtype = _drop_other_types(train | test, (train_images, test_images), problems)
    problems += _stray_ids(train, masks, test)
    sections = _sections(train | test, problems)
    labels = mask_files
    if TRAIN_CSV in tables or TRAIN_CSV not in entries:  # of a table that cannot be used nothing can be missed
        labels = labels_of(tables.get(TRAIN_CSV), train, masks, mask_files, tile_px, problems)
    depths = depths_of(tables.get(DEPTHS_CSV), train, test, problems)
    if SUBMISSION_CSV in tables and test:
        problems += unmatched(SUBMISSION_CSV, tables[SUBMISSION_CSV], test)

    digest = hashlib.sha256(b"".join(name.encode() + b"\0" + digests[name] for name in sorted(digests))).hexdigest()
    if meaning.settings:
        digest = _joined(digest, meaning.settings)
    dropped = {i for problem in problems for i in problem.drops or ()}.union(ignored)
    labelled, unlabelled = ([i for i in sorted(files) if i not in dropped] for files in (train, test))
    if ignored and not labelled + unlabelled and not problems:
        what = f"every tile holds pixels of labels.ignore = {meaning.ignore}: none is left"
        problems.append(Problem(place, what, "leave labels.ignore out, or name another value"))
    is_stopped = any(problem.drops is None or not skip_bad for problem in problems)
    if is_stopped or not labelled + unlabelled:
        return Reading({}, problems, [], [], digest)
    ids, found = labelled + unlabelled, [train_images[i] for i in labelled] + [test_images[i] for i in unlabelled]
    files = train | test
    try:
        greys = greys_of(found, [files[i] for i in ids], meaning.greys, place)
    except SurveyError as error:
        return Reading({}, [*problems, *error.problems], [], [], digest)
    if greys.key:
        digest = _joined(digest, greys.key)
    asked = tables[SUBMISSION_CSV] if SUBMISSION_CSV in tables and test else unlabelled
    arrays = {
        "ids": np.array(ids, dtype=str),
        "images": greys.images,
        "masks": np.stack([labels[i] for i in labelled]) if labelled else np.empty((0, tile_px, tile_px), bool),
        "depths": np.array([depths.get(i, np.nan) for i in ids], dtype=np.float32),
        "constant": greys.constant,
        "submission_ids": np.array(list(asked), dtype=str),
    }
    if sections:
        arrays["sections"] = np.array([sections[i] for i in ids], dtype=str)
    told = account(
        images=f"{image_format} ({dtype})",
        masks=mask_format,
        labelled=len(labelled),
        unlabelled=len(unlabelled),
        full=int(arrays["masks"].all(axis=(1, 2)).sum()),
        tables=list(tables),
        sections=[sections[i] for i in ids] if sections else [],
        values=[*greys.account, *_said(meaning.salt)],
    )
    notes = _notes(arrays, tables, train, test)
    if ignored:
        notes.append(f"labelled tiles left out: {len(ignored):,} hold pixels of labels.ignore = {meaning.ignore}")
    return Reading(arrays, problems, notes, told, digest, str(dtype), greys.scaling)


def _joined(digest: str, text: str) -> str:
    return hashlib.sha256(f"{digest} {text}".encode()).hexdigest()


def _said(salt: int | None) -> list[str]:
    """What settings say of the masks, a line each."""
    if salt is None:
        return []
    return [f"assumed: {salt} is salt in the masks (labels.salt), and every other value is background"]


def _usual_format(folders: tuple[str, ...], entries: dict[str, Entry]) -> str | None:
    """The format of most files in the folders, or the first of equally frequent ones; None where there are no files."""
    inside = tuple(f"{folder}/" for folder in folders)
    counts = Counter(name[name.rindex(".") :] for name in entries if name.startswith(inside))
    kinds = Counter[str]()
    for suffix, kind in FORMATS.items():
        kinds[kind] += counts[suffix]
    (kind, count), *_ = kinds.most_common(1)
    return kind if count else None


def _by_id(folder: str, kind: str | None, entries: dict[str, Entry], problems: list[Problem]) -> dict[str, Entry]:
    """The folder's files; of two with one id that of the format ``kind``."""
    named = [(tile_name(name), entry) for name, entry in entries.items() if name.startswith(f"{folder}/")]
    named.sort(key=lambda item: item[0].format != kind)
    found: dict[str, Entry] = {}
    for (_, identity, format_), entry in named:
        if not ID.fullmatch(identity):
            problems.append(Problem(entry.place, "has a name that is no id", f"rename it: {ID_RULE}", drops=()))
        elif identity in found:
            what = f"has the same id as {found[identity].place}, {identity}"
            drops = (identity,) if format_ == kind else ()
            problems.append(Problem(entry.place, what, "rename or remove one of the two", drops))
        else:
            found[identity] = entry
    return found


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


def _drop_other_types(
    files: dict[str, Entry], parts: Iterable[dict[str, np.ndarray]], problems: list[Problem]
) -> np.dtype:
    """The type of the images: the most frequent one, of equally frequent ones the smallest; others are taken out."""
    parts = list(parts)
    counts = Counter(array.dtype for arrays in parts for array in arrays.values())
    usual = min(counts, key=lambda dtype: (-counts[dtype], dtype.itemsize, dtype.name), default=np.dtype(np.uint8))
    for arrays in parts if len(counts) > 1 else ():
        for i, dtype in [(i, array.dtype) for i, array in arrays.items() if array.dtype != usual]:
            del arrays[i]
            what = f"has values of type {dtype}, but the survey's images are {usual}"
            problems.append(Problem(files[i].place, what, "convert it to that or leave its tile out", drops=(i,)))
    return usual


def _sections(files: dict[str, Entry], problems: list[Problem]) -> dict[str, str]:
    """The section of each tile, by id; empty where no image lies in a section's folder."""
    sections = {i: tile_name(entry.name).section for i, entry in files.items() if entry.name.count("/") == 3}
    if sections:
        for i in sorted(files.keys() - sections.keys()):
            what = "lies beside the folders of sections"
            problems.append(Problem(files[i].place, what, "put it into its section's folder", drops=(i,)))
    return sections


def _stray_ids(train: dict[str, Entry], masks: dict[str, Entry], test: dict[str, Entry]) -> list[Problem]:
    twice = [
        Problem(train[i].place, f"has the same id as {test[i].place}", "rename one of the two", drops=(i,))
        for i in sorted(train.keys() & test.keys())
    ]
    lone = [masks[i] for i in sorted(masks.keys() - train.keys())]
    return twice + [
        Problem(
            mask.place,
            "is a mask without an image",
            f"add {mask.name.replace(_MASKS, _TRAIN, 1)} or remove the mask",
            drops=(),
        )
        for mask in lone
    ]


def _notes(
    arrays: dict[str, np.ndarray], tables: dict[str, dict[str, str]], train: dict[str, Entry], test: dict[str, Entry]
) -> list[str]:
    notes = []
    for table, files, folder in ((TRAIN_CSV, train, _TRAIN), (SUBMISSION_CSV, test, _TEST)):
        if tables.get(table) and not files:
            notes.append(f"{table} is not used: there are no tiles in {folder}")
    masks = arrays["masks"]
    is_salt = masks.any(axis=(1, 2))
    for i in arrays["ids"][: len(masks)][is_salt & arrays["constant"][: len(masks)]]:
        notes.append(f"{train[str(i)].name} is of one colour, yet its mask holds salt; it is set aside")
    return notes
