"""The tiles that are shown are those that the headings promise, in the colours of the legends."""

from __future__ import annotations

import base64
import copy
import dataclasses

import cv2
import numpy as np
import pytest

from salt_ray.metric import UNLABELLED
from salt_ray.mosaic.table import MosaicTable
from salt_ray.report import gallery
from salt_ray.report.finished import FinishedRun
from salt_ray.report.gallery import Picture


def pixels(picture: Picture) -> np.ndarray:
    """(H, W, 3) uint8, red first."""
    content = base64.b64decode(picture.source.partition(",")[2])
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def test_the_worst_have_the_lowest_scores_and_then_most_wrong_pixels(made_run: FinishedRun) -> None:
    judged = made_run.judged
    wrong = (judged.truth != judged.masks).sum(axis=(1, 2))
    keys = sorted((judged.scores[i], -int(wrong[i]), i) for i in range(len(judged.tiles)))
    assert gallery.worst(judged).tolist() == [place for *_, place in keys[: gallery.WORST]]


def test_the_most_uncertain_have_the_highest_doubt(made_run: FinishedRun) -> None:
    judged = made_run.judged
    shown = judged.doubt[gallery.most_uncertain(judged)]
    assert shown.tolist() == sorted(judged.doubt.tolist(), reverse=True)[: gallery.UNCERTAIN]


def test_random_samples_depend_on_the_seed_alone(made_run: FinishedRun) -> None:
    judged = made_run.judged
    drawn = gallery.random_sample(judged, 7).tolist()
    assert drawn == gallery.random_sample(judged, 7).tolist() != gallery.random_sample(judged, 8).tolist()
    assert len(set(drawn)) == gallery.RANDOM and max(drawn) < len(judged.tiles)


def test_a_card_counts_and_compares_labelled_pixels_only(made_run: FinishedRun) -> None:
    judged = made_run.judged
    both = (judged.truth & ~judged.masks).any(axis=(1, 2)) & (judged.masks & ~judged.truth).any(axis=(1, 2))
    place, half = int(np.flatnonzero(both)[0]), judged.truth.shape[1] // 2
    truth = judged.truth.astype(np.int8)
    truth[:, :half] = UNLABELLED
    cards = []
    for elsewhere in (False, True):
        masks = judged.masks.copy()
        masks[:, :half] = elsewhere
        run = copy.copy(made_run)
        run.__dict__["judged"] = dataclasses.replace(judged, truth=truth, masks=masks)
        cards.append(gallery.tile_card(run, place))
    image, label, _, difference = (pixels(picture) for picture in cards[0]["pictures"])
    assert np.array_equal(label[:half], image[:half]) and np.array_equal(difference[: half - 1], image[: half - 1])
    assert cards[0]["pictures"][1] == cards[1]["pictures"][1] and cards[0]["pictures"][3] == cards[1]["pictures"][3]
    known, mask = judged.truth[place, half:], judged.masks[place, half:]
    missed, false = (known & ~mask).mean(), (mask & ~known).mean()
    assert cards[0]["note"] == cards[1]["note"] == f"{missed:.0%} missed, {false:.0%} too much"
    assert "of the labelled part" in cards[0]["pictures"][1].alt


def test_a_card_shows_what_is_missed_and_what_is_too_much(made_run: FinishedRun) -> None:
    judged, prepared = made_run.judged, made_run.prepared
    both = (judged.truth & ~judged.masks).any(axis=(1, 2)) & (judged.masks & ~judged.truth).any(axis=(1, 2))
    place = int(np.flatnonzero(both)[0])
    card = gallery.tile_card(made_run, place)
    truth, mask = judged.truth[place], judged.masks[place]
    image, label, prediction, difference = (pixels(picture).astype(int) for picture in card["pictures"])
    grey = prepared.survey.images[judged.tiles[place]]
    assert np.array_equal(image, np.repeat(grey[..., None], 3, axis=2))
    assert (label[truth][:, 1] > label[truth][:, 0]).all()  # green
    assert (prediction[mask][:, 0] > prediction[mask][:, 1]).all()  # red
    assert np.array_equal(prediction[~mask], image[~mask])
    missed, false = truth & ~mask, mask & ~truth
    assert (difference[missed][:, :2].min(axis=1) > difference[missed][:, 2]).all()  # yellow
    assert (difference[false][:, [0, 2]].min(axis=1) > difference[false][:, 1]).all()  # violet
    assert f"{missed.mean():.0%} missed, {false.mean():.0%} too much" in card["note"]
    assert card["score"] == judged.scores[place] and card["tile"] in card["pictures"][0].alt


def test_changed_mosaics_come_first_then_large_ones(made_run: FinishedRun) -> None:
    table, survey_ids = made_run.mosaics, made_run.prepared.survey.ids
    shown = gallery.changed_mosaics(made_run)
    corrected = survey_ids[made_run.corrections.tiles]
    changes = [int(np.isin(table.ids[table.mosaics == n], corrected).sum()) for n in range(table.count)]
    assert [changes[n] for n in shown] == sorted(changes, reverse=True)[: len(shown)]
    assert len(shown) == min(gallery.MOSAICS, table.count)


def test_a_mosaic_of_which_rules_see_nothing_is_not_shown(made_run: FinishedRun) -> None:
    """All labelled tiles are labelled in part, and the first mosaic has no others."""
    prepared, survey = made_run.prepared, made_run.prepared.survey
    masks = survey.masks.astype(np.int8)
    masks[:, 0] = UNLABELLED
    partial = dataclasses.replace(prepared, survey=dataclasses.replace(survey, masks=masks))
    labelled, others = survey.ids[:8], survey.ids[survey.labelled :][:16]
    place = np.arange(24)
    mosaics = MosaicTable(np.concatenate([labelled, others]), place // 8, place % 8 // 4, place % 4, np.ones(24))
    run = dataclasses.replace(made_run, prepared=partial, mosaics=mosaics)
    assert sorted(gallery.changed_mosaics(run)) == [1, 2]
    assert 0 in gallery.changed_mosaics(dataclasses.replace(made_run, mosaics=mosaics))
    assert "8 tiles, 0 of them labelled" in gallery.mosaic_card(run, 1)["note"]


@pytest.mark.parametrize("longest", [40, 10_000])
def test_a_mosaic_is_shown_before_and_after_within_bounds(
    made_run: FinishedRun, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "MOSAIC_PX", longest)
    card = gallery.mosaic_card(made_run, gallery.changed_mosaics(made_run)[0])
    before, after = map(pixels, card["pictures"])
    edge = made_run.prepared.survey.tile_px
    assert before.shape == after.shape and max(before.shape) == min(longest, 4 * edge)  # two rows of four tiles
    assert not np.array_equal(before, after)
    assert "8 tiles" in card["note"] and "px added" in card["pictures"][1].alt
