"""What mask values mean is true of a survey as a whole: what is not plain is asked for, and settings settle it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from kaggle_layout import LABELLED, PX, truth, write_table

from salt_ray.metric import UNLABELLED
from salt_ray.survey import rle
from salt_ray.survey.coding import MOST_VALUES, coded
from salt_ray.survey.meaning import AS_FOUND, Meaning
from salt_ray.survey.problems import SurveyError, Unsuited
from salt_ray.survey.tiles import Survey, load_survey

SUFFIXES = (".png", ".tif", ".npy")
IMAGES, MASKS, _ = truth()
IGNORE = 255


def survey_of(directory: Path, suffix: str, as_coded: Callable[[int, np.ndarray], np.ndarray]) -> Path:
    """The labelled tiles of ``kaggle_layout``; number and mask (bool) of each make the values of its file."""
    for number, (i, mask) in enumerate(MASKS.items()):
        for folder, pixels in (("images", IMAGES[i]), ("masks", as_coded(number, mask))):
            path = directory / "train" / folder / f"{i}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, pixels) if suffix == ".npy" else cv2.imwrite(str(path), pixels)
    return directory


def loaded(directory: Path, meaning: Meaning = AS_FOUND, **options: bool) -> Survey:
    return load_survey(directory, meaning, cache=directory.parent / "cache", **options)


def bytes_of(mask: np.ndarray, background: int, salt: int) -> np.ndarray:
    return np.where(mask, salt, background).astype(np.uint8)


def border(mask: np.ndarray) -> np.ndarray:
    """0, 1 and a void frame."""
    pixels = bytes_of(mask, 0, 1)
    pixels[:1] = IGNORE
    return pixels


#: How masks are coded, what is said of it, and what settles it; None: nothing can.
CODINGS = {
    "two classes": (
        lambda number, mask: bytes_of(mask, 0, 1 if number != 4 else 2),
        ["0 in 6 (as a0", "1 in 4 (as a0", "2 in 1 (as a4"],
        Meaning(salt=1),
    ),
    "a void tile": (
        lambda number, mask: bytes_of(mask, 0, 1) if number != 5 else np.full((PX, PX), IGNORE, np.uint8),
        ["1 in 4 (as a0", "255 in 1 (as a5"],
        Meaning(ignore=IGNORE),
    ),
    "void borders": (
        lambda number, mask: border(mask) if number < 5 else bytes_of(mask, 0, 1),
        ["0 in 6 (as a0", "255 in 5 (as a0"],
        Meaning(ignore=IGNORE),
    ),
    "void borders and classes": (
        lambda number, mask: border(mask) if number < 5 else bytes_of(mask, 2 * number, 1),
        ["10 in 1 (as a5", "12 in 1 (as a6", "255 in 5"],
        Meaning(salt=1, ignore=IGNORE),
    ),
    "from 1": (lambda number, mask: bytes_of(mask, 1, 2), ["1 in 6 (as a0", "2 in 5 (as a0"], Meaning(salt=2)),
    "two whites": (
        lambda number, mask: bytes_of(mask, 0, 255 if number < 4 else 128),
        ["128 in 3 (as a4", "255 in 2 (as a0"],
        None,
    ),
    "one value": (lambda number, mask: bytes_of(mask, 9, 9), ["no mask holds 0", "9 in 7 (as a0"], Meaning(salt=9)),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", CODINGS)
def test_masks_that_are_not_0_and_one_other_value_are_asked_about(kind: str, suffix: str, tmp_path: Path) -> None:
    as_coded, says, meaning = CODINGS[kind]
    directory = survey_of(tmp_path / "survey", suffix, as_coded)
    for skip_bad in (False, True):  # no tile can be left out for what is true of all
        with pytest.raises(SurveyError) as raised:
            loaded(directory, skip_bad=skip_bad)
        [problem] = raised.value.problems
        assert problem.file == "train/masks" and all(words in problem.what for words in says), problem
        assert "--set labels.salt=VALUE" in problem.remedy and "--set labels.ignore=VALUE" in problem.remedy
    if meaning is None:
        return
    survey = loaded(directory, meaning)
    files = {i: as_coded(number, mask) for number, (i, mask) in enumerate(MASKS.items())}
    salt = 1 if meaning.salt is None else meaning.salt
    kept = [i for i in LABELLED if meaning.ignore is None or (files[i] != meaning.ignore).any()]
    assert survey.ids.tolist() == kept
    pixels = np.stack([files[i] for i in kept])
    unlabelled = np.zeros(pixels.shape, bool) if meaning.ignore is None else pixels == meaning.ignore
    assert survey.masks.dtype == (np.int8 if unlabelled.any() else bool)
    np.testing.assert_array_equal(survey.masks, np.where(unlabelled, UNLABELLED, pixels == salt))
    said = [line for line in survey.remarks if "labels.ignore=255" in line]
    left_out = f"labelled tiles left out: {7 - len(kept)} have no labelled pixel (labels.ignore=255)"
    # The first row of five tiles is void: 1 of 12.
    ignored = "8.3% of the pixels of 5 tiles are not labelled (labels.ignore=255): they are ignored"
    assert said == [left_out] * (len(kept) < 7) + [ignored] * bool(unlabelled.any())
    assert [line for line in survey.account if "labels.salt" in line] == (
        [f"assumed: {salt} is salt in the masks (labels.salt), and every other value is background"]
        * (meaning.salt is not None)
    )


def test_a_few_masks_of_several_values_cost_their_tiles(tmp_path: Path) -> None:
    directory = survey_of(
        tmp_path / "survey", ".npy", lambda number, mask: border(mask) if number == 4 else bytes_of(mask, 0, 1)
    )
    with pytest.raises(SurveyError) as raised:
        loaded(directory)
    [problem] = raised.value.problems
    assert problem.file == "train/masks/a4.npy" and problem.drops == ("a4",)
    assert problem.what == "is not two-valued (it holds 0 and 1 and 255; most masks hold 0 and 1)"
    assert loaded(directory, skip_bad=True).ids.tolist() == [i for i in LABELLED if i != "a4"]


def test_a_salt_that_no_mask_holds_is_refused_where_masks_hold_something(tmp_path: Path) -> None:
    directory = survey_of(tmp_path / "survey", ".png", lambda number, mask: bytes_of(mask, 0, 255))
    with pytest.raises(
        SurveyError, match=r"no mask holds labels\.salt = 1: 0 in 6 .*255 in 5 .*--set labels.salt=null"
    ):
        loaded(directory, Meaning(salt=1))
    empty = survey_of(tmp_path / "empty", ".png", lambda number, mask: bytes_of(mask, 1, 1))
    assert not loaded(empty, Meaning(salt=2)).masks.any()  # a survey without salt


def test_void_masks_leave_nothing(tmp_path: Path) -> None:
    void = np.full((PX, PX), IGNORE, np.uint8)
    directory = survey_of(tmp_path / "survey", ".png", lambda number, mask: void)
    with pytest.raises(SurveyError, match=r"tiles are labels\.ignore = 255: no labelled tiles remain"):
        loaded(directory, Meaning(ignore=IGNORE))


def test_a_survey_of_masks_that_are_labelled_in_part_comes_from_the_cache_as_it_was_read(tmp_path: Path) -> None:
    directory = survey_of(tmp_path / "survey", ".npy", lambda number, mask: border(mask))
    first, again = (loaded(directory, Meaning(ignore=IGNORE)) for _ in range(2))
    assert first.key == again.key and again.masks.dtype == np.int8 and (again.masks[:, 0] == UNLABELLED).all()
    np.testing.assert_array_equal(first.masks, again.masks)


def test_whole_tiles_that_were_left_out_once_gave_other_keys() -> None:
    """Neither a cached survey nor a run from then may pass for one of today."""
    assert Meaning(salt=1).settings == "labels.salt=1"  # as ever
    assert "labels.ignore" not in Meaning(ignore=IGNORE).settings and str(IGNORE) in Meaning(ignore=IGNORE).settings


def test_the_table_has_to_agree_where_the_file_labels(tmp_path: Path) -> None:
    directory = survey_of(tmp_path / "survey", ".npy", lambda number, mask: border(mask))
    other = {i: mask.copy() for i, mask in MASKS.items()}
    for mask in other.values():
        mask[0] ^= True  # where the files know nothing
    texts = dict(zip(other, rle.encode(np.stack(list(other.values()))), strict=True))
    write_table(directory / "train.csv", "rle_mask", texts)
    assert (loaded(directory, Meaning(ignore=IGNORE)).masks[:, 0] == UNLABELLED).all()
    other["a4"][3, 3] ^= True
    write_table(directory / "train.csv", "rle_mask", texts | {"a4": rle.encode(other["a4"][None])[0]})
    with pytest.raises(SurveyError, match=r"a4\.npy differs from train\.csv in 1 px|a4\.npy: differs .* in 1 px"):
        loaded(directory, Meaning(ignore=IGNORE))


def test_a_full_mask_is_judged_by_the_others(tmp_path: Path) -> None:
    """a3 holds one value alone: salt, as the survey's other masks say."""
    survey = loaded(survey_of(tmp_path / "survey", ".tif", lambda number, mask: bytes_of(mask, 0, 77)))
    np.testing.assert_array_equal(survey.masks, np.stack(list(MASKS.values())))


