"""The files of a survey, whether they lie in folders or in Kaggle's zips: one name, one size, one way to read each.

A name is a path in Kaggle's layout, 'train/images/ID.png', wherever the bytes are. Zips are read in place.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from salt_ray.survey.memory import Memory
from salt_ray.survey.problems import Problem, SurveyError

FOLDERS = ("train/images", "train/masks", "test/images")
TABLES = ("train.csv", "depths.csv", "sample_submission.csv")
#: What Kaggle calls the download of everything at once.
OUTER_ZIP = "tgs-salt-identification-challenge.zip"
#: A tile is some ten kilobytes; a table of a million masks stays below this, and so do Kaggle's zips inside the zip.
MAX_PNG_BYTES = 64 << 20
MAX_TABLE_BYTES = 256 << 20
MAX_INNER_ZIP_BYTES = 4 << 30
#: PNGs hardly shrink in a zip, nor does a zip in another: what inflates so much was made to fill a memory.
MAX_INNER_ZIP_RATIO = 20
#: A zip's list of members: some 290,000 tiles, ten times TGS. Python takes half a gigabyte for one of this length.
MAX_DIRECTORY_BYTES = 32 << 20

_ZIPS = ("train.zip", "test.zip", *(f"{table}.zip" for table in TABLES))
_ALL_AGAIN = "get the file again"
_UNPACK = "unpack the outer zip and name the folder with --data DIR"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a survey.

    Attributes:
        name: path in Kaggle's layout.
        place: where it lies, for messages: the name, or the zip and the name in it.
        size: length in bytes.
        read: returns the bytes, from any thread; raises OSError or ValueError that says what is wrong.
    """

    name: str
    place: str
    size: int
    read: Callable[[], bytes]


class Source:
    """The files of the survey in a folder (or in one zip of everything).

    Making one lists the files and opens none. Where a folder and a zip of the same name lie side by side the folder
    is used. Files that belong to no survey are ignored, except among the tiles.

    Attributes:
        directory: the folder.
        fingerprint: hex digest of the folder's path and of every file's name, size and time of change (ns): equal as
            long as nothing was changed, and found without reading a file.

    Raises:
        SurveyError: the folder is not there or holds nothing of a survey.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory)
        self._files: dict[str, tuple[str, int]] = {}  # name -> (path, bytes)
        self._strays: list[str] = []
        self._zips: list[tuple[str, str]] = []  # (role: the name Kaggle gives the zip, path)
        lines = self._list()
        if not self._zips and not any(name.count("/") for name in self._files):
            raise SurveyError([self._nothing()])
        lines.sort()
        head = f"{os.path.realpath(self.directory)}\n"
        self.fingerprint = hashlib.sha256((head + "\n".join(lines)).encode("utf-8", "surrogateescape")).hexdigest()

    def entries(self, memory: Memory) -> tuple[dict[str, Entry], list[Problem]]:
        """Every file that can be read, by name, and what is wrong with the others.

        Args:
            memory: takes note of the zips inside the outer one, which are unpacked at once.
        """
        problems = [
            Problem(stray, "is no file ID.png", "move it out of the folder of tiles", drops=())
            for stray in sorted(self._strays)
        ]
        problems += [
            Problem(table, "is a folder, not a table", "put the file of that name in its place, or remove it")
            for table in TABLES
            if (self.directory / table).is_dir()
        ]
        found = {name: Entry(name, name, size, _FileReader(path)) for name, (path, size) in sorted(self._files.items())}
        for role, path in self._zips:
            try:
                with open(path, "rb") as file:
                    content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
                _list_zip(role, os.path.basename(path), content, memory, found, problems)
            except (OSError, ValueError, zipfile.BadZipFile) as error:
                problems.append(Problem(os.path.basename(path), f"cannot be read as a zip ({error})", _ALL_AGAIN))
        for entry in [entry for entry in found.values() if entry.size > _limit(entry.name)]:
            del found[entry.name]
            what = f"is {entry.size:,} bytes long; at most {_limit(entry.name):,} are read"
            drops = (_tile(entry.name),) if entry.name.endswith(".png") else None
            problems.append(Problem(entry.place, what, _ALL_AGAIN, drops))
        if not any(name.count("/") for name in found) and not problems:
            problems.append(self._nothing())
        return found, problems

    def _list(self) -> list[str]:
        """Fill in what lies where; returns a line for each file, for the fingerprint."""
        if self.directory.is_file():
            status = self.directory.stat()
            self._zips = [(OUTER_ZIP, str(self.directory))]
            return [f"{self.directory.name} {status.st_size} {status.st_mtime_ns}"]
        if not self.directory.is_dir():
            raise SurveyError([self._nothing()])
        lines: list[str] = []
        found_folders = [folder for folder in FOLDERS if (self.directory / folder).is_dir()]
        for folder in found_folders:
            with os.scandir(self.directory / folder) as listing:
                for item in listing:
                    if item.name.startswith("."):
                        continue
                    name = f"{folder}/{item.name}"
                    if not item.name.endswith(".png") or not item.is_file():
                        self._strays.append(name)
                        lines.append(f"{name} stray")
                        continue
                    status = item.stat()
                    self._files[name] = (item.path, status.st_size)
                    lines.append(f"{name} {status.st_size} {status.st_mtime_ns}")
        for table in TABLES:
            path = self.directory / table
            if path.is_file():
                status = path.stat()
                self._files[table] = (str(path), status.st_size)
                lines.append(f"{table} {status.st_size} {status.st_mtime_ns}")
            elif path.is_dir():
                lines.append(f"{table} folder")
        parts = {folder.partition("/")[0] for folder in found_folders} | self._files.keys()
        for role in (*_ZIPS, OUTER_ZIP):
            path = self.directory / role
            if role.removesuffix(".zip") not in parts and path.is_file():
                if role == OUTER_ZIP and (found_folders or self._zips):
                    continue  # it was unpacked already, in part: what lies beside it counts
                status = path.stat()
                self._zips.append((role, str(path)))
                lines.append(f"{role} {status.st_size} {status.st_mtime_ns}")
        return lines

    def _nothing(self) -> Problem:
        what = (
            f"no survey here (looked for train/images/ID.png, test/images/ID.png, train.zip, test.zip, {OUTER_ZIP})"
            if self.directory.exists()
            else "there is no such folder"
        )
        remedy = (
            "name the folder of Kaggle's data with --data DIR, make a survey with python launch.py synth DIR, "
            "or watch python launch.py demo, which makes its own"
        )
        return Problem(str(self.directory), what, remedy)


class _FileReader:
    """Reads one file; a class, because 26,000 of them are made and each should be small."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self) -> bytes:
        with open(self.path, "rb", buffering=0) as file:
            return file.read()


