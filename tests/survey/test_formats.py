"""A survey is the same in any format of its tiles; what differs, is mixed or is assumed is said."""

import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from kaggle_layout import LABELLED, PX, UNLABELLED, truth, write_png, write_survey, write_table
from PIL import Image

from salt_ray.survey.decoding import decode_image, decode_mask
from salt_ray.survey.problems import SurveyError, Unsuited
from salt_ray.survey.tiles import Survey, load_survey

FORMATS = (".png", ".tif", ".tiff", ".npy")
IMAGES, MASKS, TESTS = "train/images", "train/masks", "test/images"


def write(path: Path, pixels: np.ndarray) -> None:
    """In the format that the name tells."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, pixels)
    else:
        assert cv2.imwrite(str(path), pixels)


def written(
    directory: Path,
    suffix: str,
    as_image: Callable[[np.ndarray], np.ndarray] = lambda image: image,
    as_mask: Callable[[np.ndarray], np.ndarray] = lambda mask: mask.astype(np.uint8) * 255,
    mask_suffix: str | None = None,
) -> Path:
    """The survey of ``kaggle_layout`` with the tables and with tiles of this format and type."""
    write_survey(directory)
    for name in ("train", "test"):
        shutil.rmtree(directory / name)
    images, masks, _ = truth()
    for i, image in images.items():
        write(directory / (IMAGES if i in masks else TESTS) / f"{i}{suffix}", as_image(image))
    for i, mask in masks.items():
        write(directory / MASKS / f"{i}{mask_suffix or suffix}", as_mask(mask))
    return directory


def loaded(directory: Path, **options: object) -> Survey:
    return load_survey(directory, cache=directory.parent / f"cache of {directory.name}", **options)


def problems(directory: Path) -> list[str]:
    with pytest.raises(SurveyError) as raised:
        loaded(directory)
    return list(map(str, raised.value.problems))


def assert_same_tiles(survey: Survey, other: Survey) -> None:
    for name in ("ids", "images", "masks", "depths", "constant", "submission_ids"):
        np.testing.assert_array_equal(getattr(survey, name), getattr(other, name), strict=True)


# Formats and types


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_survey_of_greys_is_the_same_in_every_format(suffix: str, tmp_path: Path):
    survey, kaggles = loaded(written(tmp_path / "own", suffix)), loaded(write_survey(tmp_path / "kaggle's"))
    assert_same_tiles(survey, kaggles)
    assert survey.key != kaggles.key and survey.sections is None
    kind = {".png": "PNG", ".npy": "NPY"}.get(suffix, "TIFF")
    assert survey.account[0] == (
        f"found: images as {kind} (uint8); masks in train/masks ({kind}) and train.csv, which agree; depths.csv; "
        "sample_submission.csv"
    )
    assert survey.account[1:] == ("found: masks that are entirely salt: 1",) and not survey.remarks


@pytest.mark.parametrize("mask_suffix", FORMATS)
@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy"])
def test_masks_may_have_another_format_than_images(suffix: str, mask_suffix: str, tmp_path: Path):
    survey = loaded(written(tmp_path / "own", suffix, mask_suffix=mask_suffix))
    assert_same_tiles(survey, loaded(write_survey(tmp_path / "kaggle's")))


@pytest.mark.parametrize(
    ("suffix", "as_mask"),
    [
        (".npy", lambda mask: mask),
        (".npy", lambda mask: mask.astype(np.int64)),
        (".npy", lambda mask: mask.astype(np.float32)),
        (".npy", lambda mask: -mask.astype(np.int16)),
        (".npy", lambda mask: np.asfortranarray(mask)),
        (".tif", lambda mask: mask.astype(np.uint8)),
        (".tif", lambda mask: mask.astype(np.uint16) * 65535),
        (".tif", lambda mask: mask.astype(np.float32)),
        (".png", lambda mask: mask.astype(np.uint16) * 65535),
    ],
)
def test_masks_of_two_values_of_any_type_are_the_same(suffix: str, as_mask: Callable, tmp_path: Path):
    survey = loaded(written(tmp_path / "own", suffix, as_mask=as_mask))
    np.testing.assert_array_equal(survey.masks, loaded(write_survey(tmp_path / "kaggle's")).masks, strict=True)


@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [(".png", "u2"), (".tif", "u2"), (".tif", "i2"), (".tif", "f4"), (".npy", "i2"), (".npy", ">i4"), (".npy", "f8")],
)
def test_amplitudes_become_greys_and_it_is_said(suffix: str, dtype: str, tmp_path: Path):
    low = 0 if dtype == "u2" else -120
    survey = loaded(written(tmp_path / "own", suffix, lambda image: (image.astype(int) + low).astype(dtype)))
    images, _, _ = truth()
    assert survey.images.dtype == np.uint8 and (survey.images.min(), survey.images.max()) == (0, 255)
    varied = ~survey.constant
    assert survey.ids[~varied].tolist() == ["a2", "b-4"]
    for i, grey in zip(survey.ids[varied], survey.images[varied], strict=True):
        assert np.abs(grey.astype(int) - images[i]).max() <= 5  # nearly the range that they came from
    [line] = [line for line in survey.account if "amplitudes" in line]
    assert line.startswith("assumed: amplitudes from ") and line.endswith("the lowest and highest 1 % are clipped")
    np.testing.assert_array_equal(survey.masks, np.stack([truth()[1][i] for i in LABELLED]))
    assert loaded(tmp_path / "own").account == survey.account  # from the cache


def test_equal_amplitudes_give_equal_greys_in_any_format(tmp_path: Path):
    def amplitudes(image: np.ndarray) -> np.ndarray:
        return image.astype(np.int16) * 90 - 9000

    surveys = [loaded(written(tmp_path / suffix[1:], suffix, amplitudes)) for suffix in (".tif", ".npy")]
    assert_same_tiles(*surveys)


def test_amplitudes_without_a_range_are_a_problem(tmp_path: Path):
    survey = written(tmp_path / "own", ".npy", lambda image: np.zeros((PX, PX), np.float32))
    what = "holds only constant tiles"
    [problem] = problems(survey)
    assert problem.startswith(f"{survey}: {what}; set the no-data value (--set amplitudes.nodata=VALUE)")
    with pytest.raises(SurveyError, match=what):
        loaded(survey, skip_bad=True)


# What is wrong, one kind at a time: how to cause it in a survey of .npy, what the line says, which tile it costs


def array(name: str, pixels: np.ndarray):
    return lambda d: write(d / name, pixels)


FLOATS = np.random.default_rng(2).normal(size=(PX, PX)).astype(np.float32)
INFINITE = np.where(FLOATS > 1, np.float32(np.inf), FLOATS)
IMAGE, MASK, TEST = f"{IMAGES}/a4", f"{MASKS}/a4", f"{TESTS}/b-1"
WRONG = {
    "NaN": (
        array(f"{IMAGE}.npy", np.where(FLOATS > 9, 0, np.nan)),
        "a4.npy: holds 144 non-finite values",
        "a4",
    ),
    "infinite": (array(f"{TEST}.npy", INFINITE), f"b-1.npy: holds {np.isinf(INFINITE).sum()} non-finite values", "b-1"),
    "other type": (array(f"{IMAGE}.npy", FLOATS.astype(np.int16)), "has values of type int16, but the survey's", "a4"),
    "bool image": (array(f"{IMAGE}.npy", FLOATS > 0), "a4.npy: holds booleans instead of amplitudes", "a4"),
    "other size": (array(f"{TEST}.npy", FLOATS[1:, 1:]), "b-1.npy: is 11 x 11 px, but the survey's tiles are", "b-1"),
    "channels": (array(f"{IMAGE}.npy", np.zeros((PX, PX, 3))), "a4.npy: holds an array of shape (12, 12, 3)", "a4"),
    "mask of three values": (array(f"{MASK}.npy", np.arange(144).reshape(12, 12) % 3), "is not two-valued", "a4"),
    "mask with NaN": (array(f"{MASK}.npy", np.full((PX, PX), np.nan)), "a4.npy: holds 144 non-finite values", "a4"),
    "two formats, one id": (
        array(f"{IMAGE}.tif", FLOATS),
        f"{IMAGE}.tif: has the same id as {IMAGE}.npy, a4; rename or remove one",
        None,
    ),
    "another format": (
        lambda d: [(d / f"{IMAGE}.npy").unlink(), write(d / f"{IMAGE}.tif", FLOATS)],
        f"{IMAGE}.tif: is TIFF, but most files of its kind are NPY",
        "a4",
    ),
    "mask of another format": (
        lambda d: [(d / f"{MASK}.npy").unlink(), write_png(d / f"{MASK}.png", np.zeros((PX, PX), np.uint8))],
        f"{MASK}.png: is PNG, but most files of its kind are NPY",
        "a4",
    ),
    "PNG that is called NPY": (
        lambda d: (d / f"{IMAGE}.npy").write_bytes(b"\x89PNG"),
        "a4.npy: is not an NPY file",
        "a4",
    ),
    "capitals": (
        lambda d: (d / f"{IMAGES}/c1.NPY").write_bytes(b""),
        "c1.NPY: is neither a tile (ID.png, ID.tif, ID.npy)",
        None,
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_each_fault_is_said_and_costs_only_its_tile(kind: str, tmp_path: Path):
    survey = written(tmp_path / "own", ".npy", lambda image: image.astype(np.float32) - 100)
    cause, says, dropped = WRONG[kind]
    cause(survey)
    [problem] = problems(survey)
    assert says in problem
    lenient = loaded(survey, skip_bad=True)
    assert lenient.ids.tolist() == [i for i in LABELLED + UNLABELLED if i != dropped]


def test_of_equally_frequent_formats_one_is_kept_and_the_others_are_named(tmp_path: Path):
    survey = written(tmp_path / "own", ".npy")
    for i in LABELLED[1:]:
        (survey / IMAGES / f"{i}.npy").rename(survey / IMAGES / f"{i}.tif")
        write(survey / IMAGES / f"{i}.tif", truth()[0][i])
    said = problems(survey)  # six of either
    assert len(said) == 6 and all("is NPY, but most files of its kind are TIFF" in line for line in said)


def test_a_file_is_read_by_its_name_and_not_by_its_first_bytes():
    content = cv2.imencode(".png", np.zeros((2, 2), np.uint8))[1].tobytes()
    for decode in (decode_image, decode_mask):
        with pytest.raises(ValueError, match="is not a TIFF"):
            decode("TIFF", "train/images/a.tif", content)
        with pytest.raises(Unsuited, match="is PNG, but most files of its kind are TIFF"):
            decode("TIFF", "train/images/a.png", content)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.npy"])
def test_an_empty_file_is_said_to_be_empty(name: str):
    with pytest.raises(ValueError, match="is empty"):
        decode_mask(None, f"train/masks/{name}", b"")


def of_python_2(path: Path) -> None:
    """The array's shape in long integers, as Python 2 wrote it on Windows."""
    content = path.read_bytes()
    path.write_bytes(content.replace(b"(12, 12), }  ", b"(12L, 12L), }", 1))
    assert path.read_bytes() != content


