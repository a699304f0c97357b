"""Samples made on the device are those that albumentations makes: the same distribution, and the same arithmetic."""

import types

import albucore
import numpy as np
import pytest
import torch
from scipy import stats

from salt_ray.config import Augmentation, Geometry, Plateau, Stage
from salt_ray.model.network import Logits
from salt_ray.survey.padding import frame_for
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.training import samples as training_samples
from salt_ray.training.losses import combined_loss
from salt_ray.training.samples import Batch, DeviceSamples, HostSamples, Samples, samples_for

CPU = torch.device("cpu")
FRAME = frame_for(101, Geometry())
RANDOM = np.random.default_rng(0)
NOISE = RANDOM.integers(0, 256, (6, 148, 148), dtype=np.uint8)
DRAWS = 2000

both = pytest.mark.parametrize("kind", [HostSamples, DeviceSamples])


def samples(kind: type, images: np.ndarray, augmentation: Augmentation | None = None) -> Samples:
    ids = np.array([f"tile{i}" for i in range(len(images))])
    tiles = TrainingTiles("key", ids, images, images > 127, FRAME)
    return kind(tiles, augmentation or Augmentation(), CPU)


def bytes_of(batch: Batch) -> np.ndarray:
    """(B, C, C) uint8: the grey values that the images were made from."""
    grey = batch.images[:, 0] * 255
    assert torch.allclose(grey, grey.round(), atol=1e-4)
    return grey.round().numpy().astype(np.uint8)


@both
def test_a_batch_has_the_shapes_and_types_that_the_network_reads(kind: type) -> None:
    ours = samples(kind, NOISE)
    ours.seed(0)
    for batch in (ours.random(np.array([2, 0])), ours.centred(np.array([2, 0]))):
        assert batch.images.shape == (2, 1, 128, 128) and batch.images.dtype == torch.float32
        assert batch.masks.shape == (2, 128, 128) and batch.masks.dtype == torch.bool
        assert batch.masks.is_contiguous()
        assert batch.images.min() >= 0 and batch.images.max() <= 1


@both
def test_the_same_seed_gives_the_same_batches_in_the_same_order(kind: type) -> None:
    one, other = samples(kind, NOISE), samples(kind, NOISE)
    one.seed(5)
    other.seed(5)
    for _ in range(2):
        assert all(torch.equal(a, b) for a, b in zip(one.random(np.arange(6)), other.random(np.arange(6)), strict=True))
    other.seed(6)
    assert not torch.equal(one.random(np.arange(6)).images, other.random(np.arange(6)).images)


@both
def test_centred_samples_are_the_middle_of_the_tiles_named(kind: type) -> None:
    batch = samples(kind, NOISE).centred(np.array([4, 1]))
    offset = FRAME.crop_offset
    middle = NOISE[[4, 1], offset : offset + 128, offset : offset + 128]
    assert (bytes_of(batch) == middle).all()
    assert (batch.masks.numpy() == (middle > 127)).all()


@both
def test_every_tile_of_a_batch_is_its_own_and_masks_move_along(kind: type) -> None:
    ours = samples(kind, NOISE, Augmentation(brightness_contrast_probability=0))
    ours.seed(1)
    windows = np.lib.stride_tricks.sliding_window_view(np.concatenate([NOISE, NOISE[..., ::-1]]), (128, 128), (1, 2))
    for _ in range(3):
        batch = ours.random(np.array([3, 0, 5]))
        crops = bytes_of(batch)
        assert (batch.masks.numpy() == (crops > 127)).all()
        for crop, position in zip(crops, (3, 0, 5), strict=True):
            assert any((windows[position + 6 * flipped] == crop).all(axis=(2, 3)).any() for flipped in (0, 1))


@both
def test_pixels_without_a_label_go_along_to_the_losses(kind: type) -> None:
    masks = np.where(NOISE % 3 == 0, -1, NOISE > 127).astype(np.int8)
    tiles = TrainingTiles("key", np.array([f"tile{i}" for i in range(len(NOISE))]), NOISE, masks, FRAME)
    ours = kind(tiles, Augmentation(brightness_contrast_probability=0), CPU)
    ours.seed(1)
    for batch in (ours.random(np.array([3, 0])), ours.centred(np.array([4, 1]))):
        crops = bytes_of(batch)
        assert batch.masks.dtype == torch.int8
        assert (batch.masks.numpy() == np.where(crops % 3 == 0, -1, crops > 127)).all()
    assert (ours.truth(np.array([2])) == masks[[2], 23:124, 23:124]).all()


