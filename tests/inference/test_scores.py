"""A run's scores: who judges which tile, and what is compared with what."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from salt_ray.config import Prediction
from salt_ray.decision import Decision, FoldDecisions
from salt_ray.errors import RunError
from salt_ray.inference.ensemble import ModelPrediction
from salt_ray.inference.probabilities import Probabilities
from salt_ray.inference.scores import read_test_truth, run_scores, survey_masks
from salt_ray.inference.stored import as_records
from salt_ray.metric import UNLABELLED, score
from salt_ray.survey.folds import depth_folds
from salt_ray.survey.meaning import Meaning
from salt_ray.survey.padding import Frame
from salt_ray.survey.prepared import PreparedSurvey
from salt_ray.survey.tiles import Survey

SIDE, LABELLED, TOTAL = 9, 12, 20
SETTINGS = Decision.of(Prediction(), "empty")


@pytest.fixture
def prepared() -> PreparedSurvey:
    random = np.random.default_rng(0)
    masks = random.random((LABELLED, SIDE, SIDE)) > 0.5
    masks[::3] = False
    constant = np.zeros(TOTAL, bool)
    constant[[4, 15]] = True
    masks[4] = False
    ids = np.array([f"{i:02d}" for i in range(TOTAL)])
    images = random.integers(0, 255, (TOTAL, SIDE, SIDE), dtype=np.uint8)
    survey = Survey(ids, images, masks, np.arange(TOTAL, dtype=np.float32), constant, ids[LABELLED:], "key")
    held_out = np.zeros(LABELLED, bool)
    held_out[[1, 2]] = True
    return PreparedSurvey(survey, Frame(SIDE, SIDE, SIDE), images, masks, held_out)


def perfect(prepared: PreparedSurvey, tiles: np.ndarray, truth: np.ndarray) -> ModelPrediction:
    masks = truth[tiles].astype(np.float16)
    return ModelPrediction.of(tiles, as_records(Probabilities(masks, masks.any(axis=(1, 2)).astype(np.float32))))


def models_of(prepared: PreparedSurvey, truth: np.ndarray) -> tuple[dict, dict]:
    table = depth_folds(prepared.survey.ids[prepared.trainable], np.arange(len(prepared.trainable)), 3)
    models = {}
    for fold in range(3):
        _, own = table.split(fold, prepared.survey.ids[:LABELLED])
        everywhere = np.concatenate([own, [1, 2], prepared.unlabelled[~prepared.survey.constant[LABELLED:]]])
        models["random", fold] = perfect(prepared, np.sort(everywhere), truth)
    return models, {"random": table}


def test_perfect_predictions_score_one_everywhere(prepared: PreparedSurvey) -> None:
    test_truth = np.random.default_rng(1).random((TOTAL - LABELLED, SIDE, SIDE)) > 0.7
    test_truth[3] = False  # position 15 has one colour
    truth = np.concatenate([prepared.survey.masks, test_truth])
    models, tables = models_of(prepared, truth)
    scores, each = run_scores(prepared, models, tables, FoldDecisions(SETTINGS), test_truth)
    assert scores["folds"] == {"0": 1.0, "1": 1.0, "2": 1.0}
    assert (scores["oof"], scores["holdout"], scores["test"]) == (1.0, 1.0, 1.0)
    assert (scores["oof_tiles"], scores["holdout_tiles"], scores["test_tiles"]) == (9, 2, 8)
    assert each["set"].value_counts().to_dict() == {"oof": 9, "holdout": 2, "test": 8} and (each["score"] == 1).all()
    salt = each.set_index("id")["salt"].reindex(prepared.survey.ids).to_numpy()
    np.testing.assert_allclose(salt[~np.isnan(salt)], truth.mean(axis=(1, 2))[~np.isnan(salt)])
    assert scores["trivial"]["all_empty"] == pytest.approx(1 / 8)


def test_what_is_predicted_where_nobody_labelled_changes_no_score(prepared: PreparedSurvey) -> None:
    random = np.random.default_rng(3)
    salt = np.concatenate([prepared.survey.masks, random.random((TOTAL - LABELLED, SIDE, SIDE)) > 0.5])
    unlabelled = random.random(salt.shape) < 0.4
    unlabelled[-1] = True  # of a tile of the test truth nothing is labelled
    truth = np.where(unlabelled, UNLABELLED, salt).astype(np.int8)
    survey = dataclasses.replace(prepared.survey, masks=truth[:LABELLED])
    partial = dataclasses.replace(prepared, survey=survey)
    decisions, found = FoldDecisions(SETTINGS.replace(full_tiles="salt")), []
    wrong = salt ^ (random.random(salt.shape) < 0.1)
    for masks in (wrong, wrong ^ unlabelled):
        models, tables = models_of(prepared, masks)
        found.append(run_scores(partial, models, tables, decisions, truth[LABELLED:]))
    (scores, tiles), (other, other_tiles) = found
    assert scores == other and tiles.equals(other_tiles)
    assert scores["test_tiles"] == TOTAL - LABELLED - 1 and 0 < scores["oof"] < 1 and 0 < scores["test"] < 1
    np.testing.assert_allclose(tiles["labelled"][tiles["set"] == "test"], (truth[LABELLED:-1] >= 0).mean(axis=(1, 2)))
    shares = dict(zip(tiles["id"], tiles["salt"], strict=True))
    assert shares["07"] == pytest.approx((truth[7] > 0).sum() / (truth[7] >= 0).sum())
    without = run_scores(partial, models, tables, decisions, np.full((TOTAL - LABELLED, SIDE, SIDE), -1, np.int8))[0]
    assert "test" not in without and without["trivial"]["all_empty"] == pytest.approx(
        score(truth[[0, 3, 5, 6, 7, 8, 9, 10, 11]], np.zeros((9, SIDE, SIDE), bool))
    )


def test_a_wrong_fold_shows_in_its_own_score_and_out_of_fold_only(prepared: PreparedSurvey) -> None:
    truth = np.concatenate([prepared.survey.masks, np.zeros((TOTAL - LABELLED, SIDE, SIDE), bool)])
    models, tables = models_of(prepared, truth)
    wrong = models["random", 1]
    _, own = tables["random"].split(1, prepared.survey.ids[:LABELLED])
    records = wrong.records.copy()
    records["mask"][np.isin(wrong.tiles, own)] = 1 - records["mask"][np.isin(wrong.tiles, own)]
    models["random", 1] = dataclasses.replace(wrong, records=records)
    scores, _ = run_scores(prepared, models, tables, FoldDecisions(SETTINGS), None)
    assert scores["folds"]["0"] == scores["folds"]["2"] == scores["holdout"] == 1.0
    assert scores["folds"]["1"] < 0.5
    sizes = np.bincount(tables["random"].folds)
    mean = np.average(list(scores["folds"].values()), weights=sizes)
    assert scores["oof"] == pytest.approx(mean)
    assert "test" not in scores


def test_each_fold_is_scored_by_its_own_decision_and_unseen_tiles_by_the_final_one(prepared: PreparedSurvey) -> None:
    truth = np.concatenate([prepared.survey.masks, np.ones((TOTAL - LABELLED, SIDE, SIDE), bool)])
    truth[LABELLED:, 0] = False
    models, tables = models_of(prepared, truth)
    folds = np.full(TOTAL, -1)
    folds[prepared.trainable] = tables["random"].folds
    nothing = SETTINGS.replace(salt_threshold=1.0)
    empty = ~prepared.survey.masks.any(axis=(1, 2))
    scores, each = run_scores(
        prepared, models, tables, FoldDecisions(SETTINGS, {0: SETTINGS, 1: nothing, 2: SETTINGS}, folds), None
    )
    assert scores["folds"]["0"] == scores["folds"]["2"] == scores["holdout"] == 1.0
    assert scores["folds"]["1"] == empty[folds[:LABELLED] == 1].mean() < 1
    expected = np.where(folds[prepared.trainable] == 1, empty[prepared.trainable], 1.0)
    assert scores["oof"] == expected.mean()
    assert each[each["set"] == "oof"]["score"].tolist() == expected.tolist()
    assert run_scores(prepared, models, tables, FoldDecisions(nothing), None)[0]["holdout"] < 1


def test_tiles_of_one_colour_are_empty_without_a_prediction(prepared: PreparedSurvey) -> None:
    truth = np.ones((TOTAL, SIDE, SIDE), bool)
    truth[:, 0, 0] = False
    models, _ = models_of(prepared, truth)
    masks = survey_masks(prepared, models.values(), prepared.unlabelled, SETTINGS)
    assert not masks[15 - LABELLED].any()
    assert masks.any(axis=(1, 2)).sum() == TOTAL - LABELLED - 1


def test_test_truth_is_read_where_it_lies(tmp_path: Path) -> None:
    assert read_test_truth(tmp_path, np.array(["a"])) is None
    (tmp_path / "truth" / "masks").mkdir(parents=True)
    mask = np.random.default_rng(2).random((SIDE, SIDE)) > 0.5
    cv2.imwrite(str(tmp_path / "truth" / "masks" / "a.png"), mask * np.uint8(255))
    truth = read_test_truth(tmp_path, np.array(["a"]))
    assert score(mask[None], truth) == 1.0
    assert read_test_truth(tmp_path, np.array([], str)) is None
    with pytest.raises(RunError, match=r"lacks 1 masks \(first: b.png\)"):
        read_test_truth(tmp_path, np.array(["a", "b"]))
    for name, side in (("b", SIDE), ("c", SIDE + 1)):
        cv2.imwrite(str(tmp_path / "truth" / "masks" / f"{name}.png"), np.zeros((side, SIDE), np.uint8))
    with pytest.raises(RunError, match=r"c\.png is 9 x 10 px, the other masks there 9 x 9: restore it, or remove"):
        read_test_truth(tmp_path, np.array(["a", "b", "c"]))


def test_a_test_truth_is_coded_as_the_masks_are(tmp_path: Path) -> None:
    (tmp_path / "truth" / "masks").mkdir(parents=True)
    pixels = np.resize(np.array([1, 2, 3], np.uint16), (SIDE, SIDE))
    for name in "ab":
        cv2.imwrite(str(tmp_path / "truth" / "masks" / f"{name}.png"), pixels)
    ids = np.array(["a", "b"])
    with pytest.raises(RunError, match=r"^truth/masks: all masks of a survey must hold .* 1 in 2 .*labels.salt=VALUE"):
        read_test_truth(tmp_path, ids)
    np.testing.assert_array_equal(read_test_truth(tmp_path, ids, Meaning(salt=2)), [pixels == 2] * 2)
    cv2.imwrite(str(tmp_path / "truth" / "masks" / "b.png"), np.full_like(pixels, 3))
    truth = read_test_truth(tmp_path, ids, Meaning(salt=2, ignore=3))
    assert truth.dtype == np.int8
    np.testing.assert_array_equal(truth, [np.where(pixels == 3, UNLABELLED, pixels == 2), np.full_like(truth[0], -1)])


@pytest.mark.parametrize("suffix", [".tif", ".npy"])
def test_test_truth_may_have_any_format_of_masks(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "truth" / "masks").mkdir(parents=True)
    mask = np.random.default_rng(2).random((SIDE, SIDE)) > 0.5
    path = tmp_path / "truth" / "masks" / f"a{suffix}"
    if suffix == ".npy":
        np.save(path, mask)
    else:
        cv2.imwrite(str(path), mask * np.uint8(1))
    np.testing.assert_array_equal(read_test_truth(tmp_path, np.array(["a"])), mask[None])
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(RunError, match=rf"1 masks of the test truth cannot be read \(first: .*a{suffix} is truncated"):
        read_test_truth(tmp_path, np.array(["a"]))


def test_a_test_truth_of_another_size_than_the_tiles_is_refused(prepared: PreparedSurvey) -> None:
    with pytest.raises(RunError, match="the test truth are 8 x 8 px, the tiles 9 x 9 px"):
        run_scores(prepared, {}, {}, FoldDecisions(SETTINGS), np.zeros((TOTAL - LABELLED, SIDE - 1, SIDE - 1), bool))
