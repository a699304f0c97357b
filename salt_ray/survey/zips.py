"""Kaggle's zips, read in place: their members as files of a survey, none that leads out of them or fills the memory."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from dataclasses import replace
from functools import partial
from typing import BinaryIO

from salt_ray.survey.layout import FOLDERS, ID, NO_TILE, SUFFIXES, TABLES, Entry, is_litter, tile_name
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
ALL_AGAIN = "replace it with an intact file"
#: What zipfile raises of a zip, or a member, that it cannot read; RuntimeError includes kinds that it does not know.
ZIP_ERRORS = (OSError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error, EOFError, struct.error)

_UNPACK = "unpack the outer zip and pass the folder with --data DIR"


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """The content of one member of a zip."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"uses zip compression method {info.compress_type}; only 0 and 8 are supported")
    try:
        with archive.open(info) as stream:
            data = stream.read(info.file_size)  # zipfile inflates hardly more than it is asked for
    except ZIP_ERRORS as error:
        raise ValueError(f"is damaged in its zip ({error})") from None
    if len(data) != info.file_size:
        raise ValueError("is damaged in its zip (truncated)")
    return data


class _Listed:
    """A zip's file for zipfile, which takes the list of members in one read: a long one is refused."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.most = file, MAX_DIRECTORY_BYTES
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        if size > self.most:
            raise ValueError(f"its list of members has {size:,} bytes; at most {self.most:,} are read")
        return self._file.read(size)


def _open(file: BinaryIO) -> zipfile.ZipFile:
    """A zip and its list of members.

    Raises:
        ValueError: there are too many, or two share bytes: a small zip could hold any amount of data in that way.
        ``ZIP_ERRORS``: it is not a zip, or of a kind that zipfile does not know.
    """
    listed = _Listed(file)
    archive = zipfile.ZipFile(listed)
    listed.most = MAX_INNER_ZIP_BYTES
    end = 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise ValueError(f"{info.filename} overlaps another member")
        end = info.header_offset + 30 + info.compress_size
    return archive


def list_zip(
    role: str, label: str, file: BinaryIO, memory: Memory, found: dict[str, Entry], problems: list[Problem]
) -> None:
    """Add the members of one zip to ``found``; those of a zip inside the outer one too, once.

    Everything in the zip may be inside one more folder.
    """
    archive = _open(file)
    members: list[tuple[str, str, Entry]] = []  # with the folder around the layout, and the name in it
    inner: dict[str, tuple[Entry, int]] = {}  # by role, with its packed size
    is_encrypted = False
    for info in archive.infolist():
        path = info.filename.replace("\\", "/")
        steps = [step for step in path.split("/") if step not in ("", ".")]
        entry = Entry("/".join(steps), f"{label}: {info.filename}", info.file_size, partial(_read, archive, info))
        if path.startswith("/") or ".." in steps or path[1:2] == ":":
            what = "has a name that points outside the zip"
            problems.append(Problem(entry.place, what, "do not use this zip; download it again"))
            continue
        if not steps or info.is_dir() or any(map(is_litter, steps)):
            continue
        is_encrypted |= bool(info.flag_bits & 1)
        if role == OUTER_ZIP and steps[-1] in ZIPS:
            if steps[-1] in inner:
                problems.append(Problem(entry.place, "is in the zip twice", "leave one of the two"))
            inner.setdefault(steps[-1], (entry, info.compress_size))
        elif placed := _placed(role, entry.name):
            members.append((*placed, entry))
    if is_encrypted:
        remedy = "unpack it with its password and pass the folder with --data DIR"
        problems.append(Problem(label, "is encrypted", remedy))
        return
    _add(members, label, found, problems)
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
            list_zip(inner_role, entry.place, io.BytesIO(entry.read()), memory, found, problems)
        except MemoryError:
            problems.append(Problem(entry.place, f"does not fit in memory ({entry.size:,} bytes)", _UNPACK))
        except ZIP_ERRORS as error:
            problems.append(Problem(entry.place, f"cannot be read as a zip ({error})", ALL_AGAIN))


def _add(members: list[tuple[str, str, Entry]], label: str, found: dict[str, Entry], problems: list[Problem]) -> None:
    """Add the members of the one survey in a zip."""
    tops = {around for around, name, _ in members if name not in TABLES} or {around for around, _, _ in members}
    top = min(sorted(tops), key=len, default="")
    strangers = sorted(other for other in tops if not other.startswith(top))
    if strangers:
        what = f"holds several surveys, in {top.strip('/')} and {strangers[0].strip('/')}"
        problems.append(Problem(label, what, "unpack it and pass one of these folders with --data DIR"))
        return
    listed: set[str] = set()
    for around, name, entry in members:
        if around != top or (name in found and name not in listed):
            continue
        if name not in TABLES and not _is_tile(name):
            problems.append(Problem(entry.place, NO_TILE, "take it out of the folder of tiles", drops=()))
        elif name in listed:
            drops = None if name in TABLES else (tile_name(name).id,)
            problems.append(Problem(entry.place, "is in the zip twice", "leave one of the two", drops))
        else:
            listed.add(name)
            found[name] = replace(entry, name=name)


def _placed(role: str, path: str) -> tuple[str, str] | None:
    """The folder around Kaggle's layout in a zip, and a member's name in the layout; None for what is no part of it."""
    part = role.removesuffix(".zip")
    outside, _, file = path.rpartition("/")
    if part in TABLES:
        return ("", part) if file == part else None
    for folder in FOLDERS:
        if role == OUTER_ZIP or folder.startswith(f"{part}/"):
            for start in dict.fromkeys((folder, folder.removeprefix(f"{part}/"))):
                around, is_inside, inside = f"/{path}".partition(f"/{start}/")
                if is_inside:
                    return f"{around}/", f"{folder}/{inside}"
    return (f"/{outside}/" if outside else "/", file) if role == OUTER_ZIP and file in TABLES else None


def _is_tile(name: str) -> bool:
    """Whether a file in a folder of tiles, or in a section's folder there, ends as tiles do."""
    inside = name.split("/", 2)[2]
    section, is_in_section, file = inside.rpartition("/")
    return file.endswith(SUFFIXES) and (not is_in_section or ID.fullmatch(section) is not None)
