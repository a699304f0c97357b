"""A survey in memory: every tile, mask and depth of a folder in Kaggle's layout (method section 1).

The first load reads and checks every file and keeps the arrays in a cache; later ones map them from there.
Letters: N tiles = L labelled, then U unlabelled, each sorted by id; S tile edge in px.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from salt_ray.storage import cache_folder, only_one
from salt_ray.survey import cache as survey_cache
from salt_ray.survey.amplitudes import Scaling
from salt_ray.survey.ingest import read_survey
from salt_ray.survey.meaning import AS_FOUND, Meaning
from salt_ray.survey.memory import room
from salt_ray.survey.problems import Problem, SurveyError
from salt_ray.survey.source import Source

__all__ = ["Problem", "Survey", "SurveyError", "load_survey"]


@dataclass(frozen=True)
class Survey:
    """L labelled tiles, then U unlabelled ones, each sorted by id. The arrays are read-only, mapped from the cache.

    Attributes:
        ids: str (N,).
        images: uint8 (N, S, S), grey; of amplitudes of another type what ``amplitudes.GreyRange`` makes of them.
        masks: bool (L, S, S), True where salt is.
        depths: float32 (N,), feet; NaN only where the survey has no depths.csv.
        constant: bool (N,): tiles of one colour. They hold no data: never trained on, predicted empty.
        submission_ids: str, the tiles a submission lists, in the order of sample_submission.csv; the unlabelled ids
            where that file or the unlabelled tiles are absent. Tiles left out by ``skip_bad`` stay in this list.
        key: sha256 hex of the content of all files (of the list of problems too, where tiles were left out).
        remarks: what was left out, and what is odd but allowed; a line each.
        account: what the files are and what was assumed of them; a line each.
        samples: type of the images' values in their files, as numpy names it: 'uint8', 'float32', …
        scaling: how amplitudes became greys; None where they were greys of 8 bits (samples 'uint8').
        sections: str (N,), the section that each tile was cut from; None where the survey has no folders of sections.
    """

    ids: np.ndarray
    images: np.ndarray
    masks: np.ndarray
    depths: np.ndarray
    constant: np.ndarray
    submission_ids: np.ndarray
    key: str
    remarks: tuple[str, ...] = ()
    account: tuple[str, ...] = ()
    samples: str = "uint8"
    scaling: Scaling | None = None
    sections: np.ndarray | None = None

    @property
    def labelled(self) -> int:
        """L."""
        return len(self.masks)

    @property
    def unlabelled(self) -> int:
        """U."""
        return len(self.ids) - len(self.masks)

    @property
    def tile_px(self) -> int:
        """S, in px."""
        return self.images.shape[-1]


def load_survey(
    directory: Path,
    meaning: Meaning = AS_FOUND,
    *,
    skip_bad: bool = False,
    cache: Path | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Survey:
    """Load the survey in a folder, or in Kaggle's zips there.

    Tiles may have any size and format, but all the same, and lie in a folder for each section; the test tiles and every
    CSV may be absent, and masks may come from train.csv alone.

    Args:
        directory: folder in Kaggle's layout, folder of its zips, or the zip of everything.
        meaning: what is known of the files' values; otherwise they say it themselves, or the survey is refused.
        skip_bad: leave bad tiles out and report them, instead of raising.
        cache: folder for the arrays; otherwise 'surveys' in the user's cache, or in that of SALT_RAY_CACHE.
        report: takes one line of text at a time: what is done, what is odd, what was left out.

    Raises:
        SurveyError: all that is wrong, one line each; with ``skip_bad`` only what concerns no single tile, or when no
            tile is left. Also when the cache cannot be written.
        NotEnoughMemory: while the tiles are read.
    """
    source = Source(directory)
    store = cache or cache_folder("surveys")
    # Strict and lenient loads have separate entries: a folder with problems must raise whatever skip_bad has cached.
    entry = f"{source.fingerprint}-{'lenient' if skip_bad else 'strict'}"
    if meaning != AS_FOUND:
        entry += f"-{hashlib.sha256(f'{meaning.settings} {meaning.greys!r}'.encode()).hexdigest()[:32]}"
    key = survey_cache.recall(store, entry)
    survey = _from_cache(store, key, report) if key else None
    if survey is not None:
        return survey

    try:
        with room(f"reading the tiles in {directory}"), only_one(store / "index" / entry):
            other = survey_cache.recall(store, entry)  # another process may have read the survey meanwhile
            if other is None or other == key:
                report(f"reading and checking the tiles in {directory}")
                other = _read(source, meaning, skip_bad, store)
                survey_cache.remember(store, entry, other)
    except OSError as error:
        what = f"cannot keep the survey's arrays here ({error.strerror or error})"
        remedy = "free some space or set SALT_RAY_CACHE to another folder"
        raise SurveyError([Problem(str(store), what, remedy)]) from error
    key = other
    survey = _from_cache(store, key, report)
    if survey is None:
        remedy = "start again, and do not delete the cache meanwhile"
        raise SurveyError([Problem(str(store / key), "the arrays vanished after they were written", remedy)])
    return survey


def _read(source: Source, meaning: Meaning, skip_bad: bool, store: Path) -> str:
    """Read a survey into the cache; returns its key there."""
    reading = read_survey(source, meaning, skip_bad=skip_bad)
    if not reading.arrays:
        raise SurveyError(reading.problems)
    lines = [f"left out: {problem}" for problem in reading.problems] + reading.notes
    key = reading.digest
    if reading.problems:
        key = hashlib.sha256("\n".join([key, *lines]).encode()).hexdigest()
    content = survey_cache.CachedSurvey(reading.arrays, lines, reading.account, reading.samples, reading.scaling)
    survey_cache.store(store, key, content)
    return key


def _from_cache(store: Path, key: str, report: Callable[[str], None]) -> Survey | None:
    """The survey of ``key``; None, reported where there is something to say, if it must be read again."""
    try:
        cached = survey_cache.load(store, key)
    except survey_cache.CacheDamage as damage:
        report(f"the cache {store / key} is damaged ({damage}); reading the survey again")
        return None
    if cached is None:
        return None
    for line in cached.lines:
        report(line)
    return Survey(
        **cached.arrays,
        key=key,
        remarks=tuple(cached.lines),
        account=tuple(cached.account),
        samples=cached.samples,
        scaling=cached.scaling,
    )
