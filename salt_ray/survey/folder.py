"""A folder of tiles without labels, in no layout but ``ID.png``, ``ID.tif`` or ``ID.npy``."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np

from salt_ray.survey.decoding import decode_files, decode_image
from salt_ray.survey.layout import FORMATS, Entry, is_litter
from salt_ray.survey.memory import Memory
from salt_ray.survey.problems import Problem, SurveyError


def read_tiles(folder: Path, nodata: float | None = None) -> dict[str, np.ndarray]:
    """The images (S, S) in a folder by id, the file's name without its end, in the order of the ids.

    Args:
        nodata: the value of pixels that hold no data; None: what a GeoTIFF says.

    Raises:
        SurveyError: there are none, or some cannot be read; all of those are named.
    """
    if not folder.is_dir():
        raise SurveyError([Problem(str(folder), "there is no such folder", "name the folder of the tiles")])
    paths = [path for path in sorted(folder.iterdir()) if path.is_file() and not is_litter(path.name)]
    tiles = [path for path in paths if path.suffix in FORMATS]
    if not tiles:
        what = f"holds no tiles (ID{', ID'.join(FORMATS)})"
        raise SurveyError([Problem(str(folder), what, "name the folder that contains the images")])
    (kind, _), *_ = Counter(FORMATS[path.suffix] for path in tiles).most_common(1)
    problems: list[Problem] = []
    files: dict[str, Entry] = {}
    for path in tiles:
        if path.stem in files:
            what = f"has the same id as {files[path.stem].place}, {path.stem}"
            problems.append(Problem(str(path), what, "rename or remove one of the two"))
        files[path.stem] = Entry(f"test/images/{path.name}", str(path), path.stat().st_size, path.read_bytes)
    images = decode_files(files, partial(decode_image, kind, nodata=nodata), Memory(), str(folder), problems)
    if problems:
        raise SurveyError(problems)
    return images