class _ZipReader:
    """Inflates one member of a zip that lies in memory (or is mapped into it).

    zipfile itself would do, but it takes a lock and 0.1 ms of interpreter time for every member.
    """

    __slots__ = ("content", "info")

    def __init__(self, content: memoryview, info: zipfile.ZipInfo) -> None:
        self.content = content
        self.info = info

    def __call__(self) -> bytes:
        info, content = self.info, self.content
        head = content[info.header_offset : info.header_offset + 30]
        if len(head) < 30 or head[:4] != b"PK\x03\x04":
            raise ValueError("is cut off or damaged in its zip")
        if info.flag_bits & 1:
            raise ValueError("is encrypted in its zip")
        start = info.header_offset + 30 + sum(struct.unpack_from("<HH", head, 26))
        # zlib copies what it leaves over: no more is handed to it than can belong to so many bytes.
        packed = content[start : start + min(info.compress_size, 2 * info.file_size + 64)]
        if info.compress_type == zipfile.ZIP_STORED:
            data = bytes(packed)
        elif info.compress_type == zipfile.ZIP_DEFLATED:
            try:
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, info.file_size + 1)
            except zlib.error as error:
                raise ValueError(f"is damaged in its zip ({error})") from None
        else:
            raise ValueError(f"is packed by method {info.compress_type} in its zip; only 0 and 8 are read")
        if len(data) != info.file_size or zlib.crc32(data) != info.CRC:
            raise ValueError("is damaged in its zip (checksum)")
        return data


class _Directory:
    """A zip in memory as a file for zipfile, which takes the list of members in one read: a long one is refused."""

    def __init__(self, content: memoryview) -> None:
        self._content, self._at = content, 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self._content)}[whence]
        if place < 0:
            raise OSError("it is shorter than a zip's end")
        self._at = place
        return place

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        if size > MAX_DIRECTORY_BYTES:
            raise ValueError(f"its list of members has {size:,} bytes; at most {MAX_DIRECTORY_BYTES:,} are read")
        data = bytes(self._content[self._at : None if size < 0 else self._at + size])
        self._at += len(data)
        return data


