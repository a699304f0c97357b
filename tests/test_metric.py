"""The score: a truth table, a slow reference in fractions, invariants, and the trivial answers."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from salt_ray import metric


def _bars(both: int, truth_only: int, predicted_only: int, side: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """One tile of each, (1, side, side), with so many pixels in common and on either side alone."""
    truth, predicted = np.zeros(side * side, dtype=bool), np.zeros(side * side, dtype=bool)
    truth[: both + truth_only] = True
    predicted[:both] = True
    predicted[both + truth_only : both + truth_only + predicted_only] = True
    return truth.reshape(1, side, side), predicted.reshape(1, side, side)


def _reference(truth: np.ndarray, predicted: np.ndarray) -> Fraction:
    pairs = list(zip(truth.reshape(-1).tolist(), predicted.reshape(-1).tolist(), strict=True))
    either = sum(t or p for t, p in pairs)
    if not either:
        return Fraction(1)
    iou = Fraction(sum(t and p for t, p in pairs), either)
    return sum(Fraction(iou > Fraction(50 + 5 * k, 100)) for k in range(10)) / 10


@pytest.mark.parametrize(
    ("both", "truth_only", "predicted_only", "expected"),
    [
        (0, 0, 0, 1.0),  # both empty
        (0, 60, 0, 0.0),  # 60 % salt, empty prediction: the copied implementation gives 0.3
        (0, 1, 0, 0.0),
        (0, 0, 60, 0.0),  # empty truth
        (0, 0, 1, 0.0),
        (0, 20, 20, 0.0),  # apart
        (40, 0, 0, 1.0),  # equal
        (1, 0, 0, 1.0),
        (100, 0, 0, 1.0),  # both full
        (60, 0, 40, 0.2),  # full prediction, IoU 0.60 passes 0.50 and 0.55, but not 0.60
        (50, 50, 0, 0.0),  # IoU exactly 0.50: strictly greater
        (51, 49, 0, 0.1),
        (55, 45, 0, 0.1),  # exactly 0.55
        (56, 44, 0, 0.2),
        (70, 30, 0, 0.4),  # exactly 0.70; in floating point 0.5 + 4 * 0.05 is 0.7
        (85, 15, 0, 0.7),  # exactly 0.85
        (95, 0, 5, 0.9),  # exactly 0.95
        (96, 4, 0, 1.0),
        (99, 1, 0, 1.0),
    ],
)
def test_truth_table(both, truth_only, predicted_only, expected):
    truth, predicted = _bars(both, truth_only, predicted_only)
    assert metric.tile_scores(truth, predicted).tolist() == [expected]
    assert metric.score(truth, predicted) == expected


@given(st.data(), st.integers(1, 7), st.integers(1, 7))
@settings(deadline=None)
def test_agreement_with_fractions_and_symmetry(data, height, width):
    shape = (data.draw(st.integers(1, 4)), height, width)
    truth = data.draw(arrays.arrays(np.bool_, shape))
    predicted = truth ^ (data.draw(arrays.arrays(np.bool_, shape)) & data.draw(arrays.arrays(np.bool_, shape)))
    scores = metric.tile_scores(truth, predicted)
    assert scores.dtype == np.float64
    assert scores.tolist() == [float(_reference(*pair)) for pair in zip(truth, predicted, strict=True)]
    assert np.array_equal(metric.tile_scores(predicted, truth), scores)


def test_tiles_are_scored_alone_whatever_their_number_and_order():
    random = np.random.default_rng(0)
    truth = random.random((150, 101, 101)) < random.random((150, 1, 1))
    predicted = truth ^ (random.random((150, 101, 101)) < random.random((150, 1, 1)) / 2)
    predicted[::9] = truth[::9] = False
    together = metric.tile_scores(truth, predicted)
    alone = [metric.tile_scores(truth[i : i + 1], predicted[i : i + 1])[0] for i in range(150)]
    assert together.tolist() == alone
    assert len(set(alone)) > 5
    order = random.permutation(150)
    assert np.array_equal(metric.tile_scores(truth[order], predicted[order]), together[order])
    assert metric.score(truth, predicted) == pytest.approx(sum(alone) / 150, abs=1e-12)
    turned = metric.tile_scores(truth.transpose(0, 2, 1), predicted.transpose(0, 2, 1))
    assert np.array_equal(turned, together)


def _partial(count: int = 40, side: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Masks int8 (count, side, side) with unlabelled parts, whole columns among them; and predictions like them."""
    random = np.random.default_rng(1)
    salt = random.random((count, side, side)) < random.random((count, 1, 1))
    predicted = salt ^ (random.random(salt.shape) < random.random((count, 1, 1)) / 3)
    truth = np.where(random.random(salt.shape) < 0.4, metric.UNLABELLED, salt).astype(np.int8)
    truth[:, :, : side // 4] = metric.UNLABELLED
    return truth, predicted


def test_only_labelled_pixels_count():
    truth, predicted = _partial()
    scores = metric.tile_scores(truth, predicted)
    references = [_reference(t[t >= 0] > 0, p[t >= 0]) for t, p in zip(truth, predicted, strict=True)]
    assert scores.tolist() == [float(reference) for reference in references]
    assert len(set(scores.tolist())) > 5
    assert metric.score(truth, predicted) == pytest.approx(scores.mean())
    assert np.array_equal(metric.tile_scores(truth, predicted ^ (truth < 0)), scores)  # what is predicted elsewhere
    assert not np.array_equal(metric.tile_scores(truth > 0, predicted), scores)
    share = [float((t[t >= 0] > 0).mean()) for t in truth]
    assert metric.salt_share(truth) == pytest.approx(share)


def test_masks_that_are_labelled_throughout_score_the_same_in_both_types():
    truth, predicted = _partial()
    truth = truth > 0
    assert np.array_equal(metric.tile_scores(truth.view(np.int8), predicted), metric.tile_scores(truth, predicted))
    assert metric.trivial_scores(truth.view(np.int8), truth) == metric.trivial_scores(truth, truth.view(np.int8))
    assert np.array_equal(metric.salt_share(truth.view(np.int8)), metric.salt_share(truth))
    for masks in (truth, truth.view(np.int8)):
        assert metric.has_label(masks).all() and metric.wholly_labelled(masks).all()


def test_a_tile_without_a_labelled_pixel_has_no_score():
    truth, predicted = _partial()
    truth[3], truth[5] = metric.UNLABELLED, 1
    assert np.flatnonzero(~metric.has_label(truth)).tolist() == [3]
    assert np.flatnonzero(metric.wholly_labelled(truth)).tolist() == [5]
    with pytest.raises(ValueError, match="without a labelled pixel has no score"):
        metric.tile_scores(truth, predicted)


def test_trivial_answers_are_made_of_labelled_pixels():
    known = np.zeros((3, 8, 8), np.int8)
    known[0, :4] = 1  # the others know nothing of the upper half, and one of them nothing of the lower half's middle
    known[1:, :4] = metric.UNLABELLED
    known[2, 4:, 4] = metric.UNLABELLED
    truth = np.zeros((2, 8, 8), dtype=bool)
    truth[:, :4] = True
    assert metric.trivial_scores(known, truth) == {"all_empty": 0.0, "best_constant": 1.0}
    assert metric.trivial_scores(known, known)["all_empty"] == pytest.approx(2 / 3)


def test_wrong_arguments_are_named():
    mask = np.zeros((2, 4, 4), dtype=bool)
    with pytest.raises(TypeError, match="predicted must be bool, not float64"):
        metric.tile_scores(mask, mask.astype(float))
    with pytest.raises(TypeError, match="truth must be bool, not uint8"):
        metric.score(mask.view(np.uint8), mask)
    for other in (mask[:1], mask[0], np.zeros((2, 4, 5), dtype=bool)):
        with pytest.raises(ValueError, match="N, H, W"):
            metric.tile_scores(mask, other)
    with pytest.raises(ValueError, match="no tile"):
        metric.score(mask[:0], mask[:0])
    assert metric.tile_scores(mask[:0], mask[:0]).shape == (0,)


def test_trivial_answers_on_a_survey_of_one_shape():
    known = np.zeros((10, 8, 8), dtype=bool)
    known[:6, :4] = True  # six tiles are half salt, four empty
    truth = known[3:]
    assert metric.trivial_scores(known, truth) == {"all_empty": 4 / 7, "best_constant": 3 / 7}


def test_the_best_constant_is_chosen_on_known_masks_and_scored_on_others():
    known = np.zeros((4, 8, 8), dtype=bool)
    known[:, :2] = True  # always salt
    known[:1, :6] = True  # once
    truth = np.zeros((2, 8, 8), dtype=bool)
    truth[:, :6] = True
    # On the known masks the upper two rows score best, though six rows would be right on the others.
    assert metric.trivial_scores(known, truth)["best_constant"] == 0.0
    assert metric.trivial_scores(truth, truth)["best_constant"] == 1.0


@pytest.mark.parametrize("level", [False, True])
def test_neither_an_empty_nor_a_full_mask_is_a_constant_answer(level):
    known = np.full((3, 5, 5), level)
    assert math.isnan(metric.trivial_scores(known, known)["best_constant"])


def test_trivial_answers_need_tiles_of_one_size():
    known = np.zeros((2, 4, 4), dtype=bool)
    known[:, 0] = True
    with pytest.raises(ValueError, match="one size"):
        metric.trivial_scores(known, np.zeros((2, 5, 5), dtype=bool))
    with pytest.raises(ValueError, match="no tile"):
        metric.trivial_scores(known, known[:0])
