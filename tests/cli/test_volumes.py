"""``volume scan`` says what files are, for people and for programs, and exits with 1 where one needs something."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from made_segy import grid_numbers, waves, write_segy
from typer.testing import CliRunner

from salt_ray.cli.main import app


def scan(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["volume", "scan", *map(str, words)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result.exit_code, result.stdout


def test_files_that_can_be_used_exit_with_0(tmp_path: Path) -> None:
    np.save(tmp_path / "cube.npy", waves().reshape(6, 7, -1))
    code, text = scan(write_segy(tmp_path / "a.sgy"), tmp_path / "cube.npy", "--interval", 4)
    assert code == 0 and text.count("usable") == 2
    assert "a volume of 6 inlines (100 to 105) and 7 crosslines (300 to 306) (bytes 189, 193)" in text
    assert "IEEE float, 4 bytes, big-endian" in text and "inlines 25.00, crosslines 12.50" in text


def test_a_file_that_needs_something_says_which_option(tmp_path: Path) -> None:
    good = write_segy(tmp_path / "good.sgy")
    bad = write_segy(tmp_path / "bad.sgy", numbers={**grid_numbers(), 117: 0}, interval=0)
    code, text = scan(good, bad, tmp_path / "missing.sgy", tmp_path)
    assert code == 1 and "usable" in text and "--interval" in text and "No such file" in text
    code, text = scan(good, bad, "--json")
    first, second = json.loads(text)
    assert code == 1 and (first["usable"], second["usable"]) == (True, False)
    assert second["problems"][0]["options"] == ["--interval"] and second["traces"] == 42
    assert scan(good, bad, "--interval", 4)[0] == 0


def test_every_option_reaches_the_file(tmp_path: Path) -> None:
    values = waves()
    values[0, 0] = np.nan
    numbers = {117: 0, 115: 0, 9: grid_numbers()[189], 21: grid_numbers()[193]}
    path = write_segy(
        tmp_path / "a.sgy", values, numbers, little=True, interval=0, binary={3221: ("H", 0), 3225: ("h", 0)}
    )
    words = "--byte-order little --format 5 --samples 50 --interval 2 --inline-byte 9 --crossline-byte 21 --fill zero"
    code, text = scan(path, *words.split(), "--json")
    (found,) = json.loads(text)
    assert code == 0, found["problems"]
    assert (found["interval"], found["geometry"]["inline_byte"], found["byte_order"]) == (2.0, 9, "little")
    pairs = list(zip(words.split()[::2], words.split()[1::2], strict=True))
    for left_out in range(1, len(pairs)):  # the byte order follows from the size
        rest = [word for index, pair in enumerate(pairs) if index != left_out for word in pair]
        assert scan(path, *rest)[0] == 1, pairs[left_out]
    line = json.loads(
        scan(
            path,
            *[w for w in words.split() if w not in ("--inline-byte", "9")][:8],
            "--line",
            "--fill",
            "zero",
            "--json",
        )[1]
    )
    assert line[0]["geometry"]["kind"] == "line"


def test_a_synthetic_volume_is_made_and_can_be_used_as_it_is(tmp_path: Path) -> None:
    words = ["volume", "synth", str(tmp_path / "made"), "--inlines", "40", "--crosslines", "50", "--samples", "64"]
    result = CliRunner().invoke(app, [*words, "--seed", "3"])
    assert result.exit_code == 0 and result.output == "40 of 40 inlines written\n"
    code, text = scan(*sorted((tmp_path / "made").glob("*.sgy")))
    assert code == 0 and text.count("usable") == 3 and "a volume of 40 inlines" in text
    again = CliRunner().invoke(app, [*words, "--quiet"])
    assert again.exit_code == 1 and "is not empty" in str(again.exception)
