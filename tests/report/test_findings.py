"""Findings against slow ways to the same figures."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from salt_ray.inference.ensemble import decided_masks
from salt_ray.inference.resampling import drawn_sums
from salt_ray.metric import UNLABELLED, score, tile_scores
from salt_ray.mosaic.table import MosaicTable
from salt_ray.report import findings, gallery
from salt_ray.report.finished import FinishedRun
from salt_ray.report.judged import MASK_THRESHOLDS, SALT_THRESHOLDS, Judged, judge
from salt_ray.survey.folds import FoldTable


@pytest.fixture(scope="module")
def judged(made_run: FinishedRun) -> Judged:
    return judge(made_run.prepared, list(made_run.models.values()), made_run.decisions, made_run.mosaics)


def with_scores(truth: np.ndarray, salt: np.ndarray, masks: np.ndarray | None = None) -> Judged:
    """Judged tiles of these labels and probabilities."""
    masks, nothing = truth if masks is None else masks, np.zeros(len(truth))
    scores = tile_scores(truth, masks)
    tiles = np.arange(len(truth))
    return Judged(tiles, tiles, truth, masks, scores, nothing, salt.astype(np.float32), nothing, nothing, nothing)


def test_a_tile_is_judged_by_models_that_never_saw_it_and_as_the_run_was_scored(
    judged: Judged, made_run: FinishedRun
) -> None:
    assert judged.score == made_run.scores["oof"]
    assert np.array_equal(judged.tiles, made_run.prepared.trainable)
    ids = made_run.prepared.survey.ids
    for fold in range(2):
        own = made_run.tables["random"].split(fold, ids[: made_run.prepared.survey.labelled])[1]
        places = np.flatnonzero(np.isin(judged.tiles, own))
        alone = decided_masks([made_run.models["random", fold]], judged.tiles[places], made_run.decision)
        assert np.array_equal(judged.masks[places], alone)


def test_doubt_is_nothing_where_the_models_are_sure_and_one_at_a_coin(judged: Judged, made_run: FinishedRun) -> None:
    assert (judged.doubt > 0).all() and (judged.doubt < 1).all()
    for place in (0, len(judged.tiles) - 1):
        (records,) = [
            model.records[model.find(judged.tiles[place : place + 1])[1]]
            for model in made_run.models.values()
            if model.find(judged.tiles[place : place + 1])[0].all()
        ]
        pixels = records["mask"][0].astype(np.float64).ravel()
        assert judged.doubt[place] == pytest.approx(np.mean([4 * p * (1 - p) for p in pixels]), abs=1e-3)


def test_threshold_curves_are_the_scores_at_each_threshold(judged: Judged, made_run: FinishedRun) -> None:
    models, settings = list(made_run.models.values()), made_run.decision
    for name, thresholds, curve in (
        ("mask_threshold", MASK_THRESHOLDS, judged.mask_curve),
        ("salt_threshold", SALT_THRESHOLDS, judged.salt_curve),
    ):
        assert len(thresholds) == len(curve) and len(set(np.round(curve, 6))) > 3
        for threshold, value in list(zip(thresholds, curve, strict=True))[::4]:
            masks = decided_masks(models, judged.tiles, settings.replace(**{name: float(threshold)}))
            assert value == pytest.approx(score(judged.truth, masks), abs=1e-12)


def test_coverage_classes_hold_their_upper_bounds() -> None:
    truth = np.zeros((5, 10, 10), bool)
    for tile, pixels in enumerate((0, 1, 10, 11, 100)):
        truth[tile].flat[:pixels] = True
    found = findings.by_coverage(with_scores(truth, np.zeros(5), np.zeros_like(truth)))
    assert [(group.name, group.tiles) for group in found] == [
        ("no salt", 1), ("0 to 10%", 2), ("10 to 20%", 1), ("90 to 100%", 1),
    ]  # fmt: skip
    assert [group.score for group in found] == [1, 0, 0, 0]
    assert [group.lost for group in found] == [0, 0.5, 0.25, 0.25]


def test_what_is_predicted_where_nobody_labelled_changes_no_finding() -> None:
    random = np.random.default_rng(4)
    salt = random.random((30, 10, 10)) < random.random((30, 1, 1)) - 0.3
    truth = np.where(random.random(salt.shape) < 0.4, UNLABELLED, salt).astype(np.int8)
    truth[::3] = salt[::3]  # a third is labelled wholly
    masks, probability = salt ^ (random.random(salt.shape) < 0.1), random.random(30)
    masks[:6] = salt[:6]
    ours, other = (with_scores(truth, probability, own) for own in (masks, masks ^ (truth < 0)))
    assert (ours.masks != other.masks).any() and np.array_equal(ours.wrong, other.wrong)
    for finding in (findings.by_coverage, findings.by_outcome):
        assert finding(ours) == finding(other)
    assert gallery.worst(ours).tolist() == gallery.worst(other).tolist()
    unknown = np.arange(30) % 3 > 0
    unknown &= ~(truth > 0).any(axis=(1, 2))
    assert 0 < unknown.sum() < 20 and np.array_equal(ours.knows_salt, ~unknown)
    changed = with_scores(truth, np.where(unknown, 1 - probability, probability), masks)
    for found in (findings.calibration(changed), findings.calibration(other)):
        assert found.brier == findings.calibration(ours).brier and found.bins["tiles"].sum() == (~unknown).sum()


def test_nothing_is_calibrated_where_no_label_says_whether_there_is_salt() -> None:
    truth = np.zeros((4, 10, 10), np.int8)
    truth[:, 0] = UNLABELLED
    assert findings.calibration(with_scores(truth, np.full(4, 0.3), truth > 0)) is None
    truth[0] = 0
    assert findings.calibration(with_scores(truth, np.full(4, 0.3), truth > 0)).bins["tiles"].tolist() == [1]


def test_groups_divide_all_tiles_and_all_points_lost(judged: Judged, made_run: FinishedRun) -> None:
    survey = made_run.prepared.survey
    each, sides = findings.by_mosaic(judged, survey.ids, made_run.mosaics)
    for found in (
        findings.by_coverage(judged),
        findings.by_depth(judged, survey.depths),
        findings.by_doubt(judged),
        findings.by_outcome(judged),
        sides,
    ):
        assert sum(group.tiles for group in found) == len(judged.tiles)
        assert sum(group.lost for group in found) == pytest.approx(1)
        assert sum(group.tiles * group.score for group in found) == pytest.approx(judged.scores.sum())
    for group in each:
        members = made_run.mosaics.ids[made_run.mosaics.mosaics == int(group.name.split()[1])]
        scores = [judged.scores[i] for i, tile in enumerate(judged.tiles) if survey.ids[tile] in members]
        assert group.tiles == len(scores) and group.score == pytest.approx(np.mean(scores))
        assert math.isnan(group.error)  # a mosaic says nothing of how mosaics differ


def test_errors_are_those_of_the_bootstrap_over_mosaics() -> None:
    rng = np.random.default_rng(4)
    neighbours = np.repeat(np.arange(150), rng.integers(1, 9, 150))
    values = rng.normal(0, 0.2, 150)[neighbours] + rng.normal(0, 0.1, len(neighbours))
    sums = np.column_stack([np.bincount(neighbours, values), np.bincount(neighbours)])
    drawn = drawn_sums(sums, 4000, rng)
    found = findings.standard_error(values, neighbours)
    assert found == pytest.approx((drawn[:, 0] / drawn[:, 1]).std(), rel=0.05)
    alone = findings.standard_error(values, np.arange(len(values)))
    assert alone == pytest.approx(values.std() / math.sqrt(len(values))) and alone < 0.7 * found


def test_neighbours_that_are_alike_say_less_of_a_share() -> None:
    truth = np.zeros((40, 2, 2), bool)
    truth[:8] = True
    alone = with_scores(truth, np.full(40, 0.25))
    fours = dataclasses.replace(alone, neighbours=np.arange(40) // 4)
    wide, ten = findings.calibration(fours), with_scores(truth[::4], np.full(10, 0.25))
    assert wide.bins["tiles"].tolist() == [40]
    bounds = ["low", "high"]
    assert wide.bins[bounds].iloc[0].tolist() == pytest.approx(findings.calibration(ten).bins[bounds].iloc[0].tolist())


def test_depth_parts_follow_the_depth_and_need_all_of_them(judged: Judged, made_run: FinishedRun) -> None:
    depths = made_run.prepared.survey.depths
    found = findings.by_depth(judged, depths)
    order = judged.tiles[np.argsort(depths[judged.tiles], kind="stable")]
    assert [group.tiles for group in found] == [len(part) for part in np.array_split(order, findings.DEPTH_PARTS)]
    assert found[0].name.startswith(f"{depths[order[0]]:,.0f} to ")
    assert found[-1].name.endswith(f" to {depths[order[-1]]:,.0f} ft")
    assert findings.by_depth(judged, np.where(np.arange(len(depths)) == judged.tiles[3], np.nan, depths)) == []


def test_calibration_agrees_with_a_loop(judged: Judged) -> None:
    found = findings.calibration(judged)
    bins: dict[int, list[tuple[float, bool]]] = {}
    for salt, has in zip(judged.salt.tolist(), judged.has_salt.tolist(), strict=True):
        bins.setdefault(min(int(salt * 10), 9), []).append((salt, has))
    rows = [bins[key] for key in sorted(bins)]
    assert found.bins["tiles"].tolist() == [len(row) for row in rows]
    assert found.bins["predicted"].tolist() == pytest.approx([np.mean([salt for salt, _ in row]) for row in rows])
    assert found.bins["observed"].tolist() == pytest.approx([np.mean([has for _, has in row]) for row in rows])
    assert found.brier == pytest.approx(np.mean([(salt - has) ** 2 for row in rows for salt, has in row]))
    gaps = [abs(np.mean([salt - has for salt, has in row])) * len(row) for row in rows]
    assert found.error == pytest.approx(sum(gaps) / len(judged.tiles))
    assert (found.bins["low"] <= found.bins["observed"]).all() and (found.bins["observed"] <= found.bins["high"]).all()


def test_wilsons_interval_of_a_known_case() -> None:
    """Two of ten: 0.0567 to 0.5098 (Wilson 1927, as every table gives it)."""
    truth = np.zeros((10, 2, 2), bool)
    truth[:2] = True
    found = findings.calibration(with_scores(truth, np.full(10, 0.25)))
    assert found.bins[["low", "high"]].iloc[0].tolist() == pytest.approx([0.0567, 0.5098], abs=1e-4)
    sure = findings.calibration(with_scores(truth, truth.any(axis=(1, 2)).astype(float)))
    assert sure.error == sure.brier == 0 and sure.base_brier == pytest.approx(0.16)


def test_divided_mosaics_are_those_with_tiles_in_several_folds() -> None:
    ids = np.array(["a", "b", "c", "d", "e", "f", "g"])
    mosaics = np.array([0, 0, 0, 1, 1, 2, 2])
    table = MosaicTable(ids, mosaics, np.zeros(7, np.int64), np.array([0, 1, 2, 0, 1, 0, 1]), np.ones(7))
    folds = FoldTable(np.array(["a", "b", "d", "e", "f"]), np.array([0, 1, 1, 1, 0]), 2)  # c and g have no label
    assert findings.divided_mosaics(table, folds) == (1, 2)
