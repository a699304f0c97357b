"""Where the training loop's batches come from: tiles on the host, or all of them on the device.

Albumentations defines a random sample (``survey.augment``). It takes a core 0.13 ms a tile, a quarter of the time that
a GPU which trains 2,000 tiles/s has for all of its work. So there the same is done to whole batches on the device:
affine maps, crops, flips and grey values from the same distribution, other draws.

Letters: L labelled tiles, B a batch, P padded, C crop and S tile edge in px.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad

from salt_ray.config import Augmentation
from salt_ray.survey.augment import Augmenter
from salt_ray.survey.padding import centre, centre_crop
from salt_ray.survey.prepared import TrainingTiles

#: Of a GPU's whole memory, which other folds may share: what is free changes, and a fold must continue as it began.
DEVICE_SHARE = 0.25


class Batch(NamedTuple):
    """What the network reads and what it should say, on the device."""

    #: (B, 1, C, C) float32 in 0 … 1.
    images: Tensor
    #: (B, C, C) bool; int8 where not all pixels of the survey's tiles are labelled (``survey.Survey``).
    masks: Tensor

    def split(self, parts: int) -> list[Batch]:
        """The batch in so many parts of about the same size."""
        return [Batch(*part) for part in zip(*(side.tensor_split(parts) for side in self), strict=True)]


class Samples(ABC):
    """Batches of labelled tiles, named by their positions (B,) int64 in the survey."""

    def __init__(self, tiles: TrainingTiles, augmentation: Augmentation, device: torch.device) -> None:
        self.frame, self._tiles, self._augmentation, self._device = tiles.frame, tiles, augmentation, device

    @abstractmethod
    def seed(self, seed: int) -> None:
        """Restart the random numbers; the same seed gives the same batches, in the same order of calls."""

    @abstractmethod
    def random(self, positions: np.ndarray) -> Batch:
        """Samples to train on, changed at random (``config.Augmentation``)."""

    @abstractmethod
    def centred(self, positions: np.ndarray) -> Batch:
        """Centre crops, to validate on."""

    def truth(self, positions: np.ndarray) -> np.ndarray:
        """The tiles' own masks, without what was padded, on the host: (B, S, S) bool or int8."""
        return centre(self._tiles.masks[positions], self.frame)


def samples_for(
    tiles: TrainingTiles, augmentation: Augmentation, device: torch.device, say: Callable[[str], None]
) -> Samples:
    """On a GPU all tiles are kept there (86 MB of images and as much of masks for TGS), or a line says why not."""
    if device.type != "cuda":
        return HostSamples(tiles, augmentation, device)
    needed, there = tiles.images.nbytes + tiles.masks.nbytes, torch.cuda.get_device_properties(device).total_memory
    if needed > DEVICE_SHARE * there:
        say(
            f"samples are made on the host: {len(tiles.ids)} tiles take {needed / 1e9:.1f} GB, the GPU has "
            f"{there / 1e9:.1f}, of which {DEVICE_SHARE:.0%} are for tiles"
        )
        return HostSamples(tiles, augmentation, device)
    return DeviceSamples(tiles, augmentation, device)


class HostSamples(Samples):
    """Tiles on the host, changed one by one by albumentations."""

    def __init__(self, tiles: TrainingTiles, augmentation: Augmentation, device: torch.device) -> None:
        super().__init__(tiles, augmentation, device)
        self._augmenter = Augmenter(augmentation, tiles.frame.crop_px)

    def seed(self, seed: int) -> None:
        self._augmenter.seed(seed)

    def random(self, positions: np.ndarray) -> Batch:
        return self._batch(*self._augmenter.batch(self._tiles.images[positions], self._tiles.masks[positions]))

    def centred(self, positions: np.ndarray) -> Batch:
        tiles = self._tiles
        return self._batch(*(centre_crop(part[positions], self.frame) for part in (tiles.images, tiles.masks)))

    def _batch(self, crops: np.ndarray, masks: np.ndarray) -> Batch:
        return Batch(network_input(crops, self._device), on_device(masks, self._device))


