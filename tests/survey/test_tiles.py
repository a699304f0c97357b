"""A loaded survey holds what its files say, the second time from the cache."""

import multiprocessing
import os
import shutil
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from kaggle_layout import (
    CONSTANT,
    IMAGE,
    LABELLED,
    NOISE,
    PX,
    TEST,
    UNLABELLED,
    assert_same,
    change_bytes,
    rgb,
    set_row,
    truth,
    write_png,
    write_survey,
)

from salt_ray.survey import rle, tiles
from salt_ray.survey.tiles import SurveyError, load_survey


@pytest.fixture
def survey(tmp_path: Path) -> Path:
    return write_survey(tmp_path / "survey")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_arrays_are_what_was_written(survey: Path, cache: Path):
    images, masks, depths = truth()
    lines = []
    loaded = load_survey(survey, cache=cache, report=lines.append)
    assert loaded.ids.tolist() == LABELLED + UNLABELLED
    np.testing.assert_array_equal(loaded.images, np.stack([images[i] for i in loaded.ids]))
    np.testing.assert_array_equal(loaded.masks, np.stack([masks[i] for i in LABELLED]))
    np.testing.assert_array_equal(loaded.depths, [depths[i] for i in loaded.ids])
    assert loaded.ids[loaded.constant].tolist() == CONSTANT
    assert loaded.submission_ids.tolist() == UNLABELLED[::-1]
    assert (loaded.images.dtype, loaded.masks.dtype, loaded.depths.dtype) == (np.uint8, np.bool_, np.float32)
    assert (loaded.labelled, loaded.unlabelled, loaded.tile_px) == (7, 5, PX)
    assert not loaded.images.flags.writeable
    assert len(loaded.key) == 64
    assert len(lines) == 1


def test_grey_files_load_as_rgb_ones_do(survey: Path, cache: Path, tmp_path: Path):
    before = load_survey(survey, cache=cache)
    for path in survey.glob("t*/images/*.png"):
        write_png(path, cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    np.testing.assert_array_equal(load_survey(survey, cache=cache).images, before.images)


@pytest.mark.parametrize("values", [(0, 255), (0, 1), (0, 65535)])
def test_masks_may_use_any_value_for_salt(survey: Path, cache: Path, values: tuple[int, int]):
    before = load_survey(survey, cache=cache)
    for i, mask in zip(LABELLED, before.masks, strict=True):
        write_png(survey / f"train/masks/{i}.png", np.where(mask, *values[::-1]).astype(np.uint16))
    np.testing.assert_array_equal(load_survey(survey, cache=cache).masks, before.masks)


def test_masks_may_come_from_the_table_alone_or_from_files_alone(survey: Path, cache: Path):
    before = load_survey(survey, cache=cache)
    shutil.move(survey / "train/masks", survey / "elsewhere")
    np.testing.assert_array_equal(load_survey(survey, cache=cache).masks, before.masks)
    shutil.move(survey / "elsewhere", survey / "train/masks")
    (survey / "train.csv").unlink()
    np.testing.assert_array_equal(load_survey(survey, cache=cache).masks, before.masks)


def test_missing_mask_files_are_filled_from_the_table(survey: Path, cache: Path):
    before = load_survey(survey, cache=cache)
    (survey / "train/masks/a4.png").unlink()
    np.testing.assert_array_equal(load_survey(survey, cache=cache).masks, before.masks)


def test_labelled_only(survey: Path, cache: Path):
    shutil.rmtree(survey / "test")
    lines = []
    loaded = load_survey(survey, cache=cache, report=lines.append)
    assert loaded.ids.tolist() == LABELLED
    assert loaded.submission_ids.tolist() == []
    assert np.isfinite(loaded.depths).all()
    assert "sample_submission.csv is not used" in lines[1]


def test_unlabelled_only(survey: Path, cache: Path):
    shutil.rmtree(survey / "train")
    for table in ("train.csv", "depths.csv", "sample_submission.csv"):
        (survey / table).unlink()
    for _ in range(2):  # the second time from the cache, where an empty array cannot be mapped
        loaded = load_survey(survey, cache=cache)
        assert loaded.masks.shape == (0, PX, PX)
        assert loaded.ids.tolist() == loaded.submission_ids.tolist() == UNLABELLED
        assert np.isnan(loaded.depths).all()


def test_other_files_are_ignored(survey: Path, cache: Path):
    before = load_survey(survey, cache=cache)
    (survey / "folds.csv").write_text("not,a\ntable")
    (survey / "train/notes").mkdir()
    (survey / "train/images/.DS_Store").write_text("x")
    assert_same(load_survey(survey, cache=cache / "other"), before)


def test_salt_on_a_constant_tile_is_a_note(survey: Path, cache: Path):
    write_png(survey / "train/masks/a2.png", np.eye(PX, dtype=np.uint16) * 65535)
    set_row(survey / "train.csv", f"a2,{rle.encode(np.eye(PX, dtype=bool)[None])[0]}")
    for _ in range(2):
        lines = []
        loaded = load_survey(survey, cache=cache, report=lines.append)
        assert any("a2.png is constant" in line for line in lines)
        assert loaded.remarks and set(loaded.remarks) <= set(lines)  # a report repeats them, whenever it is written
        assert loaded.masks[2].any() and loaded.constant[2]


def forbid_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args, **kwargs):
        raise AssertionError("the survey was read again")

    monkeypatch.setattr(tiles, "read_survey", fail)


