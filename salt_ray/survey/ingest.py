"""Reading a survey and checking all of it: every problem is found before any is raised.

Letters: N tiles = L labelled, then U unlabelled, each sorted by id; S tile edge in px.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np

from salt_ray.metric import has_label, wholly_labelled
from salt_ray.survey.account import account, notes
from salt_ray.survey.coding import salt_masks
from salt_ray.survey.decoding import decode_files, decode_image, decode_mask
from salt_ray.survey.greys import greys_of
from salt_ray.survey.labels import labels_of
from salt_ray.survey.layout import (
    DEPTHS_CSV,
    FORMATS,
    ID,
    ID_RULE,
    MASKS,
    SUBMISSION_CSV,
    TEST,
    TRAIN,
    TRAIN_CSV,
    WINDOWS_JSON,
    Entry,
    tile_name,
)
from salt_ray.survey.meaning import AS_FOUND, Meaning
from salt_ray.survey.memory import Memory
from salt_ray.survey.problems import Problem, SurveyError
from salt_ray.survey.source import Source
from salt_ray.survey.survey import Survey
from salt_ray.survey.tables import depths_of, read_tables, unmatched
from salt_ray.survey.window import Windows

_CUT = "crop it to that size or remove its tile"

T = TypeVar("T")


def read_survey(source: Source, meaning: Meaning = AS_FOUND, *, skip_bad: bool) -> Survey:
    """Read and check every file of a survey.

    With ``skip_bad`` the tiles that a problem drops are left out; without it any problem is raised.

    Raises:
        SurveyError: everything that is wrong, and not left out; or the memory cannot hold the tiles.
    """
    memory, place = Memory(), str(source.directory)
    found, problems = source.entries(memory)
    digests: dict[str, bytes] = {}
    entries = {
        name: Entry(name, entry.place, entry.size, partial(_hashed, entry, digests)) for name, entry in found.items()
    }
    windows = None
    if WINDOWS_JSON in entries:
        windows = _windows(entries[WINDOWS_JSON])
        meaning = windows.meaning(meaning)
    tables = read_tables(entries, problems)
    image_format, mask_format = _usual_format((TRAIN, TEST), entries), _usual_format((MASKS,), entries)
    train, test = (_by_id(folder, image_format, entries, problems) for folder in (TRAIN, TEST))
    masks = _by_id(MASKS, mask_format, entries, problems)
    as_image, as_mask = partial(decode_image, image_format, nodata=meaning.nodata), partial(decode_mask, mask_format)
    train_images, test_images = (decode_files(files, as_image, memory, place, problems) for files in (train, test))
    coded_masks = decode_files(masks, as_mask, memory, place, problems)
    squares = (image for image in (*train_images.values(), *test_images.values()) if image.shape[0] == image.shape[1])
    tile_px = windows.window.tile_px if windows else _usual((i.shape[0] for i in squares), order=int, default=0)
    for files, arrays in ((train, train_images), (test, test_images), (masks, coded_masks)):
        _drop_other_sizes(files, arrays, tile_px, problems)
    mask_files, not_labelled = salt_masks(masks, coded_masks, meaning, problems)
    dtype = _drop_other_types(train | test, (train_images, test_images), problems)
    problems += _stray_ids(train, masks, test)
    sections = _sections(train | test, problems)
    labels = mask_files
    if TRAIN_CSV in tables or TRAIN_CSV not in entries:  # of a table that cannot be used nothing can be missed
        labels = labels_of(tables.get(TRAIN_CSV), train, masks, mask_files, tile_px, problems)
    depths = depths_of(tables.get(DEPTHS_CSV), train, test, problems)
    if SUBMISSION_CSV in tables and test:
        problems += unmatched(SUBMISSION_CSV, tables[SUBMISSION_CSV], test)

    dropped = {i for problem in problems for i in problem.drops or ()}.union(not_labelled)
    labelled, unlabelled = ([i for i in sorted(files) if i not in dropped] for files in (train, test))
    ids = labelled + unlabelled
    if not_labelled and not ids and not problems:
        what = f"all pixels of all tiles are labels.ignore = {meaning.ignore}: no labelled tiles remain"
        problems.append(Problem(place, what, "unset labels.ignore, or choose another value"))
    if not ids or any(problem.drops is None or not skip_bad for problem in problems):
        raise SurveyError(problems)
    files, images = train | test, [train_images[i] for i in labelled] + [test_images[i] for i in unlabelled]
    try:
        greys = greys_of(images, [files[i] for i in ids], meaning.greys, place, "the volume" if windows else "the run")
    except SurveyError as error:
        raise SurveyError([*problems, *error.problems]) from error
    survey = Survey(
        ids=np.array(ids, dtype=str),
        images=greys.images,
        masks=np.stack([labels[i] for i in labelled]) if labelled else np.empty((0, tile_px, tile_px), bool),
        depths=np.array([depths.get(i, np.nan) for i in ids], dtype=np.float32),
        constant=greys.constant,
        submission_ids=np.array(list(tables[SUBMISSION_CSV] if SUBMISSION_CSV in tables and test else unlabelled), str),
        key="",
        samples=str(dtype),
        scaling=greys.scaling,
        sections=np.array([sections[i] for i in ids], dtype=str) if sections else None,
    )
    if windows is not None:
        survey = _as_windows(survey, windows, sections)
    remarks = [f"left out: {problem}" for problem in problems] + notes(survey, train, test, tables)
    if not_labelled:
        what = f"{len(not_labelled):,} have no labelled pixel (labels.ignore={meaning.ignore})"
        remarks.append(f"labelled tiles left out: {what}")
    partly = ~wholly_labelled(survey.masks)
    if partly.any():
        share, tiles = (survey.masks[partly] < 0).mean(), np.count_nonzero(partly)
        what = f"{share:.1%} of the pixels of {tiles:,} tiles are not labelled (labels.ignore={meaning.ignore})"
        remarks.append(f"{what}: they are ignored")
    values = list(greys.account)
    if meaning.salt is not None:
        values.append(
            f"assumed: {meaning.salt} is salt in the masks (labels.salt), and every other value is background"
        )
    told = account(survey, image_format, mask_format, tables, values)
    key = _key(digests, meaning.settings, greys.key, remarks if problems else [])
    return replace(survey, key=key, remarks=tuple(remarks), account=tuple(told))


def _windows(entry: Entry) -> Windows:
    """What a survey of windows says of itself."""
    try:
        content = entry.read()
    except (OSError, ValueError) as error:
        raise SurveyError(
            [Problem(entry.place, f"cannot be read ({error})", "replace it with an intact file")]
        ) from error
    return Windows.parse(content, entry.place)


def _as_windows(survey: Survey, windows: Windows, sections: dict[str, str]) -> Survey:
    """The survey of windows in which tiles, with their context, were read.

    Raises:
        SurveyError: a tile's name says no place, or a window holds no label.
    """
    window, edges = windows.window, slice(windows.window.context_px, -windows.window.context_px or None)
    images, masks = (np.ascontiguousarray(part[:, edges, edges]) for part in (survey.images, survey.masks))
    if not (labelled := has_label(masks)).all():
        what = f"the window {survey.ids[: len(masks)][~labelled][0]} has labelled pixels only in its context"
        raise SurveyError([Problem(WINDOWS_JSON, what, "remove its image and its mask")])
    places = windows.places(survey.ids.tolist(), sections)
    whole = {"padded_images": survey.images, "padded_masks": survey.masks}
    return replace(survey, images=images, masks=masks, window=window, places=places, **whole)


def _hashed(entry: Entry, digests: dict[str, bytes]) -> bytes:
    """The content of a file, whose digest is noted."""
    digests[entry.name] = b"unread"  # if it cannot be read
    content = entry.read()
    digests[entry.name] = hashlib.sha256(content).digest()
    return content


def _key(digests: dict[str, bytes], settings: str, greys: str, remarks: list[str]) -> str:
    """SHA-256, hex, of every file's name and content, and of what else decided the arrays, where anything did.

    Args:
        settings: what was said of the values in the files.
        greys: what decided the greys.
        remarks: what is said of the survey, where tiles were left out.
    """
    key = hashlib.sha256(b"".join(name.encode() + b"\0" + digests[name] for name in sorted(digests))).hexdigest()
    for decided in (settings, greys):
        if decided:
            key = hashlib.sha256(f"{key} {decided}".encode()).hexdigest()
    return hashlib.sha256("\n".join([key, *remarks]).encode()).hexdigest() if remarks else key


def _usual(values: Iterable[T], order: Callable[[T], int | tuple], default: T) -> T:
    """The most frequent of the values, of equally frequent ones the first in the order; ``default`` of none."""
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], order(value)), default=default)


def _usual_format(folders: tuple[str, ...], entries: dict[str, Entry]) -> str | None:
    """The format of most files in the folders; None where there are no files."""
    inside = tuple(f"{folder}/" for folder in folders)
    formats = (FORMATS[name[name.rindex(".") :]] for name in entries if name.startswith(inside))
    return _usual(formats, order=list(FORMATS.values()).index, default=None)


def _by_id(folder: str, kind: str | None, entries: dict[str, Entry], problems: list[Problem]) -> dict[str, Entry]:
    """The folder's files; of two with one id that of the format ``kind``."""
    named = [(tile_name(name), entry) for name, entry in entries.items() if name.startswith(f"{folder}/")]
    named.sort(key=lambda item: item[0].format != kind)
    found: dict[str, Entry] = {}
    for (_, identity, format_), entry in named:
        if not ID.fullmatch(identity):
            problems.append(
                Problem(entry.place, "has a name that is not a valid id", f"rename it: {ID_RULE}", drops=())
            )
        elif identity in found:
            what = f"has the same id as {found[identity].place}, {identity}"
            drops = (identity,) if format_ == kind else ()
            problems.append(Problem(entry.place, what, "rename or remove one of the two", drops))
        else:
            found[identity] = entry
    return found


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
    files: dict[str, Entry], parts: tuple[dict[str, np.ndarray], ...], problems: list[Problem]
) -> np.dtype:
    """The type of the images: the most frequent one, of equally frequent ones the smallest; others are taken out."""
    found = (array.dtype for arrays in parts for array in arrays.values())
    usual = _usual(found, order=lambda dtype: (dtype.itemsize, dtype.name), default=np.dtype(np.uint8))
    for arrays in parts:
        for i, dtype in [(i, array.dtype) for i, array in arrays.items() if array.dtype != usual]:
            del arrays[i]
            what = f"has values of type {dtype}, but the survey's images are {usual}"
            problems.append(Problem(files[i].place, what, "convert it to that or remove its tile", drops=(i,)))
    return usual


def _sections(files: dict[str, Entry], problems: list[Problem]) -> dict[str, str]:
    """The section of each tile, by id; empty if no image is in a section's folder."""
    sections = {i: section for i, entry in files.items() if (section := tile_name(entry.name).section)}
    if sections:
        for i in sorted(files.keys() - sections.keys()):
            what = "is next to section folders"
            problems.append(Problem(files[i].place, what, "move it into its section's folder", drops=(i,)))
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
            f"add {mask.name.replace(MASKS, TRAIN, 1)} or remove the mask",
            drops=(),
        )
        for mask in lone
    ]
