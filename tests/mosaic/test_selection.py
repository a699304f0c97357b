"""Rules are judged on labels that they cannot see, and kept only where they help by more than chance."""

from __future__ import annotations

import numpy as np
import pytest

from salt_ray.config import Postprocessing, Prediction
from salt_ray.decision import Decision
from salt_ray.mosaic import selection
from salt_ray.mosaic.predicted import MosaicTiles, PredictedMosaic, view
from salt_ray.mosaic.rules import RULES, Mosaic
from salt_ray.mosaic.selection import Evidence, LeakError, Trial, choose, hidden_tiles, try_rules, weigh
from salt_ray.training.metrics import tile_scores

SIDE = 12
SETTINGS = Decision.of(Prediction(), "empty")


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


def one_hidden_per_repeat(height: int) -> np.ndarray:
    return np.eye(height, dtype=bool)


def test_a_rule_that_helps_is_measured_as_helping() -> None:
    mosaic = column_of_salt(0)
    trial = try_rules(mosaic, one_hidden_per_repeat(5), [("join_labels",), ("empty_below_closed",)], SETTINGS)
    assert trial.tiles.tolist() == [1] * 5
    assert (trial.scores[0] == 0).all()  # predicted empty
    assert trial.scores[1].tolist() == [0, 1, 1, 1, 0]  # the ends of the column lie between no two labels
    assert (trial.scores[2] == 0).all()


def test_scores_agree_with_a_direct_computation() -> None:
    mosaic, hidden = column_of_salt(1, 6), np.zeros((3, 6), bool)
    hidden[0, [1, 2, 4]] = hidden[1, [0, 5]] = hidden[2, [3]] = True
    trial = try_rules(mosaic, hidden, [("copy_down",)], SETTINGS)
    for repeat, chosen in enumerate(hidden):
        before = after = 0.0
        for k in (0, 1):  # tiles of one fold are hidden at a time
            now = chosen & mosaic.blind[:, k]
            if now.any():
                seen = view(mosaic, now, np.arange(2) == k, SETTINGS)
                corrected = seen.masks.copy()
                for correction in RULES["copy_down"](seen):
                    corrected[correction.tile] = correction.mask
                before += tile_scores(mosaic.tiles.labels[now], seen.masks[now]).sum()
                after += tile_scores(mosaic.tiles.labels[now], corrected[now]).sum()
        assert trial.scores[:, repeat].tolist() == [before, after]


def test_a_planted_leak_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """What rules are given must not depend on a hidden label: here somebody leaves the labels where they are."""

    def leaky(mosaic: PredictedMosaic, hidden: np.ndarray, models: np.ndarray, settings: Decision) -> Mosaic:
        seen = view(mosaic, hidden, models, settings)
        return Mosaic(seen.rows, seen.cols, mosaic.tiles.labels.copy(), seen.labelled, seen.corrected)

    mosaic, hidden = column_of_salt(2), one_hidden_per_repeat(5)
    try_rules(mosaic, hidden, [("fill_holes",)], SETTINGS)
    monkeypatch.setattr(selection, "view", leaky)
    with pytest.raises(LeakError, match="hidden label"):
        try_rules(mosaic, hidden, [("fill_holes",)], SETTINGS)


def test_a_hidden_tile_that_still_counts_as_labelled_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def leaky(mosaic: PredictedMosaic, hidden: np.ndarray, models: np.ndarray, settings: Decision) -> Mosaic:
        seen = view(mosaic, hidden, models, settings)
        return Mosaic(seen.rows, seen.cols, seen.masks, mosaic.tiles.labelled, seen.corrected)

    monkeypatch.setattr(selection, "view", leaky)
    with pytest.raises(LeakError):
        try_rules(column_of_salt(3), one_hidden_per_repeat(5), [("fill_holes",)], SETTINGS)


def test_nothing_depends_on_hidden_labels() -> None:
    """Another label on the hidden tile changes its score, never the mask that is scored."""
    mosaic, hidden = column_of_salt(4), one_hidden_per_repeat(5)
    other = column_of_salt(4)
    other.tiles.labels[2] = ~other.tiles.labels[2]
    first, second = (try_rules(m, hidden, [("join_labels",)], SETTINGS).scores for m in (mosaic, other))
    assert first[1, 2] == 1 and second[1, 2] == 0
    assert (first[:, [0, 4]] == second[:, [0, 4]]).all()


def test_the_share_is_hidden_in_every_repeat_and_only_among_the_labelled() -> None:
    labelled = np.arange(100) % 3 == 0
    settings = Postprocessing(hidden_share=0.5, repeats=7)
    hidden = hidden_tiles(labelled, settings, seed=1)
    assert hidden.shape == (7, 100)
    assert (hidden.sum(axis=1) == 17).all()
    assert not hidden[:, ~labelled].any()
    assert len(np.unique(hidden, axis=0)) == 7
    assert (hidden == hidden_tiles(labelled, settings, seed=1)).all()
    assert (hidden != hidden_tiles(labelled, settings, seed=2)).any()


def test_evidence_is_the_mean_and_spread_over_repeats_of_all_mosaics() -> None:
    first = Trial(np.array([[1.0, 2.0], [2.0, 2.0]]), np.array([2, 4]))
    second = Trial(np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([2, 0]))
    (evidence,) = weigh([first, second])
    before, after = np.array([1 / 4, 2 / 4]), np.array([3 / 4, 2 / 4])
    assert evidence.before == pytest.approx(before.mean())
    assert evidence.after == pytest.approx(after.mean())
    assert evidence.gain == pytest.approx((after - before).mean())
    assert evidence.spread == pytest.approx((after - before).std(ddof=1))
    assert weigh([Trial(np.zeros((2, 2)), np.array([1, 0]))]) == []  # a repeat that hid nothing says nothing
    assert weigh([]) == []


def test_only_a_gain_above_its_spread_is_kept_in_the_order_of_the_rules() -> None:
    alone = {
        "fill_corners": Evidence(0.5, 0.6, 0.1, 0.05),
        "fill_holes": Evidence(0.5, 0.52, 0.02, 0.01),
        "copy_up": Evidence(0.5, 0.52, 0.02, 0.02),
        "copy_down": Evidence(0.5, 0.4, -0.1, 0.0),
        "join_labels": Evidence(0.5, 0.5, 0.0, 0.0),
    }
    assert choose(alone) == ("fill_holes", "fill_corners")
