"""What a survey is, what was assumed of it, what is odd and what goes without: lines for whoever brings it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from salt_ray.survey.layout import DEPTHS_CSV, MASKS, SUBMISSION_CSV, TEST, TRAIN, TRAIN_CSV, WINDOWS_JSON, Entry
from salt_ray.survey.survey import Survey
from salt_ray.survey.tables import Tables

_MOST_SECTIONS_SHOWN = 8


def account(survey: Survey, images: str, masks: str | None, tables: Tables, values: Sequence[str]) -> list[str]:
    """A line for each thing that was found, assumed or is absent.

    Args:
        survey: its arrays and ``samples``.
        images: format of the images.
        masks: format of the masks' files; None where there are none.
        tables: those that are there.
        values: lines about the values in the files.
    """
    places = [f"{MASKS} ({masks})"] * (masks is not None) + [TRAIN_CSV] * (TRAIN_CSV in tables)
    found = [f"images as {images} ({survey.samples})"]
    if survey.labelled:
        found.append(f"masks in {' and '.join(places)}{', which agree' * (len(places) == 2)}")
    found += [table for table in (DEPTHS_CSV, SUBMISSION_CSV) if table in tables]
    lines = [f"found: {'; '.join(found)}"]
    if survey.sections is not None:
        counts = sorted(Counter(survey.sections.tolist()).items())
        shown = [f"{section} ({count:,} tiles)" for section, count in counts[:_MOST_SECTIONS_SHOWN]]
        shown += [f"{len(counts) - len(shown):,} more"] * (len(counts) > len(shown))
        lines.append(f"found: sections: {len(counts):,}: {', '.join(shown)}")
    if survey.window is not None:
        window = survey.window
        lines.append(
            f"found: windows of {window.window_px} px with {window.context_px} px around them ({WINDOWS_JSON}), which "
            "overlap: their lines are divided into folds, and no mosaics are assembled"
        )
    elif survey.sections is not None:
        lines.append("assumed: ids are SECTION-ID, and tiles of two sections are never neighbours")
    lines += values
    full = np.count_nonzero((survey.masks > 0).all(axis=(1, 2)))
    if full:
        lines.append(f"found: masks that are entirely salt: {full:,}")
    if not survey.labelled:
        lines.append(f"without {TRAIN}: nothing can be trained")
    elif DEPTHS_CSV not in tables and survey.window is None:
        lines.append(f"without {DEPTHS_CSV}: folds by depth are assigned by id")
    if not survey.unlabelled:
        lines.append(f"without {TEST}: submission.csv has no rows")
    elif SUBMISSION_CSV not in tables:
        lines.append(f"without {SUBMISSION_CSV}: submission.csv lists the tiles in the order of their ids")
    return lines


def notes(survey: Survey, train: dict[str, Entry], test: dict[str, Entry], tables: Tables) -> list[str]:
    """A line for each thing that is odd, but allowed.

    Args:
        survey: its arrays.
        train, test: the files of its images, by id.
        tables: those that are there.
    """
    unused = [
        f"{table} is not used: there are no tiles in {folder}"
        for table, files, folder in ((TRAIN_CSV, train, TRAIN), (SUBMISSION_CSV, test, TEST))
        if tables.get(table) and not files
    ]
    salt_without_data = (survey.masks > 0).any(axis=(1, 2)) & survey.constant[: survey.labelled]
    return unused + [
        f"{train[i].name} is constant, yet its mask contains salt; it is set aside"
        for i in survey.ids[: survey.labelled][salt_without_data].tolist()
    ]
