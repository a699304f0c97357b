"""A prepared survey: padded once, and what may be trained on kept apart from what may not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from salt_ray.config import Experiment, PseudoLabels
from salt_ray.errors import RunError
from salt_ray.metric import UNLABELLED
from salt_ray.storage import only_one
from salt_ray.survey import prepared as prepared_survey
from salt_ray.survey.folds import FoldError
from salt_ray.survey.memory import NotEnoughMemory
from salt_ray.survey.padding import PaddingOperator, centre
from salt_ray.survey.prepared import PreparedSurvey, prepare_survey
from salt_ray.survey.synthetic import write_survey
from salt_ray.survey.tiles import Survey, load_survey


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    directory = tmp_path_factory.mktemp("data") / "survey"
    write_survey(directory, 60, seed=2, tile_px=32)
    return load_survey(directory)


@pytest.fixture(scope="module")
def prepared(survey: Survey, tiny: Experiment) -> PreparedSurvey:
    return prepare_survey(survey, tiny)


def test_padding_leaves_every_tile_in_its_middle(prepared: PreparedSurvey) -> None:
    assert (centre(prepared.images, prepared.frame) == prepared.survey.images).all()
    assert (centre(prepared.masks, prepared.frame) == prepared.survey.masks).all()


def test_the_second_time_nothing_is_padded_and_damage_is_mended(
    survey: Survey, tiny: Experiment, tmp_path: Path
) -> None:
    lines: list[str] = []
    first = prepare_survey(survey, tiny, lines.append, tmp_path)
    assert len(lines) == 1
    prepare_survey(survey, tiny, lines.append, tmp_path)
    assert len(lines) == 1
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    content = (folder / "images.npy").read_bytes()
    wanted = np.array(first.images)
    (folder / "images.npy").write_bytes(content[:-100])
    again = prepare_survey(survey, tiny, lines.append, tmp_path)
    assert "damaged" in lines[1] and (again.images == wanted).all()


def test_pixels_without_a_label_are_padded_and_kept_as_such(survey: Survey, tiny: Experiment, tmp_path: Path) -> None:
    masks = survey.masks.astype(np.int8)
    masks[::2, :10] = UNLABELLED
    partial = replace(survey, masks=masks, key="partial")
    for _ in range(2):  # made, then mapped
        prepared = prepare_survey(partial, tiny, cache=tmp_path)
        assert prepared.masks.dtype == np.int8
        assert (centre(prepared.masks, prepared.frame) == masks).all()
        assert np.array_equal(prepared.partly_labelled, np.arange(len(masks)) % 2 == 0)
        assert (prepared.masks[1::2] >= 0).all() and (prepared.masks[::2, 0] == UNLABELLED).all()
    assert prepared.training_tiles(tiny).masks.dtype == np.int8
    assert not prepare_survey(survey, tiny, cache=tmp_path).partly_labelled.any()


def test_padded_tiles_go_to_the_disk_a_block_at_a_time(
    survey: Survey, tiny: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepared: PreparedSurvey
) -> None:
    """All of them at once may take more than the memory; the bytes are those of one np.save."""
    asked: list[int] = []
    images = PaddingOperator.images
    monkeypatch.setattr(PaddingOperator, "images", lambda *words: asked.append(len(words[1])) or images(*words))
    monkeypatch.setattr(prepared_survey, "_BLOCK_BYTES", 7 * prepared.frame.padded_px**2)
    prepare_survey(survey, tiny, cache=tmp_path)
    assert asked == [7] * 8 + [4]
    for name, array in (("images", prepared.images), ("masks", prepared.masks)):
        (path,) = tmp_path.rglob(f"{name}.npy")
        np.save(tmp_path / "whole.npy", array)
        assert path.read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_memory_that_runs_out_is_one_error_and_leaves_nothing(
    survey: Survey, tiny: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*words: object) -> None:
        raise MemoryError("Unable to allocate 9 GiB")

    monkeypatch.setattr(PaddingOperator, "masks", short)
    with pytest.raises(
        NotEnoughMemory, match=r"padding the tiles: out of memory \(Unable to allocate 9 GiB\).* are free: "
    ):
        prepare_survey(survey, tiny, cache=tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def damaged(survey: Survey, tiny: Experiment, cache: Path) -> Path:
    """The folder of padded tiles, with most of its images gone."""
    prepare_survey(survey, tiny, cache=cache)
    (folder,) = (path for path in cache.iterdir() if path.is_dir())
    (folder / "images.npy").write_bytes((folder / "images.npy").read_bytes()[:500])
    return folder


def test_those_that_see_the_same_damage_mend_it_once(survey: Survey, tiny: Experiment, tmp_path: Path) -> None:
    folder, lines = damaged(survey, tiny, tmp_path), []
    with ThreadPoolExecutor(3) as pool:
        with only_one(folder):  # all have seen it before the first may mend it
            waiting = [pool.submit(prepare_survey, survey, tiny, lines.append, tmp_path) for _ in range(3)]
            assert not wait(waiting, timeout=0.5).done
        found = [one.result() for one in waiting]
    assert sum("damaged" in line for line in lines) == 1 and sum("padding 60" in line for line in lines) == 1
    for prepared in found:
        assert (centre(prepared.images, prepared.frame) == survey.images).all()
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [folder.name]  # nothing is left beside it


def test_damage_that_stays_is_one_sentence(
    survey: Survey, tiny: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged(survey, tiny, tmp_path)
    monkeypatch.setattr(prepared_survey, "_save", lambda path, *tiles: path.write_bytes(b"half"))
    lines: list[str] = []
    with pytest.raises(RunError, match=r"cannot be read back .* set SALT_RAY_CACHE to a folder on another disk"):
        prepare_survey(survey, tiny, lines.append, tmp_path)
    assert len(lines) == 2


def test_constant_and_held_out_tiles_are_not_trained_on(survey: Survey, tiny: Experiment, tmp_path: Path) -> None:
    usable = np.flatnonzero(~survey.constant[: survey.labelled])
    chosen = survey.ids[usable[:5]]
    (tmp_path / "holdout.csv").write_text("id\n" + "\n".join(chosen) + "\n")
    prepared = prepare_survey(survey, tiny.replace(holdout=tmp_path / "holdout.csv"))
    assert prepared.trainable.tolist() == usable[5:].tolist()
    table = prepared.depth_folds(2)
    assert not set(table.ids) & set(chosen)
    assert survey.constant[: survey.labelled].any()
    assert not set(table.ids) & set(survey.ids[survey.constant])


def test_saved_folds_are_checked(prepared: PreparedSurvey, tmp_path: Path) -> None:
    path = tmp_path / "folds.csv"
    table = prepared.depth_folds(3)
    table.save(path)
    assert prepared.load_folds(path, 3).digest == table.digest
    rows = path.read_text().splitlines()
    path.write_text("\n".join(rows[:-1]) + "\n")
    with pytest.raises(RunError, match="other tiles"):
        prepared.load_folds(path, 3)
    with pytest.raises(FoldError, match="delete "):
        prepared.load_folds(path, 7)


def test_training_tiles_are_the_labelled_ones(prepared: PreparedSurvey, tiny: Experiment) -> None:
    tiles = prepared.training_tiles(tiny)
    labelled = prepared.survey.labelled
    assert (tiles.ids == prepared.survey.ids[:labelled]).all()
    assert (tiles.images == prepared.images[:labelled]).all()
    assert type(tiles.images) is np.ndarray  # not a memory map: it goes into the object store
    assert tiles.unlabelled is None


@pytest.fixture
def learning(tiny: Experiment) -> Experiment:
    """One that learns from unlabelled tiles."""
    (training,) = tiny.trainings
    first, second = training.stages
    stages = first.replace(schedule=second.schedule, early_stopping=None), second.replace(begins="last")
    stages = stages[0], stages[1].replace(pseudo_labels=PseudoLabels())
    return tiny.replace(trainings=(training.replace(stages=stages),))


def test_unlabelled_tiles_go_along_where_they_are_learnt_from(prepared: PreparedSurvey, learning: Experiment) -> None:
    survey, tiles = prepared.survey, prepared.training_tiles(learning)
    assert len(tiles.ids) == survey.labelled and survey.constant[survey.labelled :].any()
    wanted = np.flatnonzero(~survey.constant & (np.arange(len(survey.ids)) >= survey.labelled))
    assert (tiles.unlabelled.ids == survey.ids[wanted]).all()
    assert (tiles.unlabelled.images == prepared.images[wanted]).all()
    assert type(tiles.unlabelled.images) is np.ndarray


@pytest.mark.parametrize("kept", [0, 1], ids=["none", "one of one colour"])
def test_pseudo_labels_without_unlabelled_tiles_are_refused(
    kept: int, prepared: PreparedSurvey, learning: Experiment
) -> None:
    survey = prepared.survey
    unlabelled = np.flatnonzero(survey.constant & (np.arange(len(survey.ids)) >= survey.labelled))[:kept]
    positions = np.concatenate([np.arange(survey.labelled), unlabelled])
    parts = {name: getattr(survey, name)[positions] for name in ("ids", "images", "constant", "depths")}
    bare = replace(prepared, survey=replace(survey, **parts), images=prepared.images[positions])
    with pytest.raises(RunError, match=r"pseudo_labels need unlabelled tiles, .*: add test/images, or set"):
        bare.training_tiles(learning)
