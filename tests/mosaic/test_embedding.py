"""Embeddings: what the encoder's deepest map holds, and what a tile looks like without one."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from salt_ray.config import Experiment
from salt_ray.experiment_file import override
from salt_ray.model.network import SaltNet, build_network
from salt_ray.mosaic.embedding import encoder_embeddings, image_embeddings
from salt_ray.object_store import ObjectPath
from salt_ray.survey.padding import centre_crop
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.survey.tiles import load_survey
from salt_ray.training.checkpoint import CheckpointError, CheckpointFolder

CPU = torch.device("cpu")
KINDS = ((0.5, 4.0), (4.0, 0.5), (1.0, 1.0), (3.0, 3.0))  # smoothing down and across, px


def saved(network: SaltNet, directory: Path) -> Path:
    folder = CheckpointFolder(directory)
    folder.save(1, {"network": network.state_dict()}, best=True)
    return folder.best_path


@pytest.fixture(scope="module")
def network(tiny: Experiment) -> SaltNet:
    torch.manual_seed(5)
    return build_network(tiny.network).eval()


@pytest.fixture(scope="module")
def checkpoint(network: SaltNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(network, tmp_path_factory.mktemp("model"))


def textures(side: int, each: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """(n, side, side) float32 tiles of noise that is smoothed in four ways, all of one deviation, and their kinds."""
    random = np.random.default_rng(0)
    kinds = np.repeat(np.arange(len(KINDS)), each)
    tiles = np.stack([ndimage.gaussian_filter(random.normal(size=(side, side)), KINDS[kind]) for kind in kinds])
    return (128 + 40 * tiles / tiles.std(axis=(1, 2), keepdims=True)).astype(np.float32), kinds


def nearest(embeddings: np.ndarray) -> np.ndarray:
    """(n,) int: the other tile with the most similar direction."""
    directions = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    similarity = directions @ directions.T
    np.fill_diagonal(similarity, -np.inf)
    return similarity.argmax(axis=1)


def test_an_encoders_embedding_is_the_log_of_its_mean_positive_activation(
    tiny: Experiment, tiny_tiles: TrainingTiles, network: SaltNet, checkpoint: Path
) -> None:
    found = encoder_embeddings(tiny, checkpoint, tiny_tiles.images[:5], tiny_tiles.frame, CPU)
    crops = centre_crop(tiny_tiles.images[:5], tiny_tiles.frame) / np.float32(255)
    with torch.inference_mode():
        deepest = network.encoder(torch.from_numpy(np.repeat(crops[:, None], 3, axis=1)))[-1].numpy()
    assert (deepest < 0).any()  # this encoder ends in a linear layer
    expected = np.log1p(np.where(deepest > 0, deepest, 0).mean(axis=(2, 3)))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_the_batch_size_does_not_matter(tiny: Experiment, tiny_tiles: TrainingTiles, checkpoint: Path) -> None:
    one, many = (
        encoder_embeddings(tiny, checkpoint, tiny_tiles.images[:7], tiny_tiles.frame, CPU, batch) for batch in (3, 64)
    )
    np.testing.assert_allclose(one, many, rtol=1e-4, atol=1e-6)


def test_without_the_networks_weights_there_is_no_embedding(
    tiny: Experiment, tiny_tiles: TrainingTiles, checkpoint: Path, tmp_path: Path
) -> None:
    other = override(tiny, ["network.encoder=test_resnet", "network.decoder.widths=null"])
    with pytest.raises(CheckpointError, match=r"'test_resnet'.*folds\.checkpoint"):
        encoder_embeddings(other, checkpoint, tiny_tiles.images[:2], tiny_tiles.frame, CPU)
    with pytest.raises(CheckpointError, match="missing"):
        encoder_embeddings(tiny, tmp_path / "best.pt", tiny_tiles.images[:2], tiny_tiles.frame, CPU)


def test_the_checkpoint_may_lie_in_an_object_store(
    tiny: Experiment, tiny_tiles: TrainingTiles, checkpoint: Path, bucket: str, tmp_path: Path
) -> None:
    there = ObjectPath(f"{bucket}/{tmp_path.name}/best.pt")
    there.write_bytes(checkpoint.read_bytes())
    one, other = (
        encoder_embeddings(tiny, path, tiny_tiles.images[:3], tiny_tiles.frame, CPU) for path in (checkpoint, there)
    )
    assert (one == other).all()


@pytest.mark.parametrize("side", [33, 48, 101])
def test_the_nearest_image_has_the_same_texture(side: int) -> None:
    tiles, kinds = textures(side)
    embeddings = image_embeddings(tiles)
    assert embeddings.shape == (len(tiles), 160)
    assert embeddings.dtype == np.float32
    assert (kinds[nearest(embeddings)] == kinds).mean() > 0.95


def test_where_the_contrast_lies_tells_tiles_of_one_texture_apart() -> None:
    tiles, _ = textures(64)
    half = np.arange(len(tiles)) % 2
    tiles[half == 0, :, :32] = 128
    tiles[half == 1, :, 32:] = 128
    assert (half[nearest(image_embeddings(tiles))] == half).mean() > 0.95


def test_every_value_is_standardised_and_both_parts_weigh_the_same() -> None:
    embeddings = image_embeddings(textures(48)[0])
    np.testing.assert_allclose(embeddings.mean(axis=0), 0, atol=1e-6)
    squares = (embeddings**2).mean(axis=0)
    np.testing.assert_allclose([squares[:32].sum(), squares[32:].sum()], 1, rtol=1e-5)


def test_order_and_brightness_do_not_matter_and_one_colour_does_no_harm() -> None:
    tiles, _ = textures(40)
    tiles[3] = 7
    before = tiles.copy()
    embeddings = image_embeddings(tiles)
    np.testing.assert_array_equal(tiles, before)
    assert np.isfinite(embeddings).all()
    order = np.random.default_rng(1).permutation(len(tiles))
    np.testing.assert_allclose(image_embeddings(tiles[order]), embeddings[order], atol=1e-6)
    shifts = np.random.default_rng(2).integers(-20, 20, len(tiles)).astype(np.float32)
    np.testing.assert_allclose(image_embeddings(tiles + shifts[:, None, None]), embeddings, atol=2e-3)


@pytest.mark.tgs
@pytest.mark.skipif("SALT_TGS_DATA" not in os.environ, reason="the real tiles are not here")
def test_real_tiles_have_the_salt_of_their_nearest_tile_rather_than_of_a_random_one() -> None:
    survey = load_survey(Path(os.environ["SALT_TGS_DATA"]))
    use = np.flatnonzero(~survey.constant[: survey.labelled])
    coverage = survey.masks[use].mean(axis=(1, 2))
    near = np.abs(coverage - coverage[nearest(image_embeddings(survey.images[use]))]).mean()
    assert near < np.abs(coverage[:, None] - coverage).mean() / 2  # measured: 0.100 against 0.338
