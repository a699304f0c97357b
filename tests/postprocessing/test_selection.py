"""Rules are tried on labels that they cannot see."""

from __future__ import annotations

import numpy as np
import pytest

from salt_ray.config import Prediction
from salt_ray.decision import Decision, FoldDecisions
from salt_ray.metric import tile_scores
from salt_ray.postprocessing import selection
from salt_ray.postprocessing.predicted import MosaicTiles, PredictedMosaic, view
from salt_ray.postprocessing.rules import RULES
from salt_ray.postprocessing.seen import SeenMosaic
from salt_ray.postprocessing.selection import GROUPS, LeakError, hidden_groups, try_rules

SIDE = 12
SETTINGS = Decision.of(Prediction(), "empty")
DECISIONS = FoldDecisions(SETTINGS)


def column_of_salt(seed: int, height: int = 5) -> PredictedMosaic:
    """A column of labelled tiles with one vertical stripe; two models that each predict nothing for their tiles."""
    stripe = np.zeros((SIDE, SIDE), bool)
    stripe[:, 3:8] = True
    random = np.random.default_rng(seed)
    fold = random.permutation(np.arange(height) % 2)
    blind = fold[None] == np.arange(2)[:, None]
    masks = np.where(blind[:, :, None, None], np.float16(0.1), np.float16(np.nan))
    images, labels = np.zeros((height, SIDE, SIDE), np.uint8), np.tile(stripe, (height, 1, 1))
    rows, cols = np.arange(height), np.zeros(height, int)
    return PredictedMosaic(
        MosaicTiles(0, np.arange(height), rows, cols, images, np.ones(height, bool), labels),
        np.broadcast_to(masks, (2, height, SIDE, SIDE)).copy(),
        np.where(blind, 0.1, np.nan).astype(np.float32),
    )


def each_alone(height: int) -> np.ndarray:
    """Groups that hide one tile at a time."""
    return np.arange(height)


def test_a_rule_that_helps_is_measured_as_helping() -> None:
    trial = try_rules(column_of_salt(0), each_alone(5), [("join_labels",), ("empty_below_closed",)], DECISIONS)
    assert (trial.tiles, trial.before) == (5, 0)  # predicted empty
    assert trial.after.tolist() == [3, 0]  # the ends of the column are between no two labels
    assert trial.changed.tolist() == [3, 0]


def test_scores_agree_with_a_direct_computation() -> None:
    """Tiles of one group that different folds judge are hidden one after the other."""
    mosaic, groups = column_of_salt(1, 7), np.array([0, 1, 1, 2, 1, 0, -1])
    trial = try_rules(mosaic, groups, [("copy_down",)], DECISIONS)
    before, after, changed = 0.0, 0.0, 0
    for group in range(3):
        for k in (0, 1):
            now = (groups == group) & mosaic.blind[:, k]
            if now.any():
                seen = view(mosaic, now, np.arange(2) == k, SETTINGS)
                corrected = seen.masks.copy()
                for correction in RULES["copy_down"](seen):
                    corrected[correction.tile] = correction.mask
                before += tile_scores(mosaic.tiles.labels[now], seen.masks[now]).sum()
                after += tile_scores(mosaic.tiles.labels[now], corrected[now]).sum()
                changed += (seen.masks[now] != corrected[now]).any(axis=(1, 2)).sum()
    assert (trial.tiles, trial.before, trial.after.tolist()) == (6, before, [after])
    assert trial.changed.tolist() == [changed] and changed > 0


