"""Predictions of a checkpoint: the tile's own pixels, flip averaging, independence of the batch size."""

from pathlib import Path

import numpy as np
import pytest
import torch

from salt_ray.config import Experiment
from salt_ray.errors import RunError
from salt_ray.experiment_file import override
from salt_ray.inference.predict import Model, Models
from salt_ray.inference.probabilities import Probabilities
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
    found = Model(experiment, [checkpoint], tiny_tiles.frame, CPU).predict(tiny_tiles.images[:3])
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
    model = Model(tiny, [checkpoint], tiny_tiles.frame, CPU)
    found, mirrored = model.predict(tiny_tiles.images[:4]), model.predict(tiny_tiles.images[:4, :, ::-1])
    # An odd tile lies a pixel left of the even crop's middle: the mirrored crop shows it a pixel further right.
    assert tiny_tiles.frame.tile_in_crop * 2 + tiny_tiles.frame.tile_px == tiny_tiles.frame.crop_px - 1
    np.testing.assert_allclose(found.masks[:, :, ::-1][:, :, 1:], mirrored.masks[:, :, :-1], atol=2e-3)
    np.testing.assert_allclose(found.salt, mirrored.salt, rtol=1e-4)


def test_the_batch_size_does_not_matter(tiny: Experiment, tiny_tiles: TrainingTiles, checkpoint: Path) -> None:
    one, many = (
        Model(override(tiny, [f"prediction.batch_size={size}"]), [checkpoint], tiny_tiles.frame, CPU).predict(
            tiny_tiles.images[:7]
        )
        for size in (3, 64)
    )
    np.testing.assert_allclose(one.masks, many.masks, atol=1e-3)


def test_several_networks_predict_their_mean(
    tiny: Experiment, tiny_tiles: TrainingTiles, checkpoint: Path, tmp_path: Path
) -> None:
    torch.manual_seed(6)
    folder = CheckpointFolder(tmp_path)
    folder.save(3, {"network": build_network(tiny.network).state_dict()}, best=False, snapshot=True)
    paths = [checkpoint, folder.snapshot_path(3), checkpoint]
    images = tiny_tiles.images[:5]
    together = Model(tiny, paths, tiny_tiles.frame, CPU).predict(images)
    each = [Model(tiny, [path], tiny_tiles.frame, CPU).predict(images) for path in paths]
    for found, parts in ((together.masks, [one.masks for one in each]), (together.salt, [one.salt for one in each])):
        assert abs(parts[0].astype(float) - parts[1]).max() > 0.01
        np.testing.assert_allclose(found, np.mean(parts, axis=0, dtype=np.float64), atol=1e-3)


def test_no_checkpoint_is_an_error(tiny: Experiment, tiny_tiles: TrainingTiles, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="train this fold first"):
        Model(tiny, [tmp_path / "best.pt"], tiny_tiles.frame, CPU)


@pytest.mark.parametrize("part", ["masks", "salt"])
@pytest.mark.parametrize(
    ("value", "fault"),
    [(np.nan, "NaN or infinity"), (-np.inf, "NaN or infinity"), (1.01, "values outside"), (-0.01, "values outside")],
)
def test_a_model_that_answers_no_probabilities_is_named_and_nothing_is_written(
    part: str,
    value: float,
    fault: str,
    tiny: Experiment,
    tiny_tiles: TrainingTiles,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = Probabilities(np.zeros((3, 5, 5), np.float16), np.ones(3, np.float32))
    getattr(answer, part).flat[-1] = value
    monkeypatch.setattr(Model, "predict", lambda self, padded: answer)
    words = rf"best\.pt predicts {fault}.*: delete {checkpoint.parent} and train this fold again"
    with pytest.raises(RunError, match=words):
        Models(tiny, tiny_tiles.frame, CPU).write_chunk((checkpoint,), tiny_tiles.images[:3], tmp_path / "00000.npy")
    assert not list(tmp_path.iterdir())


def test_no_more_models_stay_than_are_wanted(
    tiny: Experiment, tiny_tiles: TrainingTiles, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[tuple[Path, ...]] = []
    build = Model.__init__

    def counted(self: Model, experiment: Experiment, paths: tuple[Path, ...], *others: object) -> None:
        loaded.append(paths)
        build(self, experiment, paths, *others)

    monkeypatch.setattr(Model, "__init__", counted)
    other = tmp_path / "best.pt"
    other.write_bytes(checkpoint.read_bytes())
    for most, count in ((None, 2), (1, 3)):
        models = Models(tiny, tiny_tiles.frame, CPU, most=most)
        for path in (checkpoint, checkpoint, other, checkpoint):
            models.predict((path,), tiny_tiles.images[:1])
        assert len(loaded) == count
        loaded.clear()
