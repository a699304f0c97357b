"""Several 2D lines become one survey: each with its own labels, and no neighbour of another."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from made_labels import CROSSLINES, made_cube, write_line, write_volume
from typer.testing import CliRunner

from salt_ray.cli.main import app
from salt_ray.survey.folds import line_folds
from salt_ray.survey.tiles import load_survey
from salt_ray.survey.window import Windows
from salt_ray.volume.lines import amplitude_range
from salt_ray.volume.problem import VolumeError
from salt_ray.volume.scan import open_volume
from salt_ray.volume.tiles import cut_labelled

NAMES = ("north 1", "south-2", "east.3")
ROWS = (20, 30, 40)


@pytest.fixture
def lines(tmp_path: Path) -> list[Path]:
    """Three lines of different lengths, and a folder of their labels: SEG-Y, an array and a picture."""
    amplitudes, salt = made_cube()
    labels = tmp_path / "labels"
    parts = [np.s_[row, : CROSSLINES - 4 * row // 10] for row in ROWS]
    files = [
        write_line(tmp_path / "lines" / f"{name}.sgy", amplitudes[part])
        for name, part in zip(NAMES, parts, strict=True)
    ]
    write_line(labels / "north 1.segy", salt[parts[0]], code=8)
    np.save(labels / "south-2.npy", salt[parts[1]])
    red_and_blue = np.where(salt[parts[2]].T[..., None], (0, 0, 255), (255, 0, 0)).astype(np.uint8)
    cv2.imwrite(str(labels / "east.3.png"), red_and_blue)
    return files


def test_each_line_has_its_own_labels_and_is_a_section(lines: list[Path], tmp_path: Path) -> None:
    words = ["volume", "tiles", *lines, "--labels", tmp_path / "labels", "--window", 32, "--to", tmp_path / "survey"]
    words += ["--colour", "salt=#ff0000", "--colour", "none=#0000ff"]
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == 0 and "from 3 lines" in result.output, result.output
    survey, salt = load_survey(tmp_path / "survey", cache=tmp_path / "cache"), made_cube()[1]
    assert set(survey.sections) == {"north_1", "south-2", "east_3"} and survey.window.trace_spacing == 12.5
    numbers = [line.number for line in Windows.of(tmp_path / "survey").lines.values()]
    assert numbers == [0, 1, 2]
    for section, (*_, trace, sample), mask in zip(survey.sections, survey.places, survey.masks, strict=True):
        row = ROWS[["north_1", "south-2", "east_3"].index(section)]
        assert (mask == salt[row].T[sample : sample + 32, trace : trace + 32]).all()
    assert survey.scaling.used == amplitude_range(*map(open_volume, lines))
    table = line_folds(survey.ids, survey.places, 3, 32, 10_000)
    assert not table.left_out.any()  # whole lines, which are no neighbours
    for fold in range(3):
        assert len(set(survey.sections[np.isin(survey.ids, table.ids[table.folds == fold])])) == 1


def test_picks_of_each_line_are_in_a_folder_too(lines: list[Path], tmp_path: Path) -> None:
    (tmp_path / "tops").mkdir()
    for file in lines[:2]:
        picks = "\n".join(f"1,{trace},80" for trace in range(1, 30))
        (tmp_path / "tops" / f"{file.stem}.csv").write_text(f"inline,crossline,z\n{picks}\n")
    assert cut_labelled(lines[:2], tmp_path / "survey", top=tmp_path / "tops", window_px=32) > 0
    assert list(Windows.of(tmp_path / "survey").lines) == ["north_1", "south-2"]


def test_one_line_alone_is_called_as_its_file_too(lines: list[Path], tmp_path: Path) -> None:
    """Windows of another line have other ids: they are not taken for some that a run was trained on."""
    cut_labelled(lines[0], tmp_path / "survey", labels=tmp_path / "labels" / "north 1.segy", window_px=32)
    survey = load_survey(tmp_path / "survey", cache=tmp_path / "cache")
    assert set(survey.sections) == {"north_1"} and survey.window.trace_spacing == 12.5


def test_the_range_of_amplitudes_is_that_of_all_lines(lines: list[Path], tmp_path: Path) -> None:
    loud = write_line(tmp_path / "loud.sgy", 10 * made_cube()[0][20])
    quiet, both = amplitude_range(open_volume(lines[0])), amplitude_range(*map(open_volume, (lines[0], loud)))
    assert 1.5 * quiet.high < both.high < 10 * quiet.high


def test_each_mistake_is_one_sentence(lines: list[Path], tmp_path: Path) -> None:
    amplitudes, salt = made_cube()
    labels, colours = tmp_path / "labels", ["salt=#ff0000", "none=#0000ff"]
    write_line(labels / "wide.sgy", salt[20], code=8)
    np.save(labels / "slow.npy", salt[20])
    wide = write_line(tmp_path / "wide.sgy", amplitudes[20], spacing=25)
    slow = write_line(tmp_path / "slow.sgy", amplitudes[20], interval=2000)
    (labels / "amplitudes.npy").touch()
    (labels / "north.npy").touch()
    (labels / "north 1.json").touch()  # the geometry of an array is no file of labels
    again = write_line(tmp_path / "other" / "north 1.sgy", amplitudes[20])
    before = sorted(tmp_path.rglob("*"))
    for files, how, told in (
        ([lines[0], wide], {}, r"wide\.sgy: has trace spacing 25, but north 1\.sgy has 12\.5; resample one of them"),
        ([slow, lines[0]], {}, r"has sample interval 4, but slow\.sgy has 2; resample one of them, or cut lines"),
        ([lines[0], write_volume(tmp_path, amplitudes)], {}, r"is a volume, .* must be 2D lines; .*join blocks"),
        ([lines[0], again], {}, r"would have the same name in the survey \(north_1\) as .*; rename one of them"),
        ([lines[0], tmp_path / "west.sgy"], {}, r"holds no file west\.\*; add it, or leave west\.sgy out"),
        (lines, {"labels": labels / "north 1.segy"}, "is not a folder, .*; put them in a folder: north 1.segy for"),
        (lines, {"colours": [*colours, "none=#00ff00"]}, "no picture has the colour none=#00ff00"),
        (lines[:2], {"ranges": [("inline", "1:2")]}, "is a 2D line"),
    ):
        with pytest.raises(VolumeError, match=told):
            cut_labelled(files, tmp_path / "survey", **{"labels": labels, "window_px": 32} | how)
    np.save(labels / "north 1.npy", salt[20])
    with pytest.raises(VolumeError, match=r"holds north 1\.npy, north 1\.segy, which all match"):
        cut_labelled(lines, tmp_path / "survey", labels=labels, colours=colours)
    assert set(tmp_path.rglob("*")) - set(before) == {tmp_path / "amplitudes.sgy", labels / "north 1.npy"}
