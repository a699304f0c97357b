"""What a rule may see: labels where they are known, elsewhere the mean of models that never saw the tile."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest

from salt_ray.config import Prediction
from salt_ray.decision import Decision
from salt_ray.inference.ensemble import ModelPrediction, decided_masks
from salt_ray.inference.probabilities import Probabilities
from salt_ray.inference.stored import as_records
from salt_ray.metric import UNLABELLED
from salt_ray.mosaic.table import MosaicTable
from salt_ray.postprocessing.predicted import MosaicTiles, PredictedMosaic, final_view, positions, view
from salt_ray.survey.padding import Frame
from salt_ray.survey.prepared import PreparedSurvey
from salt_ray.survey.tiles import Survey

SIDE, LABELLED, TOTAL = 7, 6, 10
HELD_OUT = 5
SETTINGS = Decision.of(Prediction(), "empty")


@pytest.fixture
def prepared() -> PreparedSurvey:
    random = np.random.default_rng(0)
    ids = np.array([f"{i}" for i in random.permutation(TOTAL)])  # positions do not follow ids
    images = random.integers(0, 255, (TOTAL, SIDE, SIDE), dtype=np.uint8)
    masks = random.random((LABELLED, SIDE, SIDE)) > 0.5
    survey = Survey(ids, images, masks, np.zeros(TOTAL, np.float32), np.zeros(TOTAL, bool), ids[LABELLED:], "key")
    return PreparedSurvey(survey, Frame(SIDE, SIDE, SIDE), images, masks, np.arange(LABELLED) == HELD_OUT)


@pytest.fixture
def models() -> list[ModelPrediction]:
    """Two folds: even positions validate the first model, odd ones the second; both predict the rest."""
    random, found = np.random.default_rng(1), []
    for fold in (0, 1):
        tiles = np.array([t for t in range(TOTAL) if t >= HELD_OUT or t % 2 == fold])
        masks = random.random((len(tiles), SIDE, SIDE)).astype(np.float16)
        salt = random.random(len(tiles)).astype(np.float32)
        found.append(ModelPrediction.of(tiles, as_records(Probabilities(masks, salt))))
    return found


@pytest.fixture
def table(prepared: PreparedSurvey) -> MosaicTable:
    """A row of positions 0, 7, 1, 5 and one of 8, 9."""
    order = [0, 7, 1, 5, 8, 9]
    ids = prepared.survey.ids[order]
    places = np.array([0, 1, 2, 3, 0, 1])
    return MosaicTable(ids, np.array([0, 0, 0, 0, 1, 1]), np.zeros(6, int), places, np.ones(6))


@pytest.fixture
def mosaic(table: MosaicTable, prepared: PreparedSurvey, models: list[ModelPrediction]) -> PredictedMosaic:
    return PredictedMosaic.gather(MosaicTiles.gather(0, table, prepared), models)


def test_every_tile_brings_what_is_known_of_it(
    mosaic: PredictedMosaic, prepared: PreparedSurvey, models: list[ModelPrediction]
) -> None:
    assert mosaic.tiles.tiles.tolist() == [0, 7, 1, 5]
    assert mosaic.tiles.labelled.tolist() == [True, False, True, False]  # a held-out tile has no label here
    assert (mosaic.tiles.labels[[0, 2]] == prepared.survey.masks[[0, 1]]).all()
    assert not mosaic.tiles.labels[[1, 3]].any()
    assert mosaic.blind.tolist() == [[True, False], [True, True], [False, True], [True, True]]
    for k, model in enumerate(models):
        for tile in np.flatnonzero(mosaic.blind[:, k]):
            row = np.flatnonzero(model.tiles == mosaic.tiles.tiles[tile])[0]
            assert (mosaic.masks[k, tile] == model.records["mask"][row]).all()
            assert mosaic.salt[k, tile] == model.records["salt"][row]


def test_rules_see_no_tile_that_is_labelled_in_part_and_trained_on(
    table: MosaicTable, prepared: PreparedSurvey, models: list[ModelPrediction]
) -> None:
    """Whatever its label says or a model predicts of it, its place is missing; a held-out one is as without label."""
    masks = prepared.survey.masks.astype(np.int8)
    masks[[1, HELD_OUT], 2] = UNLABELLED
    partial = dataclasses.replace(prepared, survey=dataclasses.replace(prepared.survey, masks=masks))
    assert np.flatnonzero(~partial.seen_by_rules).tolist() == [1]
    mosaic = PredictedMosaic.gather(MosaicTiles.gather(0, table, partial), models)
    assert mosaic.tiles.tiles.tolist() == [0, 7, 5] and mosaic.tiles.cols.tolist() == [0, 1, 3]
    assert mosaic.tiles.labelled.tolist() == [True, False, False]
    assert mosaic.tiles.labels.dtype == bool and (mosaic.tiles.labels[0] == prepared.survey.masks[0]).all()
    seen = final_view(mosaic, SETTINGS)
    assert (seen.masks[1:] == decided_masks(models, np.array([7, 5]), SETTINGS)).all()


def test_the_final_view_decides_as_the_ensemble_does(mosaic: PredictedMosaic, models: list[ModelPrediction]) -> None:
    seen = final_view(mosaic, SETTINGS)
    assert (seen.masks[[0, 2]] == mosaic.tiles.labels[[0, 2]]).all()
    assert (seen.masks[[3, 1]] == decided_masks(models, np.array([5, 7]), SETTINGS)).all()
    assert (seen.labelled == mosaic.tiles.labelled).all()


def test_a_hidden_tile_is_seen_as_predicted_by_its_own_model(
    mosaic: PredictedMosaic, models: list[ModelPrediction]
) -> None:
    hidden = np.array([True, False, False, False])
    seen = view(mosaic, hidden, mosaic.blind[0], SETTINGS)
    assert not seen.labelled[0]
    expected = decided_masks(models[:1], np.array([0, 5, 7]), SETTINGS)
    assert (seen.masks[[0, 3, 1]] == expected).all()  # its neighbours too: the other model knows the hidden label
    assert (seen.masks[2] == mosaic.tiles.labels[2]).all()


def test_a_model_that_was_trained_on_the_tile_is_refused(mosaic: PredictedMosaic) -> None:
    with pytest.raises(ValueError, match="trained on"):
        view(mosaic, np.array([True, False, False, False]), np.array([True, True]), SETTINGS)


def test_the_mosaic_itself_stays_as_it_is(mosaic: PredictedMosaic) -> None:
    before = copy.deepcopy(mosaic)
    seen = view(mosaic, np.array([False, False, True, False]), mosaic.blind[2], SETTINGS)
    seen.masks[:] = True
    for was, now in ((before, mosaic), (before.tiles, mosaic.tiles)):
        for field in dataclasses.fields(now):
            if isinstance(getattr(now, field.name), np.ndarray):
                np.testing.assert_array_equal(getattr(now, field.name), getattr(was, field.name))


def test_positions_find_every_id_or_say_which_is_missing(prepared: PreparedSurvey) -> None:
    wanted = np.array([3, 9, 0])
    assert positions(prepared.survey.ids[wanted], prepared.survey.ids).tolist() == wanted.tolist()
    with pytest.raises(KeyError, match="zz"):
        positions(np.array(["zz"]), prepared.survey.ids)
