"""Which rules are kept: seldom one that is worth nothing, usually one that is worth something."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence

import numpy as np
import pytest

from salt_ray.config import Postprocessing, Prediction
from salt_ray.decision import Decision, FoldDecisions
from salt_ray.postprocessing import evidence
from salt_ray.postprocessing.evidence import MIN_MOSAICS, Evidence, choose, report, settle, weigh
from salt_ray.postprocessing.predicted import MosaicTiles, PredictedMosaic
from salt_ray.postprocessing.rules import RULES
from salt_ray.postprocessing.selection import HiddenScores, hidden_groups, try_rules

SURVEYS = 200
EDGE = 24  # px, of the tiles of made columns
Changes = tuple[Sequence[int], Sequence[float]]  # tenths that a changed tile gains, and how likely each is

#: What worthless rules do to a tile that they change: on average nothing, or harm.
SYMMETRIC: Changes = ([-6, -2, 2, 6], [0.25] * 4)
SMALL_GAINS: Changes = ([1, -3], [0.75, 0.25])
LOST_TILES: Changes = ([2, -10], [5 / 6, 1 / 6])
HARM: Changes = ([-6, -2, 1, 5], [0.25] * 4)
WORTHLESS_SEVEN = {
    "symmetric": [SYMMETRIC] * 7,
    "small gains, larger losses": [SMALL_GAINS] * 7,
    "a little harm": [HARM] * 7,
    "of each kind": [SYMMETRIC, SYMMETRIC, SMALL_GAINS, SMALL_GAINS, LOST_TILES, HARM, HARM],
}
#: Mends four tiles for one that it spoils: in 5.6 % of the tiles, worth 0.01.
PLANTED: Changes = ([3, -3], [0.8, 0.2])


def made_trials(
    random: np.random.Generator, rules: Sequence[tuple[float, Changes]], mosaics: int = 300
) -> list[HiddenScores]:
    """A survey as large as TGS: 860 hidden tiles, of which each rule changes a share.

    In every second mosaic a rule does the same to all the tiles that it changes.
    """
    sizes = np.minimum(random.geometric(0.35, mosaics), 40)
    mosaic_of = np.repeat(np.arange(mosaics), sizes)
    gains, changed = [], []
    for share, (values, chances) in rules:
        own = random.choice(values, len(mosaic_of), p=chances)
        common = random.choice(values, mosaics, p=chances)[mosaic_of]
        hit = random.random(len(mosaic_of)) < share
        tenths = np.where((random.random(mosaics) < 0.5)[mosaic_of], common, own) * hit
        gains.append(np.bincount(mosaic_of, tenths, mosaics))
        changed.append(np.bincount(mosaic_of, hit, mosaics).astype(int))
    before = np.rint(random.normal(6 * sizes, np.sqrt(sizes)))
    return [
        HiddenScores(int(size), score / 10, (score + gain) / 10, count)
        for size, score, gain, count in zip(sizes, before, np.transpose(gains), np.transpose(changed), strict=True)
    ]


def kept_in(trials: Sequence[HiddenScores]) -> tuple[str, ...]:
    return choose(dict(zip(RULES, weigh(trials, seed=0), strict=True)))


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "RESAMPLES", 2)  # intervals decide nothing


@pytest.mark.parametrize(("mosaics", "share"), [(300, 0.05), (80, 0.1)])
@pytest.mark.parametrize("kinds", WORTHLESS_SEVEN.values(), ids=WORTHLESS_SEVEN.keys())
def test_of_seven_worthless_rules_seldom_any_is_kept(
    few_resamples: None, kinds: Sequence[Changes], mosaics: int, share: float
) -> None:
    """In 5 % of surveys; a test that holds that exceeds 20 of 200 once in 700 times."""
    rules = [(share, changes) for changes in kinds]
    made = (made_trials(np.random.default_rng([1, k]), rules, mosaics) for k in range(SURVEYS))
    assert sum(bool(kept_in(trials)) for trials in made) <= 20


def test_a_rule_worth_a_hundredth_is_kept_in_four_of_five_surveys(few_resamples: None) -> None:
    rules = [(0.0555, PLANTED)] + [(0.05, SYMMETRIC)] * (len(RULES) - 1)
    made = (made_trials(np.random.default_rng([2, k]), rules) for k in range(SURVEYS))
    planted = next(iter(RULES))
    assert sum(planted in kept_in(trials) for trials in made) >= 160


def column_of_stripes(random: np.random.Generator, height: int, continuous: float | None) -> PredictedMosaic:
    """A labelled column, each tile a vertical stripe.

    Args:
        continuous: how likely the stripe goes on from tile to tile; predictions are then wrong by one pixel. None: it
            never does, and predictions know nothing, so that a neighbour's label is as good as they are.
    """
    starts = random.integers(1, 13, height)
    if continuous is not None and random.random() < continuous:
        starts[:] = starts[0]
    guessed = random.integers(1, 13, height) if continuous is None else starts + 1
    pixels = np.arange(EDGE)
    return column(random, *((pixels >= left[:, None]) & (pixels < left[:, None] + 10) for left in (starts, guessed)))


def column(random: np.random.Generator, labels: np.ndarray, predicted: np.ndarray) -> PredictedMosaic:
    """A labelled column of two folds, from one row of each mask (n, EDGE)."""
    height = len(labels)
    labels, predicted = (np.repeat(rows[:, None], EDGE, axis=1) for rows in (labels, predicted))
    blind = random.permutation(np.arange(height) % 2) == np.arange(2)[:, None]
    masks = np.where(blind[:, :, None, None], predicted.astype(np.float16), np.float16(np.nan))
    places, images = np.arange(height), np.zeros((height, EDGE, EDGE), np.uint8)
    tiles = MosaicTiles(0, places, places, np.zeros(height, int), images, np.ones(height, bool), labels)
    return PredictedMosaic(tiles, masks, np.where(blind, predicted.any(axis=(1, 2)), np.nan).astype(np.float32))


def tried_in(mosaic: PredictedMosaic, seed: int) -> HiddenScores:
    height = len(mosaic.tiles.tiles)
    groups = hidden_groups(np.zeros(height, int), np.ones(height, bool), seed)
    return try_rules(mosaic, groups, [("copy_down",)], FoldDecisions(Decision.of(Prediction())))


def evidence_for_copying(survey: int, stripes: int, continuous: float | None) -> Evidence:
    """Of a made survey of 400 columns, most of them without salt, where nothing is copied."""
    random = np.random.default_rng([3, survey])
    heights = random.integers(3, 9, 400).tolist()
    empty = {height: tried_in(column(random, *np.zeros((2, height, EDGE), bool)), survey) for height in set(heights)}
    trials = [tried_in(column_of_stripes(random, height, continuous), survey) for height in heights[:stripes]]
    (found,) = weigh(trials + [empty[height] for height in heights[stripes:]], seed=survey)
    return found


@pytest.mark.soak
def test_copying_masks_is_seldom_kept_where_neighbours_differ_and_usually_where_they_agree(few_resamples: None) -> None:
    """The same with masks: labels are hidden, and the rule takes what it draws from the labels around."""
    worthless = [evidence_for_copying(survey, 40, None) for survey in range(SURVEYS)]
    assert sum(found.convincing for found in worthless) <= 20
    assert abs(np.mean([found.gain for found in worthless])) < 0.001
    worth = [evidence_for_copying(survey, 24, 0.9) for survey in range(SURVEYS)]
    assert np.mean([found.gain for found in worth]) == pytest.approx(0.01, abs=0.001)
    assert sum(found.convincing for found in worth) >= 160


def test_the_chance_of_a_gain_agrees_with_all_signs_tried_one_by_one() -> None:
    random = np.random.default_rng(4)
    for _ in range(20):
        gains = random.integers(-8, 12, 9) * (random.random(9) < 0.8)
        seen = np.append(gains, -6)  # the loss of a tile that scores 0.6
        sums = [np.dot(signs, np.abs(seen)) for signs in itertools.product((-1, 1), repeat=len(seen))]
        assert evidence._chance(gains, 0.6) == pytest.approx(np.mean(np.array(sums) >= seen.sum()))


def test_chances_are_adjusted_for_the_number_of_rules() -> None:
    assert evidence._holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # Holm (1979)
    assert evidence._holm([0.4, 0.5]) == pytest.approx([0.8, 0.8]) and evidence._holm([0.9, 0.9]) == [1, 1]
    assert evidence._holm([]) == []


def trials_that_gain(gains: Sequence[Sequence[float]], others: int = 30) -> list[HiddenScores]:
    """For each mosaic of four hidden tiles the gain of each rule, and mosaics in which no rule changes anything."""
    rows = [*gains, *[[0.0] * len(gains[0])] * others]
    return [HiddenScores(4, 2.4, 2.4 + np.array(row), (np.array(row) != 0).astype(int)) for row in rows]


def test_a_rule_that_changed_tiles_of_few_mosaics_is_not_kept_whatever_it_gains() -> None:
    (few,) = weigh(trials_that_gain([[1.0]] * (MIN_MOSAICS - 1)), seed=0)
    assert (few.p, few.mosaics, few.convincing, few.reason) == (None, 9, False, "too little evidence")
    (enough,) = weigh(trials_that_gain([[1.0]] * MIN_MOSAICS), seed=0)
    assert enough.convincing and (enough.mosaics, enough.tiles) == (10, 10)
    both = weigh(trials_that_gain([[1.0, 0.0]] * MIN_MOSAICS), seed=0)
    assert both[0] == enough  # what is not tested costs the others nothing
    (useless,) = weigh(trials_that_gain([[0.3], [-0.3]] * MIN_MOSAICS), seed=0)
    assert not useless.convincing and useless.reason == "gain not shown"


def test_figures_are_means_over_hidden_tiles_with_an_interval_over_mosaics() -> None:
    trials = [
        HiddenScores(2, 1.0, np.array([1.5]), np.array([1])),
        HiddenScores(6, 3.0, np.array([3.1]), np.array([2])),
    ]
    (found,) = weigh(trials, seed=3)
    assert (found.before, found.after, found.gain) == pytest.approx((4 / 8, 4.6 / 8, 0.6 / 8))
    assert found.interval == pytest.approx((0.1 / 6, 0.5 / 2))  # of one of the two mosaics alone
    assert weigh(trials, seed=3) == [found] and found.tiles == 3
    assert weigh([], seed=3) == []
    # Twice the mosaic changes the mean as often as not: tiles of a mosaic are drawn together.
    many = made_trials(np.random.default_rng(5), [(0.05, PLANTED)])
    (wide,) = weigh(many, seed=0)
    sums = np.array([(trial.after - trial.before)[0] for trial in many])
    sizes = np.array([trial.tiles for trial in many])
    error = np.sqrt(np.sum((sums - wide.gain * sizes) ** 2)) / sizes.sum()
    assert np.diff(wide.interval) == pytest.approx(2 * 1.96 * error, rel=0.1)


def found(gain: float, p: float | None) -> Evidence:
    return Evidence(0.5, 0.5 + gain, gain, (gain - 0.01, gain + 0.01), p, 12, 20)


ALONE = {
    "fill_corners": found(0.02, 0.03),
    "fill_holes": found(0.01, 0.05),
    "copy_up": found(0.3, None),
    "join_labels": found(0.2, 0.051),
    "copy_down": found(-0.1, 1.0),
}


def test_rules_whose_gain_is_no_chance_are_chosen_in_their_order() -> None:
    assert choose(ALONE) == ("fill_holes", "fill_corners")
    assert choose({}) == ()


def test_only_a_rule_that_convinced_alone_takes_the_place_of_several_that_do_not_together() -> None:
    """``join_labels`` and ``copy_up`` have larger gains, and failed."""
    together = found(0.03, 0.001)
    assert settle(ALONE, together) == (("fill_holes", "fill_corners"), together)
    for unconvincing in (found(0.03, 0.2), found(0.5, None)):
        assert settle(ALONE, unconvincing) == (("fill_corners",), ALONE["fill_corners"])


def test_the_file_says_of_every_rule_whether_it_is_kept_and_why_not() -> None:
    trials = trials_that_gain([[0.1]], others=2)
    written = report(ALONE, ALONE["fill_corners"], ("fill_corners",), Postprocessing(), trials)
    assert json.loads(json.dumps(written)) == written
    assert (written["kept"], written["hidden_tiles"], written["hidden_mosaics"]) == (["fill_corners"], 12, 3)
    reasons = {name: one["reason"] for name, one in written["alone"].items() if not one["kept"]}
    assert reasons == {
        "fill_holes": "not with the others",
        "copy_up": "too little evidence",
        "join_labels": "gain not shown",
        "copy_down": "gain not shown",
    }
    assert written["alone"]["fill_corners"]["reason"] is None
    assert written["together"]["interval"] == pytest.approx([0.01, 0.03])
    assert report({}, None, (), Postprocessing())["alone"] == {}