def test_settings_make_another_survey_and_none_leave_its_key(tmp_path: Path) -> None:
    directory = survey_of(tmp_path / "survey", ".npy", lambda number, mask: bytes_of(mask, 0, 1))
    keys = [
        loaded(directory, meaning).key for meaning in (AS_FOUND, Meaning(salt=1), Meaning(salt=0), Meaning(ignore=1))
    ]
    assert len(set(keys)) == 4
    assert (
        keys[0] == "1775c2104dc981d9b590b060a437e7cd81cbe1be5ed30763eab44aebf4adad5c"
    )  # as before there were settings
    assert loaded(directory).key == keys[0]  # from the cache, beside the others


@pytest.mark.parametrize("values", [[0, -1], [-3], [0, 0.5], [False, True], [0, 1, 2], [-1, 0, 7.5], [5] * 3])
def test_a_mask_is_its_values_and_where_they_are(values: list) -> None:
    pixels = np.resize(np.array(values), (4, 6))
    mask = coded(pixels)
    assert mask.values == tuple(sorted(set(values))) and mask.codes.dtype == np.uint8
    np.testing.assert_array_equal(np.array(mask.values)[mask.codes], pixels)
    for value in (*values, None, 99):
        np.testing.assert_array_equal(
            mask.where(value), pixels == value if value is not None else np.zeros((4, 6), bool)
        )


def test_too_many_values_are_no_classes() -> None:
    assert len(coded(np.arange(MOST_VALUES).reshape(8, -1)).values) == MOST_VALUES
    with pytest.raises(
        Unsuited, match=rf"is not two-valued \(it holds {MOST_VALUES + 1} values, from 0 to {MOST_VALUES}\)"
    ):
        coded(np.arange(MOST_VALUES + 1).reshape(5, -1))


def test_true_and_false_need_no_0(tmp_path: Path) -> None:
    directory = survey_of(tmp_path / "survey", ".npy", lambda number, mask: np.ones((PX, PX), bool))
    assert loaded(directory).masks.all()
