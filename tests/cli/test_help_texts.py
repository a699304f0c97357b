"""Every text of ``--help`` is plain English."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest
from plain_english import faults
from typer.main import get_command

from salt_ray.cli.main import app


def texts(command: click.Command, path: str) -> Iterator[tuple[str, str]]:
    """Of a command, its options and the commands below it: where each text is, and the text, its lines joined."""
    yield path, re.sub(r"(?<!\n)\n(?!\n)", " ", command.help or "")
    for parameter in command.params:
        yield f"{path} {parameter.name}", getattr(parameter, "help", None) or ""
    for name, below in getattr(command, "commands", {}).items():
        yield from texts(below, f"{path} {name}")


TEXTS = dict(texts(get_command(app), "launch.py"))


@pytest.mark.parametrize("where", TEXTS)
def test_help_is_plain_english(where: str) -> None:
    assert faults(TEXTS[where]) == []


def test_all_levels_are_read() -> None:
    assert TEXTS["launch.py"] and TEXTS["launch.py train"] and TEXTS["launch.py volume predict memory"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (" ".join(["word"] * 26), "26 words"),
        (f"first; {' '.join(['word'] * 26)}. last", "26 words"),
        (f"a file ({' '.join(['word'] * 26)})", "26 words"),
        ("a file: pad it anew", "banned: anew"),
        ("the seed's network", "banned: the seed's"),
        ("masks drawn\nby lot", "banned: by lot"),
    ],
)
def test_long_sentences_and_banned_words_are_found(text: str, fault: str) -> None:
    (found,) = faults(text)
    assert fault in found


@pytest.mark.parametrize(
    "text",
    [
        " ".join(["word"] * 25),
        f"{' '.join(['word'] * 25)}. {' '.join(['word'] * 25)}",
        f"{' '.join(['word'] * 22)} (of {' '.join(['these'] * 9)}) in /a/path.csv",  # brackets, a path
        f"{' '.join(['word'] * 23)}: low, middle, high, higher and highest",  # a list
        f"{' '.join(['word'] * 23)} is 34 x 33 px",
        "a random seed; believes; mended",
    ],
)
def test_what_counts_as_one_word(text: str) -> None:
    assert faults(text) == []
