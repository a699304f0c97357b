"""Pixels without data take nothing of the range of greys: named by a tag or a setting they are grey, else refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from salt_ray.survey.amplitudes import MIDDLE_GREY
from salt_ray.survey.meaning import AS_FOUND, Meaning
from salt_ray.survey.nodata import masked, valid
from salt_ray.survey.problems import SurveyError
from salt_ray.survey.tiff import declared_nodata
from salt_ray.survey.tiles import Survey, load_survey

PX, TILES, TAG = 12, 30, 42113
DATA = np.random.default_rng(1).normal(0, 0.3, (TILES, PX, PX)).clip(-1, 1)


def write(path: Path, pixels: np.ndarray, tag: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, pixels)
        return
    info = TiffImagePlugin.ImageFileDirectory_v2()
    if tag is not None:
        info[TAG] = tag
    Image.fromarray(pixels).save(path, tiffinfo=info)


def survey_of(directory: Path, suffix: str, fill: float, dtype: str = "f4", tag: str | None = None) -> Path:
    """Every third tile begins with a row of the fill; one is nothing else. Whole numbers are thousands of ``DATA``."""
    for number, tile in enumerate(DATA if dtype[0] == "f" else np.rint(2000 + DATA * 1000)):
        pixels = tile.astype(dtype)
        pixels[: PX if number == 29 else number % 3 == 0] = fill
        write(directory / "test/images" / f"t{number:02d}{suffix}", pixels, tag)
    return directory


def loaded(directory: Path, meaning: Meaning = AS_FOUND) -> Survey:
    return load_survey(directory, meaning, cache=directory.parent / "cache")


def assert_read(survey: Survey, fill: float) -> None:
    """Contrast as without the fill, its pixels grey, and said."""
    filled = [number for number in range(TILES) if number % 3 == 0]
    assert (survey.images[filled, 0] == MIDDLE_GREY).all() and (survey.images[29] == MIDDLE_GREY).all()
    assert np.flatnonzero(survey.constant).tolist() == [29]
    assert len(np.unique(survey.images[:29, 1:])) > 200
    assert survey.scaling is not None and survey.scaling.used.width < 3000
    [line] = [line for line in survey.account if "hold no data" in line]
    count = 10 * PX + PX * PX
    assert line == f"found: {count} pixels in 11 tiles hold no data ({fill:.6g}): they are shown in mid-grey"


CASES = [
    (".tif", "f4", -9999),
    (".tif", "f4", 1e30),
    (".tif", "f4", -999.25),
    (".tif", "u2", 65535),
    (".npy", "f4", -999.25),
    (".npy", "f8", -1e300),
    (".npy", "i4", -9999999),
    (".npy", "f2", 65504),
]


@pytest.mark.parametrize(("suffix", "dtype", "fill"), CASES)
def test_a_fill_that_nothing_names_is_refused_and_the_setting_mends_it(
    suffix: str, dtype: str, fill: float, tmp_path: Path
) -> None:
    directory = survey_of(tmp_path / "survey", suffix, fill, dtype)
    with pytest.raises(SurveyError) as raised:
        loaded(directory)
    [problem] = raised.value.problems
    assert problem.file == f"test/images/t00{suffix}" and problem.drops is None
    assert problem.what.startswith(f"holds {fill:.6g}, 2.9% of the survey's amplitudes")
    setting = problem.remedy.split("--set amplitudes.nodata=")[1].split(";")[0]
    survey = loaded(directory, Meaning(nodata=float(setting)))
    assert_read(survey, fill)
    assert survey.key != loaded(directory, Meaning(nodata=float(setting), salt=3)).key


@pytest.mark.parametrize(
    ("dtype", "fill", "tag"),
    [
        ("f4", -9999, "-9999"),
        ("f4", -3.4028235e38, "-3.40282346638529e+38 "),
        ("f4", np.nan, "nan"),
        ("u2", 65535, "65535\0"),
    ],
)
def test_what_a_geotiff_names_is_used(dtype: str, fill: float, tag: str, tmp_path: Path) -> None:
    assert_read(loaded(survey_of(tmp_path / "survey", ".tif", fill, dtype, tag)), fill)


def test_a_tag_whose_value_does_not_occur_changes_nothing(tmp_path: Path) -> None:
    for name, tag in (("with", "-9999"), ("without", None)):
        for number, tile in enumerate(DATA):
            write(tmp_path / name / "test/images" / f"t{number:02d}.tif", tile.astype(np.float32), tag)
    surveys = [loaded(tmp_path / name) for name in ("with", "without")]
    np.testing.assert_array_equal(*(survey.images for survey in surveys))
    assert surveys[0].account == surveys[1].account


@pytest.mark.parametrize("fill", [0, 255])
def test_greys_of_8_bits_are_used_as_they_are_whatever_a_tag_says(fill: int, tmp_path: Path) -> None:
    greys = np.rint(128 + DATA * 100).astype(np.uint8)
    greys[:, 0] = fill
    for number, tile in enumerate(greys):
        write(tmp_path / "survey/test/images" / f"t{number:02d}.tif", tile, str(fill))
    survey = loaded(tmp_path / "survey")
    np.testing.assert_array_equal(survey.images, greys)
    assert not [line for line in survey.account if "no data" in line]
    named = loaded(tmp_path / "survey", Meaning(nodata=fill))
    assert (named.images[:, 0] == MIDDLE_GREY).all() and named.key != survey.key
    np.testing.assert_array_equal(named.images[:, 1:], greys[:, 1:])


def test_a_fill_that_leaves_contrast_is_said_and_used(tmp_path: Path) -> None:
    """Of 16 bits, as a scanner writes: 0 beside the section."""
    for number, tile in enumerate(np.rint(30000 + DATA * 15000).astype(np.uint16)):
        tile[: number % 3 == 0] = 0
        write(tmp_path / "survey/test/images" / f"t{number:02d}.tif", tile)
    [line] = [line for line in loaded(tmp_path / "survey").account if "amplitudes.nodata" in line]
    assert line.startswith("found: test/images/t00.tif: holds 0, 2.8% of the survey's amplitudes")


@pytest.mark.parametrize(
    ("dtype", "value", "missing"),
    [("u2", -9999, []), ("u2", 3, [3]), ("i2", 3.5, []), ("f4", 0.1, [1]), ("f4", 1e300, []), ("f8", 3, [3])],
)
def test_the_value_counts_as_the_type_holds_it(dtype: str, value: float, missing: list[int]) -> None:
    pixels = np.array([[0, 0.1, 2, 3]], dtype)
    found = masked(pixels, value)
    assert np.flatnonzero(np.ma.getmaskarray(found)).tolist() == missing
    assert np.ma.isMaskedArray(found) == bool(missing) and valid(found).size == 4 - len(missing)


@pytest.mark.parametrize(
    ("tag", "value"), [("-9999", -9999), (" 1e3 \0", 1000), ("none", None), ("", None), (None, None)]
)
def test_the_tag_is_a_number_as_text(tag: str | None, value: float | None, tmp_path: Path) -> None:
    write(tmp_path / "a.tif", np.zeros((2, 2), np.float32), tag)
    assert declared_nodata((tmp_path / "a.tif").read_bytes()) == value
