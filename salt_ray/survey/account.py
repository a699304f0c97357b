"""What the files of a survey are, what was assumed and what goes without: lines for the person who brings them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from salt_ray.survey.layout import FOLDERS
from salt_ray.survey.tables import DEPTHS_CSV, SUBMISSION_CSV, TRAIN_CSV

_TRAIN, _MASKS, _TEST = FOLDERS
_MOST_SECTIONS_SHOWN = 8


def account(
    *,
    images: str,
    masks: str | None,
    labelled: int,
    unlabelled: int,
    full: int,
    tables: Sequence[str],
    sections: Sequence[str],
    values: Sequence[str],
) -> list[str]:
    """A line for each thing that was found, assumed or is absent.

    Args:
        images: format and type of the images, for example 'PNG (uint8)'.
        masks: format of the masks' files; None where there are none.
        labelled, unlabelled: number of tiles, L and U.
        full: how many masks are salt all over.
        tables: names of the tables that are there.
        sections: the section of every tile; empty where the survey has none.
        values: lines about the values in the files.
    """
    places = [f"{_MASKS} ({masks})"] * (masks is not None) + [TRAIN_CSV] * (TRAIN_CSV in tables)
    found = [f"images as {images}"]
    if labelled:
        found.append(f"masks in {' and '.join(places)}{', which agree' * (len(places) == 2)}")
    found += [table for table in (DEPTHS_CSV, SUBMISSION_CSV) if table in tables]
    lines = [f"found: {'; '.join(found)}"]
    if sections:
        counts = sorted(Counter(sections).items())
        shown = [f"{section} ({count:,} tiles)" for section, count in counts[:_MOST_SECTIONS_SHOWN]]
        shown += [f"{len(counts) - len(shown):,} more"] * (len(counts) > len(shown))
        lines.append(f"found: sections: {len(counts):,}: {', '.join(shown)}")
        lines.append("assumed: ids are SECTION-ID, and tiles of two sections are never neighbours")
    lines += values
    if full:
        lines.append(f"found: masks that are salt all over: {full:,}")
    if not labelled:
        lines.append(f"without {_TRAIN}: nothing can be trained")
    elif DEPTHS_CSV not in tables:
        lines.append(f"without {DEPTHS_CSV}: random folds are dealt by id")
    if not unlabelled:
        lines.append(f"without {_TEST}: submission.csv has no rows")
    elif SUBMISSION_CSV not in tables:
        lines.append(f"without {SUBMISSION_CSV}: submission.csv lists the tiles in the order of their ids")
    return lines
