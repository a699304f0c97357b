"""Thresholds are chosen by other folds' labels, and changed only where that is more than chance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from salt_ray.decision import Decision
from salt_ray.errors import RunError
from salt_ray.inference.ensemble import ModelPrediction
from salt_ray.inference.thresholds import (
    MASK_THRESHOLDS,
    MIN_CLUSTERS,
    SALT_THRESHOLDS,
    Thresholds,
    ThresholdScores,
    choose_thresholds,
    score_thresholds,
)
from salt_ray.metric import UNLABELLED, tile_scores

GIVEN = Decision(mask_threshold=0.4, salt_threshold=0.5, flip=True, full_tiles="empty")
TILES, EDGE = 240, 12


def predicted(rng: np.random.Generator, shift: float = 0.0) -> tuple[ModelPrediction, np.ndarray]:
    """A model's answers on tiles with a slope of salt, and the truth; ``shift``: how much too low they are."""
    rows = np.linspace(-1, 1, EDGE)[None, :, None] + rng.normal(0, 0.7, (TILES, 1, 1))
    salty = rng.random(TILES) < 0.7
    truth = (rows + rng.normal(0, 0.15, (TILES, EDGE, EDGE)) > 0) & salty[:, None, None]
    records = np.zeros(TILES, [("salt", np.float32), ("mask", np.float16, (EDGE, EDGE))])
    records["mask"] = np.clip(1 / (1 + np.exp(-2 * rows)) - shift, 0, 1)
    records["salt"] = np.clip(np.where(salty, 0.8, 0.2) + rng.normal(0, 0.2, TILES), 0, 1)
    return ModelPrediction.of(np.arange(TILES), records), truth


def folds_and_clusters() -> tuple[np.ndarray, np.ndarray]:
    return np.arange(TILES) % 3, np.arange(TILES) // 4


def test_every_pair_scores_what_the_decision_scores() -> None:
    model, truth = predicted(np.random.default_rng(0))
    scores = score_thresholds([model], np.arange(TILES), truth, GIVEN)
    assert (scores.given == tile_scores(truth, GIVEN.masks(model.records["mask"], model.records["salt"]))).all()
    for mask, salt in ((0, 0), (4, 10), (10, 18)):
        pair = {"mask_threshold": float(MASK_THRESHOLDS[mask]), "salt_threshold": float(SALT_THRESHOLDS[salt])}
        masks = GIVEN.replace(**pair).masks(model.records["mask"].astype(np.float32), model.records["salt"])
        np.testing.assert_array_equal(scores.at((mask, salt)), tile_scores(truth, masks))
    mean = max(scores.at((m, s)).mean() for m in range(len(MASK_THRESHOLDS)) for s in range(len(SALT_THRESHOLDS)))
    assert scores.at(scores.best(np.ones(TILES, bool), GIVEN)).mean() == pytest.approx(mean)


