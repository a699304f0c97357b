"""A survey's files by their names: Kaggle's folders and tables, the formats of tiles, sections and ids.

A name is a path in Kaggle's layout, 'train/images/ID.png' or 'train/images/SECTION/ID.png', wherever the bytes are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

FOLDERS = TRAIN, MASKS, TEST = ("train/images", "train/masks", "test/images")
TABLES = TRAIN_CSV, DEPTHS_CSV, SUBMISSION_CSV = ("train.csv", "depths.csv", "sample_submission.csv")
#: What a survey of windows says of itself (``window.Windows``).
WINDOWS_JSON = "windows.json"
#: The formats that tiles have, by the ends of their names.
FORMATS = {".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".npy": "NPY"}
SUFFIXES = tuple(FORMATS)
#: What is said of anything else among the tiles.
NO_TILE = "is neither a tile (ID.png, ID.tif, ID.npy) nor a section folder"
#: What operating systems and file servers leave among files, in lower case; passed over like names with a dot first.
_LITTER = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir"}
#: What an id, or a section's name, may be. It names a file, so it must not be able to leave the folder; arrays of ids
#: take four bytes times the longest for each of them, so none may be long.
ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
ID_RULE = "an id is letters, digits, _ and -, at most 100 of them"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a survey.

    Attributes:
        name: path in Kaggle's layout.
        place: its location, for messages: the name, or the zip and the name in it.
        size: length in bytes.
        read: returns the bytes, from any thread; raises OSError or ValueError that says what is wrong.
    """

    name: str
    place: str
    size: int
    read: Callable[[], bytes]


def is_litter(name: str) -> bool:
    """Whether a file or folder of this name is no part of a survey, wherever it is."""
    return name.startswith(".") or name.lower() in _LITTER


class TileName(NamedTuple):
    """What the name of a tile's file says.

    Attributes:
        section: the folder that contains the file, below those of ``FOLDERS``; '' without one.
        id: the file's name without its end; in a section SECTION-ID, because an id belongs to one tile of a survey.
        format: a value of ``FORMATS``.
    """

    section: str
    id: str
    format: str


def tile_name(name: str) -> TileName:
    """The parts of a tile's name, which ends in one of ``SUFFIXES``."""
    folders, _, file = name.rpartition("/")
    section = folders.split("/", 2)[2] if folders.count("/") == 2 else ""
    stem, dot, suffix = file.rpartition(".")
    return TileName(section, f"{section}-{stem}" if section else stem, FORMATS[dot + suffix])