def drawn(kind: type) -> dict[str, np.ndarray]:
    """What each of ``DRAWS`` samples did to its tile, read off crops of tiles whose grey values tell places apart.

    The tile rises by one grey value a pixel, to the right in one survey and downwards in the other.
    """
    ramp = np.clip(np.arange(148) + 50, 0, 255).astype(np.uint8)
    surveys = {"right": np.tile(ramp, (1, 148, 1)), "down": np.tile(ramp[:, None], (1, 1, 148))}
    found = {}
    plain = Augmentation(brightness_contrast_probability=0)
    for name, tile in surveys.items():
        ours = samples(kind, tile, plain)
        ours.seed(11)
        crops = np.concatenate([bytes_of(ours.random(np.zeros(100, np.int64))) for _ in range(DRAWS // 100)])
        found[name] = crops.min(axis=(1, 2)).astype(int) - 50
        if name == "right":
            found["flipped"] = crops[:, 0, 0] > crops[:, 0, -1]
    # In stripes of two grey values places and flips change nothing.
    ours = samples(kind, np.tile(np.resize(np.array([60, 190], np.uint8), 148)[:, None], (1, 1, 148)))
    ours.seed(12)
    crops = np.concatenate([bytes_of(ours.random(np.zeros(100, np.int64))) for _ in range(DRAWS // 100)]).astype(float)
    low, high = crops.min(axis=(1, 2)), crops.max(axis=(1, 2))
    found["mean"], found["range"] = crops.mean(axis=(1, 2)), high - low
    return found


def test_device_and_albumentations_draw_from_one_distribution() -> None:
    host, device = drawn(HostSamples), drawn(DeviceSamples)
    for name in ("right", "down"):
        assert set(host[name]) == set(device[name]) == set(range(21))  # every place of 148 - 128 + 1
        counts = np.array([np.bincount(found[name], minlength=21) for found in (host, device)])
        assert stats.chi2_contingency(counts).pvalue > 1e-3
        assert stats.chisquare(counts[1]).pvalue > 1e-3
    for found in (host, device):
        assert stats.binomtest(int(found["flipped"].sum()), DRAWS, 0.5).pvalue > 1e-3
        assert abs(np.corrcoef(found["flipped"], found["right"])[0, 1]) < 0.08
    for name in ("mean", "range"):
        assert stats.ks_2samp(host[name], device[name]).pvalue > 1e-3


AFFINE = Augmentation(
    scale_limit=0.2, rotate_limit=15.0, affine_probability=0.7, flip_probability=0, brightness_contrast_probability=0
)


def inertia(kind: type, augmentation: Augmentation) -> np.ndarray:
    """(DRAWS, 3): width, height and tilt of a disc in each sample, from the moments of its mask."""
    rows, columns = np.mgrid[:148, :148] - 74
    disc = np.where((rows / 20) ** 2 + (columns / 30) ** 2 < 1, 200, 20).astype(np.uint8)[None]
    ours, found = samples(kind, disc, augmentation), []
    ours.seed(21)
    for _ in range(DRAWS // 100):
        batch = ours.random(np.zeros(100, np.int64))
        assert ((batch.images[:, 0] > 110 / 255) == batch.masks).float().mean() > 0.998
        for mask in batch.masks.numpy():
            (height, tilt), (_, width) = np.cov(np.argwhere(mask).T)
            found.append((width, height, tilt))
    return np.array(found)


def test_device_and_albumentations_scale_and_rotate_from_one_distribution() -> None:
    host, device = inertia(HostSamples, AFFINE), inertia(DeviceSamples, AFFINE)
    for mine, others in zip(host.T, device.T, strict=True):
        assert stats.ks_2samp(mine.round(6), others.round(6)).pvalue > 1e-3
        assert mine.std() > 1


@pytest.mark.parametrize("changed", [{"scale_limit": 0.15}, {"rotate_limit": 10.0}, {"affine_probability": 0.5}])
def test_the_comparison_would_see_other_scales_and_angles(changed: dict[str, float]) -> None:
    one, other = inertia(DeviceSamples, AFFINE), inertia(DeviceSamples, AFFINE.replace(**changed))
    assert min(stats.ks_2samp(a, b).pvalue for a, b in zip(one.T, other.T, strict=True)) < 1e-3


@pytest.mark.parametrize("changed", [{"flip_probability": 0.1}, {"contrast_limit": 0.1}, {"brightness_limit": 0.1}])
def test_the_comparison_would_see_another_distribution(changed: dict[str, float]) -> None:
    ramp = np.tile(np.clip(np.arange(148) + 50, 0, 255).astype(np.uint8), (1, 148, 1))
    seen = []
    for augmentation in (Augmentation(), Augmentation().replace(**changed)):
        ours = samples(DeviceSamples, ramp, augmentation)
        ours.seed(13)
        crops = np.concatenate([bytes_of(ours.random(np.zeros(100, np.int64))) for _ in range(DRAWS // 100)])
        line = crops[:, 0].astype(float)
        seen.append((line[:, 0] - line[:, -1], line.mean(axis=1)))
    (tilt, mean), (other_tilt, other_mean) = seen
    assert min(stats.ks_2samp(tilt, other_tilt).pvalue, stats.ks_2samp(mean, other_mean).pvalue) < 1e-3


def test_grey_values_are_changed_with_the_same_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    """One factor and shift for both: every one of the 256 grey values comes out alike."""
    factor, shift = 1.137, 255 * -0.0731
    limits = {"brightness_contrast_probability": 1.0, "flip_probability": 0.0, "contrast_limit": 0.2}
    tile = np.resize(np.arange(256, dtype=np.uint8), (1, 148, 148))
    ours = samples(DeviceSamples, tile, Augmentation().replace(**limits))
    contrast, brightness = (0.137 / 0.2 + 1) / 2, (-0.0731 / 0.2 + 1) / 2
    draws = torch.tensor([0.0, 0.0, 0.5, 0.0, contrast, brightness])[:, None, None]
    monkeypatch.setattr(torch, "rand", lambda *shape, **options: draws)
    crop = bytes_of(ours.random(np.array([0])))[0]
    assert (crop == albucore.multiply_add(tile[0, :128, :128, None], factor, shift)[..., 0]).mean() > 0.999


@pytest.mark.parametrize(("memory", "kind"), [(8, DeviceSamples), (4, DeviceSamples), (3.9, HostSamples)])
def test_tiles_that_a_gpu_has_no_room_for_stay_on_the_host(
    memory: float, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarter of its memory is for them; the GPU is pretended."""
    masks, lines, made = NOISE > 127, [], []
    tiles = TrainingTiles("key", np.arange(6).astype(str), NOISE, masks, FRAME)
    total = int(memory * (NOISE.nbytes + masks.nbytes))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: types.SimpleNamespace(total_memory=total))
    for name in (HostSamples, DeviceSamples):
        monkeypatch.setattr(training_samples, name.__name__, lambda *arguments, name=name: made.append(name))
    samples_for(tiles, Augmentation(), torch.device("cuda"), lines.append)
    assert made == [kind] and len(lines) == (kind is HostSamples)
    samples_for(tiles, Augmentation(), CPU, lines.append)
    assert made == [kind, HostSamples]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_step_on_a_gpu_is_not_waited_for() -> None:
    """From the positions of its tiles to the gradient of its loss: the next one can be begun meanwhile."""
    ids = np.array([f"tile{i}" for i in range(len(NOISE))])
    ours = DeviceSamples(TrainingTiles("key", ids, NOISE, NOISE > 127, FRAME), Augmentation(), torch.device("cuda"))
    weights = {"lovasz_weight": 0.75, "bce_weight": 0.25, "auxiliary_weight": 0.5}
    stage = Stage(name="plateau", lr=0.01, batch_size=6, epochs=1, schedule=Plateau(), **weights)
    weight = torch.ones((), device="cuda", requires_grad=True)
    torch.cuda.set_sync_debug_mode("error")
    try:
        batch = ours.random(np.arange(6))
        logits = weight * batch.images[:, 0]
        combined_loss(Logits(logits, logits.amax(dim=(1, 2)), logits[:, None]), batch.masks, stage).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert weight.grad.isfinite()
