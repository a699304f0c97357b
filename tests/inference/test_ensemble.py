"""Means over the models that saw a tile, and decisions on them."""

import numpy as np
import pytest

from salt_ray.decision import Decision
from salt_ray.inference import ensemble
from salt_ray.inference.ensemble import ModelPrediction, decided_masks, mean_blocks
from salt_ray.inference.probabilities import Probabilities
from salt_ray.inference.stored import as_records

RANDOM = np.random.default_rng(0)


def model(tiles: list[int]) -> ModelPrediction:
    masks = RANDOM.random((len(tiles), 5, 5)).astype(np.float16)
    salt = RANDOM.random(len(tiles)).astype(np.float32)
    return ModelPrediction.of(np.array(tiles), as_records(Probabilities(masks, salt)))


@pytest.mark.parametrize("block", [1, 3, 100])
def test_the_mean_is_over_the_models_that_predicted_the_tile(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(ensemble, "BLOCK", block)
    models = [model([3, 0, 7, 2]), model([2, 7, 9]), model([1, 2])]
    wanted = np.array([1, 2, 7, 9])
    seen = []
    for places, probabilities in mean_blocks(models, wanted):
        for tile, mask, salt in zip(wanted[places], *probabilities, strict=True):
            members = [m.records[m.rows[list(m.tiles).index(tile)]] for m in models if tile in m.tiles]
            assert np.allclose(mask, np.mean([record["mask"].astype(float) for record in members], axis=0), atol=1e-6)
            assert salt == pytest.approx(np.mean([record["salt"] for record in members]), rel=1e-6)
            seen.append(tile)
    assert sorted(seen) == wanted.tolist()


def test_a_tile_that_no_model_predicted_is_an_error() -> None:
    with pytest.raises(ValueError, match="1 tiles were predicted by no model"):
        decided_masks([model([0, 1])], np.array([0, 5]), Decision(mask_threshold=0.4, salt_threshold=0.5, flip=True))


@pytest.mark.parametrize(("full_tiles", "full"), [("empty", 0), ("salt", 4)])
def test_thresholds_are_strict_and_full_masks_become_what_is_said(full_tiles: str, full: int) -> None:
    masks = np.full((4, 2, 2), 0.9, np.float32)
    masks[:, 0, 0] = [0.4, 0.41, 0.9, 0.3]
    salt = np.array([0.9, 0.9, 0.9, 0.5], np.float32)
    threshold = np.float32(0.4).item()
    decision = Decision(mask_threshold=threshold, salt_threshold=0.5, flip=True, full_tiles=full_tiles)
    # At the threshold: no salt; full, twice; P(salt) at 0.5: emptied.
    assert decision.masks(masks, salt).sum(axis=(1, 2)).tolist() == [3, full, full, 0]
