"""Ways to damage files, each a function of the folder that holds them; ``{a}``, ``{b}``, ``{t}`` in a path are ids."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

Damage = Callable[[Path, dict[str, str]], None]
BINARY = bytes(range(256)) * 3


def filled(text: str, names: dict[str, str]) -> str:
    """The text with ``{name}`` replaced; other braces stay, because JSON has them."""
    for name, value in names.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def nothing(root: Path, names: dict[str, str]) -> None:
    """The fault lies in the command line."""


def linked(source: Path, target: Path) -> None:
    """The same folder once more, its files hard links: in no time and without room."""
    shutil.copytree(source, target, copy_function=os.link)


def own(path: Path) -> None:
    """A file that others link to becomes a file of its own, so that it can be changed."""
    if path.is_file() and path.stat().st_nlink > 1:
        mode, content = path.stat().st_mode, path.read_bytes()
        path.unlink()
        path.write_bytes(content)
        path.chmod(mode)


def at(place: str, change: Callable[[Path], None]) -> Damage:
    """Change one file or folder."""

    def damage(root: Path, names: dict[str, str]) -> None:
        path = root / filled(place, names)
        own(path)
        change(path)

    return damage


def every(*damages: Damage) -> Damage:
    """One after the other."""

    def damage(root: Path, names: dict[str, str]) -> None:
        for one in damages:
            one(root, names)

    return damage


def cut(path: Path) -> None:
    """Half of it is left."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def binary(path: Path) -> None:
    path.write_bytes(BINARY)


def flip(path: Path) -> None:
    """One bit in its middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def turned(path: Path) -> None:
    """A picture upside down."""
    assert cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[::-1])


def gone(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def folder(path: Path) -> None:
    """A folder in the place of a file."""
    gone(path)
    path.mkdir()


def file(path: Path) -> None:
    """A file in the place of a folder."""
    if path.exists():
        gone(path)
    path.write_text("a file\n")


def locked(path: Path) -> None:
    """Nobody but root may read it."""
    path.chmod(0)


def dangling(path: Path) -> None:
    """A link to a file that was not fetched, in the place of the file."""
    path.unlink()
    path.symlink_to("../../.git/annex/objects/none")


def encrypted(path: Path) -> None:
    """A zip whose list says that its members are encrypted."""
    content = bytearray(path.read_bytes())
    at = content.find(b"PK\1\2")
    while at >= 0:
        content[at + 8] |= 1
        at = content.find(b"PK\1\2", at + 1)
    path.write_bytes(content)


def one_deeper(name: str) -> Callable[[Path], None]:
    """A folder's content in one more folder."""

    def change(path: Path) -> None:
        aside = path.with_name(name)
        path.rename(aside)
        path.mkdir()
        aside.rename(path / name)

    return change


def text(content: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(content)


def raw(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content)


def utf16(path: Path) -> None:
    path.write_bytes(path.read_text().encode("utf-16"))


def swap(old: str, new: str) -> Callable[[Path], None]:
    """Replace text once; it must be there."""

    def change(path: Path) -> None:
        content = path.read_text()
        assert old in content
        path.write_text(content.replace(old, new, 1))

    return change


def without_column(name: str) -> Callable[[Path], None]:
    """A CSV whose header calls a column otherwise."""
    return swap(name, f"{name}_")


def line(number: int, new: str | Callable[[str], str]) -> Callable[[Path], None]:
    """Another line in the place of one; 0 is the header."""

    def change(path: Path) -> None:
        lines = path.read_text().splitlines()
        lines[number] = new if isinstance(new, str) else new(lines[number])
        path.write_text("\n".join(lines) + "\n")

    return change


def appended(content: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(path.read_text() + content)


def twice(path: Path) -> None:
    """The last row once more."""
    path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")


def fewer_rows(path: Path) -> None:
    """The last row is missing."""
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")


def edited(place: str, value: Any) -> Callable[[Path], None]:
    """A JSON file in which the field at 'a.0.b' has this value; ``...`` takes it away."""

    def change(path: Path) -> None:
        content = json.loads(path.read_text())
        *parents, last = [int(step) if step.isdigit() else step for step in place.split(".")]
        node = content
        for step in parents:
            node = node[step]
        if value is ...:
            del node[last]
        else:
            node[last] = value
        path.write_text(json.dumps(content))

    return change


def picture(pixels: np.ndarray) -> Callable[[Path], None]:
    """Another PNG."""

    def change(path: Path) -> None:
        assert cv2.imwrite(str(path), pixels)

    return change


def copied(place: str) -> Callable[[Path], None]:
    """The content of another file; ``{a}`` in its place is the name of the first file there."""

    def change(path: Path) -> None:
        other = path.parent / place
        other = min(other.parent.glob("*.png")) if "{a}" in place else other
        path.write_bytes(other.read_bytes())

    return change


def array(values: np.ndarray) -> Callable[[Path], None]:
    """Another .npy, in a folder that may be new."""

    def change(path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        np.save(path, values)

    return change


def huge(path: Path) -> None:
    """An .npy of 33 x 33 values whose header claims more, in as many bytes."""
    content = path.read_bytes()
    shape, spaces = b"(999999999, 999999999)", b" " * 14
    changed = content.replace(b"(33, 33), }" + spaces, shape + b", }", 1)
    assert len(changed) == len(content) and changed != content
    path.write_bytes(changed)


def lengthened(path: Path) -> None:
    """A byte too many."""
    path.write_bytes(path.read_bytes() + b"\0")


def overwritten(path: Path) -> None:
    """Other bytes where a TIFF's picture begins, behind its head."""
    content = path.read_bytes()
    path.write_bytes(content[:8] + b"\xff" * 40 + content[48:])


def pages(path: Path) -> None:
    """A TIFF with its picture twice."""
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert cv2.imwritemulti(str(path), [picture, picture])


def rewritten(
    suffix: str, as_image: Callable[[np.ndarray], np.ndarray] = lambda image: image.astype(np.float32) - 100
) -> Callable[[Path], None]:
    """A survey's folder with images of floating point, and its masks, as .tif or .npy."""

    def change(root: Path) -> None:
        for path in [path for part in ("train", "test") for path in (root / part).rglob("*.png")]:
            pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            if path.parent.name == "images":
                pixels = as_image(pixels if pixels.ndim == 2 else pixels[..., 0])
            other = path.with_suffix(suffix)
            if suffix == ".npy":
                np.save(other, pixels)
            else:
                assert cv2.imwrite(str(other), pixels, [cv2.IMWRITE_TIFF_COMPRESSION, 8])
            path.unlink()

    return change


def archive(path: Path) -> None:
    """An .npz under the name of an .npy."""
    with open(path, "wb") as stream:
        np.savez(stream, np.arange(3))


def zipped(part: str, change: Callable[[Path], None] = lambda path: None) -> Damage:
    """The survey's folder as Kaggle's zip of the same name, which is changed."""

    def damage(root: Path, names: dict[str, str]) -> None:
        inside = root / "data" / part
        packed = inside.with_name(f"{part}.zip")
        with zipfile.ZipFile(packed, "w") as stream:
            for path in sorted(inside.rglob("*.png")):
                stream.write(path, str(path.relative_to(inside)))
        shutil.rmtree(inside)
        change(packed)

    return damage


def member(name: str, content: bytes = b"") -> Callable[[Path], None]:
    """One more member in a zip."""

    def change(path: Path) -> None:
        with zipfile.ZipFile(path, "a") as stream:
            stream.writestr(name, content)

    return change
