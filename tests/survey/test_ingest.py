"""Every fault of a survey's files is found, together with all others, and costs no more than its tile."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from kaggle_layout import (
    IMAGE,
    LABELLED,
    MASK,
    NOISE,
    PX,
    TEST,
    UNLABELLED,
    assert_same,
    change_bytes,
    flip,
    remove_row,
    set_row,
    truth,
    write_png,
    write_survey,
)

from salt_ray.survey import decoding, tables
from salt_ray.survey.folder import read_tiles
from salt_ray.survey.tiles import SurveyError, load_survey


@pytest.fixture
def survey(tmp_path: Path) -> Path:
    return write_survey(tmp_path / "survey")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


# What is wrong, one kind at a time: how to cause it, what the line says, which tiles skip_bad leaves out


def image(name: str, pixels: np.ndarray):
    return lambda d: write_png(d / name, pixels)


def row(table: str, text: str):
    return lambda d: set_row(d / table, text)


def append(table: str, text: str):
    return lambda d: (d / table).write_text((d / table).read_text() + text + "\n")


def both(*changes):
    return lambda d: [change(d) for change in changes]


BAD_TILES = {
    "truncated": (lambda d: change_bytes(d / IMAGE, lambda b: b[:-30]), "a4.png: is truncated", ["a4"]),
    "end mark missing": (lambda d: change_bytes(d / TEST, lambda b: b[:-12]), "b-1.png: is truncated", ["b-1"]),
    "cut in the signature": (lambda d: change_bytes(d / IMAGE, lambda b: b[:5]), "a4.png: is truncated", ["a4"]),
    "empty file": (lambda d: change_bytes(d / IMAGE, lambda b: b""), "a4.png: is empty", ["a4"]),
    "one bit flipped": (lambda d: change_bytes(d / IMAGE, flip), "is damaged (checksum of its IDAT", ["a4"]),
    "mask flipped": (lambda d: change_bytes(d / MASK, flip), "masks/a4.png: is damaged", ["a4"]),
    "no png": (lambda d: (d / IMAGE).write_text("GIF89a"), "a4.png: is not a PNG file", ["a4"]),
    "wrong size": (image(IMAGE, NOISE[..., 0]), "is 13 x 13 px, but the survey's tiles are 12 x 12", ["a4"]),
    "not square": (image(TEST, NOISE[:PX, :, 0]), "is 13 x 12 px, but", ["b-1"]),
    "mask of wrong size": (image(MASK, np.zeros((PX, PX + 1), np.uint8)), "masks/a4.png: is 13 x 12 px", ["a4"]),
    "channels differ": (image(IMAGE, NOISE[:PX, :PX, :3]), "channels that differ", ["a4"]),
    "transparent": (image(IMAGE, NOISE[:PX, :PX]), "transparency", ["a4"]),
    "16 bits": (
        image(IMAGE, NOISE[:PX, :PX, 0].astype(np.uint16) * 255),
        "a4.png: has values of type uint16, but the survey's images are uint8",
        ["a4"],
    ),
    "mask of three values": (image(MASK, NOISE[:PX, :PX, 0] % 3), "masks/a4.png: is not two-valued", ["a4"]),
    "mask without image": (image("train/masks/c1.png", NOISE[:PX, :PX, 0] * 0), "is a mask without an image", []),
    "no mask": (
        lambda d: [(d / "train.csv").unlink(), (d / MASK).unlink()],
        "images/a4.png: has no mask",
        ["a4"],
    ),
    "no mask and no row": (
        lambda d: [remove_row(d / "train.csv", "a4"), (d / MASK).unlink()],
        "a4.png: is not listed in train.csv",
        ["a4"],
    ),
    "row without image": (row("train.csv", "c1,"), "train.csv: lists c1, which has no image", []),
    "image without row": (lambda d: remove_row(d / "train.csv", "a4"), "a4.png: is not listed in train.csv", ["a4"]),
    "depth without image": (row("depths.csv", "c1,3"), "depths.csv: lists c1", []),
    "no depth": (lambda d: remove_row(d / "depths.csv", "b-1"), "b-1.png: is not listed in depths.csv", ["b-1"]),
    "depth NaN": (row("depths.csv", "a4,nan"), "the depth of a4 is 'nan'", ["a4"]),
    "depth empty": (row("depths.csv", "a4,"), "the depth of a4 is ''", ["a4"]),
    "depth infinite": (row("depths.csv", "a4,-inf"), "the depth of a4 is '-inf'", ["a4"]),
    "depth in words": (row("depths.csv", "b-1,deep"), "the depth of b-1 is 'deep'", ["b-1"]),
    "asked for without image": (row("sample_submission.csv", "c1,1 1"), "sample_submission.csv: lists c1", []),
    "not asked for": (
        lambda d: remove_row(d / "sample_submission.csv", "b-1"),
        "b-1.png: is not listed in sample_submission.csv",
        ["b-1"],
    ),
    "id twice in a table": (append("depths.csv", "a4,100"), "depths.csv: line 14 repeats the id a4", ["a4"]),
    "id in both sets": (
        both(
            lambda d: (d / "test/images/a4.png").write_bytes((d / IMAGE).read_bytes()),
            append("sample_submission.csv", "a4,1 1"),
        ),
        "a4.png: has the same id as test/images/a4.png",
        ["a4"],
    ),
    "odd count": (row("train.csv", "a4,1 2 3"), "train.csv: the mask of a4 is malformed", ["a4"]),
    "no numbers": (row("train.csv", "a4,one 2"), "the mask of a4 is malformed", ["a4"]),
    "run leaves the tile": (row("train.csv", f"a4,{PX * PX} 2"), "the mask of a4 is malformed", ["a4"]),
    "runs overlap": (row("train.csv", "a4,1 5 3 4"), "the mask of a4 is malformed (runs overlap", ["a4"]),
    "file and text differ": (row("train.csv", "a4,1 5"), "masks/a4.png: differs from train.csv in", ["a4"]),
    "id that leads out": (append("train.csv", "../../etc/x,"), "line 9 has the id '../../etc/x'", []),
    "absolute id": (append("depths.csv", "/etc/x,3"), "has the id '/etc/x'", []),
    "file name that is no id": (
        lambda d: shutil.copy(d / TEST, d / "test/images/b 1.png"),
        "b 1.png: has a name that is not a valid id",
        [],
    ),
    "stray file": (lambda d: (d / "train/images/notes.txt").write_text(""), "notes.txt: is neither a tile", []),
    "stray folder": (lambda d: (d / "train/images/x.png").mkdir(), "x.png: is neither a tile", []),
}


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        ("truncated", "replace it with an intact file"),
        ("mask flipped", "replace it with an intact file"),
        ("16 bits", "convert it"),
        ("transparent", "convert it"),
        ("channels differ", "convert it"),
        ("mask of three values", "--set labels.salt=VALUE"),
        ("wrong size", "crop it to that size"),
    ],
)
def test_the_remedy_is_one_that_helps(kind: str, remedy: str, survey: Path, cache: Path):
    cause, line, _ = BAD_TILES[kind]
    cause(survey)
    with pytest.raises(SurveyError) as raised:
        load_survey(survey, cache=cache)
    (told,) = [text for text in str(raised.value).splitlines() if line in text]
    assert remedy in told


def test_masks_are_not_blamed_where_no_image_can_be_read(survey: Path, cache: Path):
    for path in survey.glob("*/images/*.png"):
        write_png(path, NOISE[:PX, :PX])
    with pytest.raises(SurveyError) as raised:
        load_survey(survey, cache=cache)
    assert "transparency" in str(raised.value) and "masks/" not in str(raised.value)


@pytest.mark.parametrize("kind", BAD_TILES)
def test_each_fault_is_found_and_costs_only_its_tile(kind: str, survey: Path, cache: Path):
    cause, line, dropped = BAD_TILES[kind]
    cause(survey)
    with pytest.raises(SurveyError) as raised:
        load_survey(survey, cache=cache)
    [problem] = raised.value.problems
    assert line in str(problem)
    assert problem.remedy
    lines = []
    lenient = load_survey(survey, cache=cache, skip_bad=True, report=lines.append)
    assert f"left out: {problem}" in lines
    assert lenient.ids.tolist() == [i for i in LABELLED + UNLABELLED if i not in dropped]
    assert lenient.labelled == len([i for i in LABELLED if i not in dropped])
    images, masks, _ = truth()
    np.testing.assert_array_equal(lenient.images, np.stack([images[i] for i in lenient.ids]))
    np.testing.assert_array_equal(lenient.masks, np.stack([masks[i] for i in lenient.ids[: lenient.labelled]]))
    with pytest.raises(SurveyError):  # what skip_bad has cached is no way around the faults
        load_survey(survey, cache=cache)
    again = []
    assert_same(load_survey(survey, cache=cache, skip_bad=True, report=again.append), lenient)
    assert again == lines[1:]


BAD_TABLES = {
    "no column": (lambda d: change_bytes(d / "depths.csv", lambda b: b.replace(b"id,z", b"id,y")), "has no column z"),
    "no columns": (lambda d: (d / "train.csv").write_text(""), "has no column id and no column rle_mask"),
    "row of three": (append("train.csv", "a,b,c"), "train.csv: line 9 has 3 fields, the header 2"),
    "row of one": (append("depths.csv", "c1"), "depths.csv: line 14 has 1 fields"),
    "open quote": (append("sample_submission.csv", '"c1,'), "sample_submission.csv: cannot be parsed"),
    "no text": (lambda d: (d / "train.csv").write_bytes(b"id,rle_mask\n\xff\xfe,"), "train.csv: is not UTF-8 text"),
}


@pytest.mark.parametrize("kind", BAD_TABLES)
def test_a_table_that_cannot_be_used_is_raised_even_where_bad_tiles_are_left_out(kind: str, survey: Path, cache: Path):
    cause, line = BAD_TABLES[kind]
    cause(survey)
    for skip_bad in (False, True):
        with pytest.raises(SurveyError) as raised:
            load_survey(survey, cache=cache, skip_bad=skip_bad)
        [problem] = raised.value.problems
        assert line in str(problem)


def test_tiles_are_not_blamed_for_a_table_that_cannot_be_used(survey: Path, cache: Path):
    shutil.rmtree(survey / "train/masks")
    (survey / "train.csv").write_text("id\n")
    with pytest.raises(SurveyError) as raised:
        load_survey(survey, cache=cache)
    assert [problem.file for problem in raised.value.problems] == ["train.csv"]


def test_everything_wrong_is_raised_together(survey: Path, cache: Path):
    change_bytes(survey / "train/images/a0.png", lambda b: b[:-30])
    write_png(survey / "test/images/b-0.png", NOISE)
    write_png(survey / "train/masks/a5.png", NOISE[:PX, :PX, 0])
    set_row(survey / "train.csv", "a6,1")
    (survey / "depths.csv").write_text("id\n")
    set_row(survey / "sample_submission.csv", "c1,")
    with pytest.raises(SurveyError) as raised:
        load_survey(survey, cache=cache)
    lines = str(raised.value).splitlines()
    assert len(lines) == len(raised.value.problems) == 6
    for name in ("a0.png", "b-0.png", "a5.png", "a6", "depths.csv", "c1"):
        assert sum(name in line for line in lines) == 1
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)


def test_most_tiles_decide_the_size_not_the_first(survey: Path, cache: Path):
    for i in ("a0", "a1"):
        write_png(survey / f"train/images/{i}.png", NOISE[..., 0])
    assert load_survey(survey, cache=cache, skip_bad=True).ids[0] == "a2"


def test_nothing_left_raises(survey: Path, cache: Path):
    for path in survey.glob("t*/images/*.png"):
        path.write_text("")
    with pytest.raises(SurveyError, match="is empty"):
        load_survey(survey, cache=cache, skip_bad=True)


def test_a_file_above_the_limit_is_not_read(survey: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(decoding, "MAX_TILE_BYTES", (survey / IMAGE).stat().st_size)
    with open(survey / IMAGE, "ab") as file:
        file.write(b"x")
    with pytest.raises(SurveyError, match=r"a4.png: is \d+ bytes long"):
        load_survey(survey, cache=cache)


def test_the_limit_holds_for_tables_and_for_tiles_in_no_layout(
    survey: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tables, "MAX_TABLE_BYTES", (survey / "depths.csv").stat().st_size - 1)
    with pytest.raises(SurveyError, match=r"(?m)^depths.csv: is \d+ bytes long; at most \d+ are read"):
        load_survey(survey, cache=cache, skip_bad=True)
    monkeypatch.setattr(decoding, "MAX_TILE_BYTES", (survey / TEST).stat().st_size - 1)
    with pytest.raises(SurveyError, match=r"b-1.png: is \d+ bytes long; at most \d+ are read"):
        read_tiles(survey / "test/images")


def test_a_line_of_the_error_is_one_line(survey: Path, cache: Path):
    (survey / "train/images/x\n\x1b[31m.png").write_text("")
    with pytest.raises(SurveyError) as raised:
        load_survey(survey, cache=cache)
    assert str(raised.value).isprintable()