def _members(content: memoryview) -> list[zipfile.ZipInfo]:
    """The members of a zip.

    Raises:
        ValueError: there are too many, or two share bytes: a small zip could hold any amount of data in that way; or
            one is of a kind that zipfile does not know.
        zipfile.BadZipFile: it is none.
    """
    try:
        with zipfile.ZipFile(_Directory(content)) as archive:
            members = archive.infolist()
    except NotImplementedError as error:
        raise ValueError(f"not of a kind that is read: {error}") from None
    end = 0
    for info in sorted(members, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise ValueError(f"{info.filename} shares its bytes with another member")
        end = info.header_offset + 30 + info.compress_size
    return members


def _list_zip(
    role: str, label: str, content: memoryview, memory: Memory, found: dict[str, Entry], problems: list[Problem]
) -> None:
    """Add the members of one zip to ``found``; those of a zip inside the outer one too, once."""
    listed: set[str] = set()
    inner: dict[str, tuple[Entry, int]] = {}  # by role, with its packed size
    for info in _members(content):
        path = info.filename.replace("\\", "/")
        place = f"{label}: {info.filename}"
        if path.startswith("/") or ".." in path.split("/") or path[1:2] == ":":
            problems.append(Problem(place, "has a name that leads out of the zip", "do not use this zip; get it again"))
            continue
        entry = Entry(path, place, info.file_size, _ZipReader(content, info))
        if role == OUTER_ZIP and path.rpartition("/")[2] in _ZIPS:
            inner_role = path.rpartition("/")[2]
            if inner_role in inner:
                problems.append(Problem(place, "is in the zip twice", "leave one of the two"))
            inner.setdefault(inner_role, (entry, info.compress_size))
            continue
        name = _name_in_layout(role, path)
        if name is None or info.is_dir() or (name in found and name not in listed):
            continue
        folder, _, file = name.rpartition("/")
        if folder and not file.endswith(".png"):
            problems.append(Problem(place, "is no file ID.png", "take it out of the folder of tiles", drops=()))
        elif name in listed:
            drops = (_tile(name),) if folder else None
            problems.append(Problem(place, "is in the zip twice", "leave one of the two", drops))
        else:
            listed.add(name)
            found[name] = Entry(name, place, info.file_size, entry.read)
    for inner_role, (entry, packed_size) in inner.items():
        most = min(MAX_INNER_ZIP_BYTES, MAX_INNER_ZIP_RATIO * packed_size)
        if entry.size > most:
            what = f"is {entry.size:,} bytes long, {packed_size:,} packed; at most {most:,} are read"
            problems.append(Problem(entry.place, what, _UNPACK))
            continue
        if not memory.take(entry.size):
            what = f"is {entry.size:,} bytes long; the zips inside the outer one may take {memory}"
            problems.append(Problem(entry.place, what, _UNPACK))
            continue
        try:
            inner_content = entry.read()
            _list_zip(inner_role, entry.place, memoryview(inner_content), memory, found, problems)
        except MemoryError:
            problems.append(Problem(entry.place, f"does not fit into the memory with {entry.size:,} bytes", _UNPACK))
        except (ValueError, zipfile.BadZipFile) as error:
            problems.append(Problem(entry.place, f"cannot be read as a zip ({error})", _ALL_AGAIN))


def _name_in_layout(role: str, path: str) -> str | None:
    """Where a zip's member belongs in Kaggle's layout: None where it is no part of a survey."""
    part = role.removesuffix(".zip")
    if part in TABLES:
        return part if path.rpartition("/")[2] == part else None
    if role != OUTER_ZIP and not path.startswith(f"{part}/"):
        path = f"{part}/{path}"
    folder, _, file = path.rpartition("/")
    if path in TABLES or (folder in FOLDERS and not file.startswith(".")):
        return path
    return None


def _limit(name: str) -> int:
    return MAX_PNG_BYTES if name.endswith(".png") else MAX_TABLE_BYTES


def _tile(name: str) -> str:
    """'ID' of '…/ID.png'."""
    return name.rpartition("/")[2].removesuffix(".png")
