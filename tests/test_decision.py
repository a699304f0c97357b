"""Probabilities to masks: the same for arrays and tensors, at every threshold."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from salt_ray.config import Experiment, Prediction
from salt_ray.decision import ARGUS, Decision, FoldDecisions, validation_decision

MASKS = np.full((4, 2, 2), 0.9, np.float32)
MASKS[:3, 0, 0] = [0.4, 0.41, 0.9]  # at the threshold; above it, and so full; full
SALT = np.array([0.9, 0.9, 0.51, 0.5], np.float32)  # the last one is at its threshold


@pytest.mark.parametrize(("full_tiles", "expected"), [("empty", [3, 0, 0, 0]), ("salt", [3, 4, 4, 0])])
def test_thresholds_are_strict_and_full_tiles_are_what_the_survey_says(full_tiles: str, expected: list[int]) -> None:
    settings = Prediction(mask_threshold=np.float32(0.4).item(), salt_threshold=0.5)
    decision = Decision.of(settings, full_tiles)
    decided = decision.masks(MASKS, SALT)
    assert decided.sum(axis=(1, 2)).tolist() == expected
    assert (decision.masks(torch.from_numpy(MASKS), torch.from_numpy(SALT)).numpy() == decided).all()


def test_epochs_are_compared_as_predictions_are_made_unless_the_baseline_is_asked_for(tiny: Experiment) -> None:
    changed = tiny.replace(prediction=tiny.prediction.replace(mask_threshold=0.6, flip=False))
    assert validation_decision(changed, "salt") == Decision.of(changed.prediction, "salt")
    assert validation_decision(changed.replace(decision="argus")) == ARGUS


def test_each_tile_is_decided_by_its_fold_and_tiles_of_none_by_the_final_decision() -> None:
    random = np.random.default_rng(0)
    final = Decision(mask_threshold=0.5, salt_threshold=0.1, flip=True)
    of_folds = {0: final.replace(mask_threshold=0.2), 1: final.replace(salt_threshold=0.9)}
    folds = np.array([1, -1, 0, 0, 1, -1, 2])  # of the last one nothing was chosen
    decisions = FoldDecisions(final, of_folds, folds)
    tiles = np.array([6, 0, 3, 5, 2, 4])
    masks, salt = random.random((6, 3, 3)), random.random(6)
    own = [final, of_folds[1], of_folds[0], final, of_folds[0], of_folds[1]]
    expected = [one.masks(masks[[i]], salt[[i]])[0] for i, one in enumerate(own)]
    assert (decisions.masks(tiles, masks, salt) == expected).all()
    assert (decisions.part(tiles).masks(np.arange(6), masks, salt) == expected).all()
    places = np.concatenate([places for _, places in decisions.divide(tiles)])
    assert sorted(places.tolist()) == list(range(6))
    stricter = [one.replace(mask_threshold=0.8).masks(masks[[i]], salt[[i]])[0] for i, one in enumerate(own)]
    assert (decisions.replace(mask_threshold=0.8).masks(tiles, masks, salt) == stricter).all()
    alike = FoldDecisions(final)
    assert (alike.masks(tiles, masks, salt) == final.masks(masks, salt)).all()
    assert alike.as_json() == {"prediction": final.model_dump(mode="json")}  # as older runs have it
