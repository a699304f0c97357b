"""Reading, checking and caching a survey, against a plain loop that only decodes its PNGs. Target: 1.1 times the loop.

The second row is a second start, from the cache, against its limit of one second.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from benchmarks.harness import alternate, row
from salt_ray.survey.synthetic import write_survey
from salt_ray.survey.tiles import Survey, load_survey

_TILES = 2000
_RUNS = 5
_SECOND_START_LIMIT_S = 1.0


def measure() -> list[dict]:
    """Seconds of a first start and of a second one."""
    with tempfile.TemporaryDirectory(prefix="salt-ray-ingest-") as folder:
        directory = Path(os.environ.get("SALT_TGS_DATA", ""))
        if "SALT_TGS_DATA" not in os.environ:
            directory = Path(folder) / "survey"
            write_survey(directory, tiles=_TILES)
        caches = (Path(folder) / f"cache-{run}" for run in range(_RUNS + 2))
        cache = next(caches)
        survey = load_survey(directory, cache=cache)
        is_equal = _holds_the_pngs(survey, directory)
        # Both lists are made anew in each run, as a loader would, and the files are warm for both.
        first = alternate(lambda: load_survey(directory, cache=next(caches)), lambda: _imread(directory), _RUNS)
        seconds = []
        for _ in range(_RUNS):
            start = time.perf_counter()
            again = load_survey(directory, cache=cache)
            seconds.append(time.perf_counter() - start)
        is_equal_again = np.array_equal(again.images, survey.images) and np.array_equal(again.masks, survey.masks)
        tiles = f"{len(survey.ids):,} tiles"
        return [
            row(f"ingest, {tiles} (peer: cv2.imread)", *first, "s", is_equal),
            row(
                f"ingest second start, {tiles} (peer: limit)",
                seconds,
                [_SECOND_START_LIMIT_S] * _RUNS,
                "s",
                is_equal_again,
            ),
        ]


def _imread(directory: Path) -> list[np.ndarray]:
    folders = ("train/images", "train/masks", "test/images")
    return [cv2.imread(file.path) for folder in folders for file in os.scandir(directory / folder)]


def _holds_the_pngs(survey: Survey, directory: Path) -> bool:
    """Whether the arrays are what cv2.imread makes of each PNG."""

    def grey(file: str) -> np.ndarray:
        return cv2.imread(str(directory / file))[..., 0]

    labelled = survey.ids[: survey.labelled]
    return (
        all(np.array_equal(survey.images[n], grey(f"train/images/{i}.png")) for n, i in enumerate(labelled))
        and all(np.array_equal(survey.masks[n], grey(f"train/masks/{i}.png") > 0) for n, i in enumerate(labelled))
        and all(
            np.array_equal(survey.images[n], grey(f"test/images/{i}.png"))
            for n, i in enumerate(survey.ids[survey.labelled :], survey.labelled)
        )
    )