def test_what_is_predicted_where_nobody_labelled_changes_no_threshold() -> None:
    model, salt = predicted(np.random.default_rng(0))
    truth = salt.astype(np.int8)
    truth[:, : EDGE // 2, 1::2] = UNLABELLED
    records = model.records.copy()
    records["mask"][truth < 0] = 1 - records["mask"][truth < 0]
    other, given = ModelPrediction.of(np.arange(TILES), records), GIVEN.replace(full_tiles="salt")
    ours, theirs = (score_thresholds([one], np.arange(TILES), truth, given) for one in (model, other))
    for name in ("masks", "empty", "salt", "given"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    assert (ours.given != score_thresholds([other], np.arange(TILES), salt, given).given).any()


def test_of_equals_the_nearest_to_the_given_ones_is_taken() -> None:
    flat = ThresholdScores(
        np.full((9, len(MASK_THRESHOLDS)), 0.5), np.full(9, 0.5), np.full(9, 0.5, np.float32), np.full(9, 0.5)
    )
    mask, salt = flat.best(np.ones(9, bool), GIVEN)
    assert (MASK_THRESHOLDS[mask], SALT_THRESHOLDS[salt]) == (0.4, 0.5)


def test_probabilities_that_are_too_low_get_a_lower_threshold() -> None:
    model, truth = predicted(np.random.default_rng(1), shift=0.2)
    scores = score_thresholds([model], np.arange(TILES), truth, GIVEN)
    found = choose_thresholds(scores, *folds_and_clusters(), GIVEN, seed=0)
    assert found.adopted and found.final.mask_threshold < GIVEN.mask_threshold
    assert found.gain.low > 0 and found.gain.second > found.gain.first == pytest.approx(scores.given.mean())
    assert found.final.flip and found.final.full_tiles == "empty"
    scores_after = [fold.after for fold in found.folds.values()]
    assert np.average(scores_after, weights=[fold.tiles for fold in found.folds.values()]) == pytest.approx(
        found.gain.second
    )
    decisions = found.decisions(folds_and_clusters()[0])
    assert decisions.final == found.final and list(decisions.of_folds) == [0, 1, 2]


def test_where_the_given_ones_are_the_best_they_are_seldom_changed() -> None:
    """Every tile scores best, on average, at the given thresholds; which pair looks best is chance."""
    changed = 0
    for draw in range(200):
        rng = np.random.default_rng(draw)
        far = np.abs(MASK_THRESHOLDS - GIVEN.mask_threshold)
        tile = np.clip(rng.normal(0.7, 0.2, (TILES, 1)), 0, 1)
        walk = rng.normal(0, 0.03, (TILES, len(MASK_THRESHOLDS))).cumsum(axis=1)
        masks = np.clip(tile - 0.02 * far + walk - walk[:, [4]], 0, 1)
        salt = rng.random(TILES).astype(np.float32)
        empty = np.where(salt > 0.5, masks[:, 4] - 0.1, masks[:, 4] + 0.1).clip(0, 1)
        scores = ThresholdScores(masks, empty, salt, np.where(salt > np.float32(0.5), masks[:, 4], empty))
        changed += choose_thresholds(scores, *folds_and_clusters(), GIVEN, seed=draw).adopted
    assert changed <= 10


@pytest.mark.parametrize("fold", range(3))
def test_a_fold_s_labels_have_no_part_in_its_thresholds(fold: int) -> None:
    """Neither inverted nor much fatter ones; the latter have a part in those of the others."""
    model, truth = predicted(np.random.default_rng(2), shift=0.1)
    folds, clusters = folds_and_clusters()
    own = (folds == fold)[:, None, None]

    def chosen(labels: np.ndarray) -> dict[int, Decision]:
        scores = score_thresholds([model], np.arange(TILES), labels, GIVEN)
        found = choose_thresholds(scores, folds, clusters, GIVEN, seed=0)
        return {number: of_fold.decision for number, of_fold in found.folds.items()}

    before, inverted = chosen(truth), chosen(np.where(own, ~truth, truth))
    fatter = chosen(np.where(own, model.records["mask"] > 0.15, truth))
    assert inverted[fold] == fatter[fold] == before[fold]
    assert all(fatter[other].mask_threshold < before[other].mask_threshold for other in range(3) if other != fold)


def test_one_fold_or_few_mosaics_keep_the_given_ones_and_a_file_gives_back_what_was_chosen(tmp_path: Path) -> None:
    model, truth = predicted(np.random.default_rng(3), shift=0.2)
    scores = score_thresholds([model], np.arange(TILES), truth, GIVEN)
    folds, _ = folds_and_clusters()
    neighbours = choose_thresholds(scores, folds, np.arange(TILES) % (MIN_CLUSTERS - 1), GIVEN, seed=0)
    assert neighbours.gain.low > 0 and neighbours.final == GIVEN and not neighbours.adopted
    alone = choose_thresholds(scores, np.zeros(TILES, int), np.arange(TILES), GIVEN, seed=0)
    assert alone.final == GIVEN and not alone.adopted and alone.gain is None and not alone.folds
    assert not alone.decisions(np.zeros(TILES, int)).of_folds
    path = tmp_path / "thresholds.json"
    for found in (alone, choose_thresholds(scores, *folds_and_clusters(), GIVEN, seed=0)):
        found.save(path)
        assert Thresholds.load(path) == found
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RunError, match=r"thresholds.json is damaged .* delete .* and run pipeline to regenerate it"):
        Thresholds.load(path)
