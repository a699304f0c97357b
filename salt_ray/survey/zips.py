"""Kaggle's zips, read in place: their members as files of a survey, none that leads out of them or fills the memory."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib

from salt_ray.survey.layout import FOLDERS, ID, NO_TILE, SUFFIXES, TABLES, Entry, tile_name
from salt_ray.survey.memory import Memory
from salt_ray.survey.problems import Problem

#: What Kaggle calls the download of everything at once, and those of the parts.
OUTER_ZIP = "tgs-salt-identification-challenge.zip"
ZIPS = ("train.zip", "test.zip", *(f"{table}.zip" for table in TABLES))
MAX_INNER_ZIP_BYTES = 4 << 30
#: PNGs hardly shrink in a zip, nor does a zip in another: what inflates so much was made to fill a memory.
MAX_INNER_ZIP_RATIO = 20
#: A zip's list of members: some 290,000 tiles, ten times TGS. Python takes half a gigabyte for one of this length.
MAX_DIRECTORY_BYTES = 32 << 20
ALL_AGAIN = "get the file again"

_UNPACK = "unpack the outer zip and name the folder with --data DIR"


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


def list_zip(
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
        if role == OUTER_ZIP and path.rpartition("/")[2] in ZIPS:
            inner_role = path.rpartition("/")[2]
            if inner_role in inner:
                problems.append(Problem(place, "is in the zip twice", "leave one of the two"))
            inner.setdefault(inner_role, (entry, info.compress_size))
            continue
        name = _name_in_layout(role, path)
        if name is None or info.is_dir() or (name in found and name not in listed):
            continue
        if name not in TABLES and not _is_tile(name):
            problems.append(Problem(place, NO_TILE, "take it out of the folder of tiles", drops=()))
        elif name in listed:
            drops = None if name in TABLES else (tile_name(name).id,)
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
            list_zip(inner_role, entry.place, memoryview(inner_content), memory, found, problems)
        except MemoryError:
            problems.append(Problem(entry.place, f"does not fit into the memory with {entry.size:,} bytes", _UNPACK))
        except (ValueError, zipfile.BadZipFile) as error:
            problems.append(Problem(entry.place, f"cannot be read as a zip ({error})", ALL_AGAIN))


def _name_in_layout(role: str, path: str) -> str | None:
    """Where a zip's member belongs in Kaggle's layout: None where it is no part of a survey."""
    part = role.removesuffix(".zip")
    if part in TABLES:
        return part if path.rpartition("/")[2] == part else None
    if role != OUTER_ZIP and not path.startswith(f"{part}/"):
        path = f"{part}/{path}"
    folder = next((folder for folder in FOLDERS if path.startswith(f"{folder}/")), None)
    if path in TABLES or (folder and "/." not in path[len(folder) :]):
        return path
    return None


def _is_tile(name: str) -> bool:
    """Whether a file in a folder of tiles, or in a section's folder there, ends as tiles do."""
    inside = name.split("/", 2)[2]
    section, is_in_section, file = inside.rpartition("/")
    return file.endswith(SUFFIXES) and (not is_in_section or ID.fullmatch(section) is not None)