def with_damaged_exif(path: Path) -> None:
    """A TIFF whose EXIF directory lies beyond its end."""
    Image.fromarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)).save(path, tiffinfo={34665: 99_999_999})


@pytest.mark.parametrize(("suffix", "change"), [(".npy", of_python_2), (".tif", with_damaged_exif)])
def test_libraries_do_not_speak_of_what_they_can_read(
    tmp_path: Path, suffix: str, change: Callable, capfd: pytest.CaptureFixture[str]
):
    directory = written(tmp_path / "own", suffix)
    for path in sorted((directory / IMAGES).iterdir()):
        change(path)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        survey = loaded(directory)
    assert not heard and capfd.readouterr() == ("", "")
    assert_same_tiles(survey, loaded(write_survey(tmp_path / "kaggle's")))


# Sections


PLACES = {i: ("north" if at % 2 else "in_line-7", str(at // 2)) for at, i in enumerate(LABELLED)}
PLACES |= {i: ("north", f"t{at}") for at, i in enumerate(UNLABELLED)}


def in_sections(directory: Path, suffix: str = ".npy") -> Path:
    """The survey of ``kaggle_layout`` in folders of two sections with the same file names, without its tables."""
    images, masks, _ = truth()
    for i, (section, name) in PLACES.items():
        write(directory / (IMAGES if i in masks else TESTS) / section / f"{name}{suffix}", images[i])
        if i in masks:
            write(directory / MASKS / section / f"{name}{suffix}", masks[i].astype(np.uint8))
    return directory


@pytest.mark.parametrize("suffix", FORMATS)
def test_tiles_of_sections_have_the_ids_of_both(suffix: str, tmp_path: Path):
    survey = loaded(in_sections(tmp_path / "own", suffix))
    images, masks, _ = truth()
    origins = {f"{section}-{name}": i for i, (section, name) in PLACES.items()}
    labelled = sorted(f"{section}-{name}" for i, (section, name) in PLACES.items() if i in masks)
    unlabelled = sorted(f"{section}-{name}" for i, (section, name) in PLACES.items() if i not in masks)
    assert survey.ids.tolist() == labelled + unlabelled
    assert survey.sections is not None
    assert survey.sections.tolist() == [PLACES[origins[i]][0] for i in survey.ids]
    np.testing.assert_array_equal(survey.images, np.stack([images[origins[i]] for i in survey.ids]))
    np.testing.assert_array_equal(survey.masks, np.stack([masks[origins[i]] for i in labelled]))
    assert "found: sections: 2: in_line-7 (4 tiles), north (8 tiles)" in survey.account
    assert any(line.startswith("assumed: ids are SECTION-ID") for line in survey.account)
    again = loaded(tmp_path / "own")  # from the cache
    np.testing.assert_array_equal(again.sections, survey.sections, strict=True)


def test_tables_name_the_tiles_of_sections_by_their_ids(tmp_path: Path):
    directory = in_sections(tmp_path / "own")
    ids = loaded(directory).ids.tolist()
    write_table(directory / "depths.csv", "z", {i: at for at, i in enumerate(ids)})
    survey = loaded(directory)
    assert survey.depths.tolist() == list(range(len(ids)))
    write_table(directory / "depths.csv", "z", dict.fromkeys([*ids, "0"], 1))
    [problem] = problems(directory)
    assert "depths.csv: lists 0, which has no image" in problem


def test_sections_may_lie_in_a_zip(tmp_path: Path):
    directory = in_sections(tmp_path / "own")
    expected = loaded(directory)
    for part in ("train", "test"):
        with zipfile.ZipFile(directory / f"{part}.zip", "w") as archive:
            for path in sorted((directory / part).rglob("*")):
                archive.write(path, str(path.relative_to(directory / part)))
        shutil.rmtree(directory / part)
    survey = loaded(directory)
    assert_same_tiles(survey, expected)
    np.testing.assert_array_equal(survey.sections, expected.sections, strict=True)


@pytest.mark.parametrize("folder", [IMAGES, TESTS])
def test_an_image_beside_the_folders_of_sections_is_a_problem(folder: str, tmp_path: Path):
    directory = in_sections(tmp_path / "own")
    before = loaded(directory).ids.tolist()
    write(directory / folder / "lone.npy", truth()[0]["a0"])
    if folder == IMAGES:
        write(directory / MASKS / "lone.npy", truth()[1]["a0"].astype(np.uint8))
    assert problems(directory) == [f"{folder}/lone.npy: is next to section folders; move it into its section's folder"]
    lenient = loaded(directory, skip_bad=True)
    assert lenient.ids.tolist() == before and lenient.sections is not None and len(lenient.sections) == len(before)


def test_a_mask_of_another_section_is_none(tmp_path: Path):
    directory = in_sections(tmp_path / "own")
    (directory / MASKS / "north/0.npy").rename(directory / MASKS / "north/9.npy")
    said = problems(directory)
    assert any(f"{IMAGES}/north/0.npy: has no mask" in line for line in said)
    assert any(f"{MASKS}/north/9.npy: is a mask without an image; add {IMAGES}/north/9.npy" in line for line in said)
    assert len(said) == 2


def test_two_sections_whose_tiles_come_to_have_one_id_are_a_problem(tmp_path: Path):
    directory = in_sections(tmp_path / "own")
    shutil.copytree(directory / TESTS / "north", directory / TESTS / "north-t0")
    write(directory / TESTS / "north" / "t0-t1.npy", truth()[0]["a0"])
    [problem] = problems(directory)
    assert "has the same id as" in problem and "north-t0-t1" in problem
    assert "north-t0-t1" not in loaded(directory, skip_bad=True).ids


@pytest.mark.parametrize("name", ["north/deep/0.npy", "no rth/0.npy", "x.y/0.npy"])
def test_other_folders_among_sections_are_strays(name: str, tmp_path: Path):
    directory = in_sections(tmp_path / "own")
    write(directory / TESTS / name, truth()[0]["a0"])
    [problem] = problems(directory)
    assert f"{TESTS}/{name.rpartition('/')[0]}: is neither a tile (ID.png, ID.tif, ID.npy)" in problem


def test_hidden_files_are_passed_over(tmp_path: Path):
    directory = in_sections(tmp_path / "own")
    before = loaded(directory)
    (directory / TESTS / "north/.DS_Store").write_text("")
    (directory / TESTS / ".cache").mkdir()
    assert loaded(directory).key == before.key


def test_a_tile_that_is_weak_beside_the_others_holds_data(tmp_path: Path) -> None:
    """All of its amplitudes become one grey, and yet it is not of one colour."""
    folder = tmp_path / "survey" / "test" / "images"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(20):
        amplitudes = random.normal(0, 1 if number == 3 else 1000, (12, 12))
        np.save(folder / f"t{number:02d}.npy", amplitudes.astype(np.float32))
    np.save(folder / "t99.npy", np.full((12, 12), 7, np.float32))
    survey = load_survey(tmp_path / "survey", cache=tmp_path / "cache")
    assert np.ptp(survey.images[3]) == 0
    assert survey.ids[survey.constant].tolist() == ["t99"]
