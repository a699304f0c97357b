"""The files of a survey, whether they are in folders or in Kaggle's zips: one name, one size, one way to read each."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

from salt_ray.errors import PROGRAM
from salt_ray.survey.layout import FOLDERS, ID, NO_TILE, SUFFIXES, TABLES, WINDOWS_JSON, Entry, is_litter
from salt_ray.survey.memory import Memory
from salt_ray.survey.problems import Problem, SurveyError
from salt_ray.survey.zips import ALL_AGAIN, OUTER_ZIP, ZIP_ERRORS, ZIPS, list_zip

#: Folders that are looked at for a survey where the one that was named holds none.
_MOST_FOLDERS = 1000


class Source:
    """The files of the survey in a folder (or in one zip of everything).

    Making one lists the files and opens none. Where there is both a folder and a zip of the same name the folder
    is used. Files that belong to no survey are ignored, except among the tiles.

    Attributes:
        directory: the folder.
        fingerprint: hex digest of the folder's path and of every file's name and state (``_state``): equal as long as
            nothing was changed, and found without reading a file.

    Raises:
        SurveyError: the folder is not there or holds nothing of a survey.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory)
        self._files: dict[str, Entry] = {}  # by name
        self._problems: list[Problem] = []
        self._zips: list[tuple[str, str]] = []  # (role: the name Kaggle gives the zip, path)
        lines = sorted(self._list())
        if not self._zips and not any(name.count("/") for name in self._files):
            raise SurveyError([self._nothing()])
        head = f"{os.path.realpath(self.directory)}\n"
        self.fingerprint = hashlib.sha256((head + "\n".join(lines)).encode("utf-8", "surrogateescape")).hexdigest()

    def entries(self, memory: Memory) -> tuple[dict[str, Entry], list[Problem]]:
        """Every file that can be read, by name, and what is wrong with the others.

        Args:
            memory: takes note of the zips inside the outer one, which are unpacked at once.
        """
        problems = sorted(self._problems, key=lambda problem: problem.file)
        found = dict(sorted(self._files.items()))
        for role, path in self._zips:
            try:
                list_zip(role, os.path.basename(path), _opened(path), memory, found, problems)
            except ZIP_ERRORS as error:
                problems.append(Problem(os.path.basename(path), f"cannot be read as a zip ({error})", ALL_AGAIN))
        if not any(name.count("/") for name in found) and not problems:
            problems.append(self._nothing())
        return found, problems

    def _list(self) -> Iterator[str]:
        """Index the files; yields a line for each file, for the fingerprint."""
        if self.directory.is_file():
            self._zips = [(OUTER_ZIP, str(self.directory))]
            yield f"{self.directory.name} {_state(self.directory.stat())}"
            return
        if not self.directory.is_dir():
            raise SurveyError([self._nothing()])
        found_folders = [folder for folder in FOLDERS if (self.directory / folder).is_dir()]
        for folder in found_folders:
            yield from self._list_tiles(folder, may_hold_sections=True)
        for table in (*TABLES, WINDOWS_JSON):
            path = self.directory / table
            if _is_file(path):
                yield self._add(table, path)
            elif path.is_dir():
                remedy = "replace it with the file of that name, or remove it"
                self._problems.append(Problem(table, "is a folder, not a file", remedy))
                yield f"{table} folder"
        parts = {folder.partition("/")[0] for folder in found_folders} | self._files.keys()
        for role in (*ZIPS, OUTER_ZIP):
            path = self.directory / role
            if role.removesuffix(".zip") not in parts and _is_file(path):
                if role == OUTER_ZIP and (found_folders or self._zips):
                    continue  # it was unpacked already, in part: the files next to it count
                self._zips.append((role, str(path)))
                yield f"{role} {_state(_status(path))}"

    def _list_tiles(self, folder: str, *, may_hold_sections: bool) -> Iterator[str]:
        with os.scandir(self.directory / folder) as listing:
            for item in listing:
                name = f"{folder}/{item.name}"
                if is_litter(item.name):
                    continue
                if item.name.endswith(SUFFIXES) and _is_file(item):
                    yield self._add(name, item)
                elif may_hold_sections and ID.fullmatch(item.name) and item.is_dir():
                    yield from self._list_tiles(name, may_hold_sections=False)
                else:
                    self._problems.append(Problem(name, NO_TILE, "move it out of the folder of tiles", drops=()))
                    yield f"{name} stray"

    def _add(self, name: str, item: os.DirEntry[str] | Path) -> str:
        """Take a file under its name in Kaggle's layout; returns its line."""
        status = _status(item)
        self._files[name] = Entry(name, name, status.st_size, partial(_read, os.fspath(item)))
        return f"{name} {_state(status)}"

    def _nothing(self) -> Problem:
        others = _surveys_near(self.directory) if self.directory.is_dir() else []
        if others:
            what = f"no survey found, but there seems to be one in {others[0]}"
            what += f" (and {len(others) - 1:,} more)" * (len(others) > 1)
            return Problem(str(self.directory), what, f"name that folder: --data {shlex.quote(str(others[0]))}")
        what = (
            "no survey found (looked for train/images/ID.png, test/images/ID.png, the same with .tif or .npy, "
            f"train.zip, test.zip, {OUTER_ZIP})"
            if self.directory.exists()
            else "there is no such folder"
        )
        remedy = (
            f"pass a folder in Kaggle's layout with --data DIR, create a survey with {PROGRAM} synth DIR, or try "
            f"{PROGRAM} demo"
        )
        return Problem(str(self.directory), what, remedy)


