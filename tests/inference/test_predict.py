"""Predictions of a checkpoint: the tile's own pixels, flip averaging, independence of the batch size."""

from pathlib import Path

import numpy as np
import pytest
import torch

from salt_ray.config import Experiment
from salt_ray.experiment_file import override
from salt_ray.inference.predict import Model
from salt_ray.model.network import build_network
from salt_ray.survey.padding import centre, centre_crop
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.training.checkpoint import CheckpointError, CheckpointFolder

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def checkpoint(tiny: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(5)
    network = build_network(tiny.network)
    folder = CheckpointFolder(tmp_path_factory.mktemp("model"))
    folder.save(1, {"network": network.state_dict()}, best=True)
    return folder.best_path


def test_without_flip_it_is_the_sigmoid_of_the_networks_logits(
    tiny: Experiment, tiny_tiles: TrainingTiles, checkpoint: Path
) -> None:
    experiment = override(tiny, ["prediction.flip=false"])
    found = Model(experiment, checkpoint, tiny_tiles.frame, CPU).predict(tiny_tiles.images[:3])
    torch.manual_seed(5)
    network = build_network(tiny.network).eval()
    crops = centre_crop(tiny_tiles.images[:3], tiny_tiles.frame)
    with torch.inference_mode():
        logits = network(torch.from_numpy(crops / np.float32(255))[:, None])
    wanted = centre(logits.mask_logits, tiny_tiles.frame).sigmoid().numpy()
    assert found.masks.shape == (3, 33, 33)
    assert found.masks.dtype == np.float16
    np.testing.assert_allclose(found.masks, wanted, atol=1e-3)
    np.testing.assert_allclose(found.salt, logits.salt_logit.sigmoid().numpy(), rtol=1e-5)


def test_flip_averaging_predicts_mirror_images_as_mirror_images(
    tiny: Experiment, tiny_tiles: TrainingTiles, checkpoint: Path
) -> None:
    model = Model(tiny, checkpoint, tiny_tiles.frame, CPU)
    found, mirrored = model.predict(tiny_tiles.images[:4]), model.predict(tiny_tiles.images[:4, :, ::-1])
    # An odd tile lies a pixel left of the even crop's middle: the mirrored crop shows it a pixel further right.
    assert tiny_tiles.frame.tile_in_crop * 2 + tiny_tiles.frame.tile_px == tiny_tiles.frame.crop_px - 1
    np.testing.assert_allclose(found.masks[:, :, ::-1][:, :, 1:], mirrored.masks[:, :, :-1], atol=2e-3)
    np.testing.assert_allclose(found.salt, mirrored.salt, rtol=1e-4)


def test_the_batch_size_does_not_matter(tiny: Experiment, tiny_tiles: TrainingTiles, checkpoint: Path) -> None:
    one, many = (
        Model(override(tiny, [f"prediction.batch_size={size}"]), checkpoint, tiny_tiles.frame, CPU).predict(
            tiny_tiles.images[:7]
        )
        for size in (3, 64)
    )
    np.testing.assert_allclose(one.masks, many.masks, atol=1e-3)


def test_no_checkpoint_is_an_error(tiny: Experiment, tiny_tiles: TrainingTiles, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="train this fold first"):
        Model(tiny, tmp_path / "best.pt", tiny_tiles.frame, CPU)
