"""Loading a survey: every tile, mask and depth of a folder in Kaggle's layout (method section 1).

The first load reads and checks every file and keeps the arrays in a cache; later ones map them from there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from salt_ray.storage import cache_folder, only_one
from salt_ray.survey import cache as survey_cache
from salt_ray.survey.ingest import read_survey
from salt_ray.survey.meaning import AS_FOUND, Meaning
from salt_ray.survey.memory import room
from salt_ray.survey.problems import Problem, SurveyError
from salt_ray.survey.source import Source
from salt_ray.survey.survey import Survey

__all__ = ["Problem", "Survey", "SurveyError", "load_survey"]


def load_survey(
    directory: Path,
    meaning: Meaning = AS_FOUND,
    *,
    skip_bad: bool = False,
    cache: Path | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Survey:
    """Load the survey in a folder, or in Kaggle's zips there.

    Tiles may have any size and format, but all the same, and be in a folder for each section; the test tiles and every
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
                other = survey_cache.store(store, read_survey(source, meaning, skip_bad=skip_bad))
                survey_cache.remember(store, entry, other)
    except OSError as error:
        what = f"cannot store the survey's arrays here ({error.strerror or error})"
        remedy = "free some space or set SALT_RAY_CACHE to another folder"
        raise SurveyError([Problem(str(store), what, remedy)]) from error
    survey = _from_cache(store, other, report)
    if survey is None:
        remedy = "run again, and do not delete the cache meanwhile"
        raise SurveyError([Problem(str(store / other), "the arrays vanished after they were written", remedy)])
    return survey


def _from_cache(store: Path, key: str, report: Callable[[str], None]) -> Survey | None:
    """The survey of ``key``; None, reported where there is something to say, if it must be read again."""
    try:
        survey = survey_cache.load(store, key)
    except survey_cache.CacheDamage as damage:
        report(f"the cache {store / key} is damaged ({damage}); reading the survey again")
        return None
    for line in survey.remarks if survey else ():
        report(line)
    return survey