def truth_files(directory: Path, ids: Iterable[str]) -> dict[str, Entry]:
    """Files in 'truth/masks' of those tiles that have one there, by id."""
    files = {}
    for tile in map(str, ids):
        for suffix in SUFFIXES:
            path = directory / "truth" / "masks" / f"{tile}{suffix}"
            if _is_file(path):
                name = f"truth/masks/{path.name}"
                files[tile] = Entry(name, str(path), _status(path).st_size, partial(_read, str(path)))
                break
    return files


def _read(path: str) -> bytes:
    with _opened(path, buffering=0) as file:
        return file.read()


def _state(status: os.stat_result) -> str:
    """What changes whenever a file's content does.

    Tools that copy keep size and time of change (cp -p, rsync, tar, touch -r), or give all files one time. The time of
    change of the status (ctime) is set by the kernel alone, also when such a tool sets the other one. It advances in
    steps of milliseconds; the inode tells apart two files that were written within one. The device does not count: its
    number differs after a restart, and on another machine that mounts the same disk.
    """
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def _is_file(item: os.DirEntry[str] | Path) -> bool:
    """Whether it is a file, or a link to one that may be missing."""
    return item.is_file() or (item.is_symlink() and not item.is_dir())


def _status(item: os.DirEntry[str] | Path) -> os.stat_result:
    """Of a file; of the link itself where its target is missing."""
    try:
        return item.stat()
    except FileNotFoundError:
        return os.lstat(item)


def _opened(path: str, buffering: int = -1) -> BinaryIO:
    try:
        return open(path, "rb", buffering)
    except FileNotFoundError:
        if not os.path.islink(path):
            raise
        target = os.readlink(path)
        raise ValueError(f"is a link to {target}, which is missing (fetch it: git annex get, dvc pull)") from None


def _surveys_near(directory: Path) -> list[Path]:
    """Folders that hold a survey: up to two levels below, or else above one that is a part of a survey."""
    children = _folders(directory)
    below = chain(children, chain.from_iterable(map(_folders, children)))
    for folders in (below, list(directory.absolute().parents)[:2]):
        found = [folder for folder in islice(folders, _MOST_FOLDERS) if _holds_survey(folder)]
        if found:
            return found
    return []


def _folders(directory: Path) -> list[Path]:
    with contextlib.suppress(OSError), os.scandir(directory) as listing:  # not a folder, or not ours to list
        return sorted(Path(item.path) for item in islice(listing, _MOST_FOLDERS) if item.is_dir())
    return []


def _holds_survey(folder: Path) -> bool:
    return any(os.path.isdir(folder / part) for part in FOLDERS) or any(os.path.isfile(folder / part) for part in ZIPS)