def test_second_load_reads_no_tile(survey: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    first = load_survey(survey, cache=cache)
    forbid_reading(monkeypatch)
    lines = []
    second = load_survey(survey, cache=cache, report=lines.append)
    assert_same(second, first)
    assert isinstance(second.images, np.memmap)
    assert lines == []


def test_a_touched_survey_is_read_again_and_keeps_its_key(survey: Path, cache: Path):
    first = load_survey(survey, cache=cache)
    os.utime(survey / IMAGE, ns=(1, 1))
    lines = []
    assert_same(load_survey(survey, cache=cache, report=lines.append), first)
    assert len(lines) == 1


def test_changed_content_changes_the_key(survey: Path, cache: Path):
    keys = {load_survey(survey, cache=cache).key}
    write_png(survey / IMAGE, rgb(NOISE[:PX, :PX, 0]))
    keys.add(load_survey(survey, cache=cache).key)
    set_row(survey / "depths.csv", "a4,51")
    keys.add(load_survey(survey, cache=cache).key)
    shutil.move(survey / TEST, survey / "test/images/b-9.png")
    for table in ("depths.csv", "sample_submission.csv"):
        change_bytes(survey / table, lambda b: b.replace(b"b-1,", b"b-9,"))
    keys.add(load_survey(survey, cache=cache).key)
    assert len(keys) == 4


def test_the_key_does_not_depend_on_the_place(survey: Path, cache: Path, tmp_path: Path):
    shutil.copytree(survey, tmp_path / "copy")
    assert_same(load_survey(tmp_path / "copy", cache=tmp_path / "cache2"), load_survey(survey, cache=cache))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "images.npy").unlink(),
        lambda folder: change_bytes(folder / "masks.npy", lambda b: b[:-1]),
        lambda folder: change_bytes(folder / "ids.npy", lambda b: b[:-1]),
        lambda folder: np.save(folder / "depths.npy", np.zeros(3)),
        lambda folder: (folder / "meta.json").unlink(),
        lambda folder: (folder / "meta.json").write_text("{"),
    ],
    ids=["array missing", "array cut", "small array cut", "other array", "no marker", "marker cut"],
)
def test_damaged_cache_is_rebuilt(damage, survey: Path, cache: Path):
    first = load_survey(survey, cache=cache)
    kept = np.array(first.images)
    damage(cache / first.key)
    lines = []
    rebuilt = load_survey(survey, cache=cache, report=lines.append)
    assert "is damaged" in lines[0]
    assert rebuilt.key == first.key
    np.testing.assert_array_equal(rebuilt.images, kept)
    lines.clear()
    load_survey(survey, cache=cache, report=lines.append)
    assert lines == []
    assert sorted(path.name for path in cache.iterdir()) == sorted([first.key, "index"])


def test_the_environment_names_the_cache(survey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SALT_RAY_CACHE", str(tmp_path / "base"))
    key = load_survey(survey).key
    assert (tmp_path / "base/surveys" / key / "meta.json").is_file()


def test_a_cache_that_cannot_be_written_is_named(survey: Path, cache: Path):
    cache.write_text("a file where the folder should be")
    with pytest.raises(SurveyError, match="SALT_RAY_CACHE"):
        load_survey(survey, cache=cache)


def load_at_once(survey: Path, cache: Path, barrier, results) -> None:
    barrier.wait()
    loaded = load_survey(survey, cache=cache)
    results.put((loaded.key, int(loaded.images.sum()), loaded.ids.tolist()))


def test_two_processes_build_it_at_once(survey: Path, cache: Path):
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    workers = [context.Process(target=load_at_once, args=(survey, cache, barrier, results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    one, other = results.get(timeout=300), results.get(timeout=300)
    for worker in workers:
        worker.join()
    assert one == other
    assert sorted(path.name for path in cache.iterdir()) == sorted([one[0], "index"])


@pytest.mark.tgs
@pytest.mark.skipif("SALT_TGS_DATA" not in os.environ, reason="SALT_TGS_DATA does not name the folder of the TGS tiles")
def test_tgs(tmp_path: Path):
    directory = Path(os.environ["SALT_TGS_DATA"])
    survey = load_survey(directory, cache=tmp_path)
    assert (survey.labelled, survey.unlabelled, survey.tile_px) == (4000, 18000, 101)
    assert survey.constant[:4000].sum() == 80
    assert survey.constant[4000:].sum() == 430
    assert (~survey.masks.any(axis=(1, 2))).sum() == 1562
    assert np.isfinite(survey.depths).all()
    start = time.process_time()
    assert load_survey(directory, cache=tmp_path).key == survey.key
    assert time.process_time() - start < 2