def test_a_hidden_tile_is_decided_by_its_fold_and_so_are_its_neighbours_without_a_label() -> None:
    """The final thresholds know the hidden labels: where a tile is hidden they decide nothing in its mosaic."""
    mosaic = column_of_salt(0)
    mosaic.tiles.labelled[2] = False  # both models predict it
    mosaic.tiles.labels[2] = False
    mosaic.masks[:, 2], mosaic.salt[:, 2] = 0.1, 0.1
    groups, fold = np.where(mosaic.tiles.labelled, 0, -1), np.where(mosaic.blind[:, 0], 0, 1)
    fold[2] = -1
    low = SETTINGS.replace(mask_threshold=0.05, salt_threshold=0.05, full_tiles="salt")
    decisions = FoldDecisions(SETTINGS.replace(full_tiles="salt"), {0: low, 1: SETTINGS}, fold)
    seen = []

    def record(mosaic: PredictedMosaic, hidden: np.ndarray, models: np.ndarray, decision: Decision) -> SeenMosaic:
        seen.append((hidden, decision))
        return view(mosaic, hidden, models, decision)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "view", record)
        try_rules(mosaic, groups, [("fill_holes",)], decisions)
    for hidden, decision in seen:
        (own,) = set(fold[hidden].tolist())
        assert decision == decisions.of_folds[own]
        assert view(mosaic, hidden, np.arange(2) == own, decision).masks[2].all() == (own == 0)
    assert {decision for _, decision in seen} == set(decisions.of_folds.values())


def test_a_planted_leak_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """What rules are given must not depend on a hidden label: here somebody leaves the labels where they are."""

    def leaky(mosaic: PredictedMosaic, hidden: np.ndarray, models: np.ndarray, settings: Decision) -> SeenMosaic:
        seen = view(mosaic, hidden, models, settings)
        return SeenMosaic(seen.rows, seen.cols, mosaic.tiles.labels.copy(), seen.labelled, seen.corrected)

    mosaic = column_of_salt(2)
    try_rules(mosaic, each_alone(5), [("fill_holes",)], DECISIONS)
    monkeypatch.setattr(selection, "view", leaky)
    with pytest.raises(LeakError, match="hidden label"):
        try_rules(mosaic, each_alone(5), [("fill_holes",)], DECISIONS)


def test_a_hidden_tile_that_still_counts_as_labelled_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def leaky(mosaic: PredictedMosaic, hidden: np.ndarray, models: np.ndarray, settings: Decision) -> SeenMosaic:
        seen = view(mosaic, hidden, models, settings)
        return SeenMosaic(seen.rows, seen.cols, seen.masks, mosaic.tiles.labelled, seen.corrected)

    monkeypatch.setattr(selection, "view", leaky)
    with pytest.raises(LeakError):
        try_rules(column_of_salt(3), each_alone(5), [("fill_holes",)], DECISIONS)


def test_nothing_depends_on_hidden_labels() -> None:
    """Another label on the hidden tile changes its score, never the mask that is scored."""
    only, mosaic, other = np.where(np.arange(5) == 2, 0, -1), column_of_salt(4), column_of_salt(4)
    other.tiles.labels[2] = ~other.tiles.labels[2]
    first, second = (try_rules(m, only, [("join_labels",)], DECISIONS) for m in (mosaic, other))
    assert (first.after.tolist(), second.after.tolist()) == ([1], [0])
    assert first.changed.tolist() == second.changed.tolist() == [1]


def test_every_label_of_a_mosaic_is_hidden_once_in_groups_that_only_the_seed_decides() -> None:
    random = np.random.default_rng(0)
    mosaics, judged = random.permutation(np.repeat([3, 7, 8, -1], [11, 40, 2, 5])), random.random(58) < 0.7
    judged &= mosaics >= 0
    groups = hidden_groups(mosaics, judged, seed=1)
    assert ((groups >= 0) == judged).all()
    for mosaic in (3, 7, 8):
        sizes = np.bincount(groups[judged & (mosaics == mosaic)], minlength=GROUPS)
        assert len(sizes) == GROUPS and np.ptp(sizes) <= 1
    assert (groups == hidden_groups(mosaics, judged, seed=1)).all()
    assert (groups != hidden_groups(mosaics, judged, seed=2)).any()
    elsewhere = np.where(mosaics == 7, 7, 5)  # nor does one mosaic's division depend on the others
    assert (groups == hidden_groups(elsewhere, judged, seed=1))[mosaics == 7].all()
