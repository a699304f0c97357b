"""Training samples from padded tiles: scaling and rotation, crop, flip, brightness and contrast (method section 2).

Letters: B tiles a batch, P padded edge, C crop edge, in px.
"""

from __future__ import annotations

import os

import numpy as np

from salt_ray.config import Augmentation

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import would ask the internet for newer versions
import albumentations
import cv2


class Augmenter:
    """Draws augmented crops; the same seed gives the same crops, in the same order of calls."""

    def __init__(self, config: Augmentation, crop_px: int) -> None:
        self.crop_px = crop_px
        transforms = [
            albumentations.RandomCrop(crop_px, crop_px),
            albumentations.HorizontalFlip(p=config.flip_probability),
            albumentations.RandomBrightnessContrast(
                brightness_limit=config.brightness_limit,
                contrast_limit=config.contrast_limit,
                p=config.brightness_contrast_probability,
            ),
        ]
        if config.scales_or_rotates:
            affine = albumentations.Affine(
                scale=(1 - config.scale_limit, 1 + config.scale_limit),
                rotate=(-config.rotate_limit, config.rotate_limit),
                border_mode=cv2.BORDER_REFLECT_101,
                p=config.affine_probability,
            )
            transforms = [affine, *transforms]
        self._transform = albumentations.Compose(transforms)

    def seed(self, seed: int) -> None:
        """Restart the random numbers.

        Compose would give the same seed to every transform, and their first draws would go together.
        """
        self._transform.set_random_seed(seed)
        children = np.random.SeedSequence(seed).generate_state(len(self._transform.transforms))
        for transform, child in zip(self._transform.transforms, children, strict=True):
            transform.set_random_seed(int(child))

    def batch(self, images: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Crop and change a batch.

        Args:
            images: (B, P, P) uint8.
            masks: (B, P, P) bool or int8.

        Returns:
            (B, C, C) uint8, and masks (B, C, C) of the type that they had.
        """
        shape = (len(images), self.crop_px, self.crop_px)
        crops, cropped_masks = np.empty(shape, np.uint8), np.empty(shape, masks.dtype)
        for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
            sample = self._transform(image=image[..., None], mask=mask.view(np.uint8))
            crops[i], cropped_masks[i] = sample["image"][..., 0], sample["mask"].view(masks.dtype)
        return crops, cropped_masks