class DeviceSamples(Samples):
    """All tiles on the device, samples made there a batch at a time; no step waits for the host."""

    def __init__(self, tiles: TrainingTiles, augmentation: Augmentation, device: torch.device) -> None:
        self._images, self._masks = (torch.tensor(part, device=device) for part in (tiles.images, tiles.masks))
        super().__init__(tiles, augmentation, device)
        self._random = torch.Generator(device)

    def seed(self, seed: int) -> None:
        self._random.manual_seed(seed)

    def random(self, positions: np.ndarray) -> Batch:
        config, padded, crop = self._augmentation, self.frame.padded_px, self.frame.crop_px
        down, right, flip, change, contrast, brightness = torch.rand(
            6, len(positions), 1, device=self._device, generator=self._random
        )
        edge = torch.arange(crop, device=self._device)
        rows = (down * (padded - crop + 1)).long() + edge  # (B, C), as the columns
        columns = (right * (padded - crop + 1)).long() + torch.where(flip < config.flip_probability, edge.flip(0), edge)
        images, masks = self._tiles_at(positions)
        tile = torch.arange(len(positions), device=self._device)
        place = tile[:, None, None], rows[:, :, None], columns[:, None, :]
        changed = change < config.brightness_contrast_probability
        factor = torch.where(changed, 1 + config.contrast_limit * (2 * contrast - 1), 1.0)
        shift = torch.where(changed, 255 * config.brightness_limit * (2 * brightness - 1), 0.0)
        grey = (images[place].float() * factor[..., None] + shift[..., None]).clamp(0, 255).floor()
        return Batch(grey.unsqueeze(1) / 255, masks[place])

    def _tiles_at(self, positions: np.ndarray) -> tuple[Tensor, Tensor]:
        """Padded tiles and their masks (B, P, P), scaled and rotated where that is asked for."""
        config, place = self._augmentation, on_device(positions, self._device)
        images, masks = self._images[place], self._masks[place]
        if not config.scales_or_rotates:
            return images, masks
        change, angle, *scales = torch.rand(4, len(positions), device=self._device, generator=self._random)
        angle = math.radians(config.rotate_limit) * (2 * angle - 1)
        across, down = (1 + config.scale_limit * (2 * scale - 1) for scale in scales)
        # What is asked for is where each pixel comes from: the inverse of scaling, then rotating.
        rows = angle.cos() / across, -angle.sin() / across, angle.sin() / down, angle.cos() / down
        inverse = torch.stack([*rows], dim=-1).unflatten(-1, (2, 2))
        changed = (change < config.affine_probability)[:, None, None]
        inverse = torch.where(changed, inverse, torch.eye(2, device=self._device))
        grid = affine_grid(pad(inverse, (0, 1)), [len(positions), 1, *images.shape[1:]], align_corners=True)
        images, masks = (
            grid_sample(part.unsqueeze(1).float(), grid, mode, "reflection", align_corners=True).squeeze(1).round()
            for part, mode in ((images, "bilinear"), (masks, "nearest"))
        )
        return images, masks.to(self._masks.dtype)

    def centred(self, positions: np.ndarray) -> Batch:
        place = on_device(positions, self._device)
        images, masks = (centre_crop(part, self.frame)[place] for part in (self._images, self._masks))
        return Batch(images.unsqueeze(1).float() / 255, masks)


def network_input(crops: np.ndarray, device: torch.device) -> Tensor:
    """(B, C, C) uint8 crops as (B, 1, C, C) float32 in 0 … 1 on the device."""
    return on_device(crops, device).unsqueeze(1).float() / 255


def on_device(array: np.ndarray, device: torch.device) -> Tensor:
    """A copy on the device. A GPU is not waited for: after a plain copy it would stand idle in every step until the
    host had launched the rest.
    """
    host = torch.from_numpy(np.ascontiguousarray(array))
    return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host.to(device)
