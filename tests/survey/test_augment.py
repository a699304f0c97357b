"""Augmentation: reproducible, image and mask moved alike, grey values changed only in the image."""

import numpy as np

from salt_ray.config import Augmentation
from salt_ray.survey.augment import Augmenter

PLAIN = Augmentation(flip_probability=0, brightness_contrast_probability=0)
RANDOM = np.random.default_rng(0)
# Every pixel is different from its neighbours, so a crop's place can be read off.
IMAGES = RANDOM.integers(0, 256, (6, 148, 148), dtype=np.uint8)
MASKS = IMAGES > 127


def test_the_same_seed_gives_the_same_batches_in_the_same_order() -> None:
    one, other = Augmenter(Augmentation(), 128), Augmenter(Augmentation(), 128)
    one.seed(5)
    other.seed(5)
    for _ in range(2):
        (images, masks), (images_too, masks_too) = one.batch(IMAGES, MASKS), other.batch(IMAGES, MASKS)
        assert (images == images_too).all()
        assert (masks == masks_too).all()
    other.seed(6)
    assert (other.batch(IMAGES, MASKS)[0] != images).any()


def test_masks_move_with_their_images() -> None:
    augmenter = Augmenter(Augmentation(brightness_contrast_probability=0), 128)
    augmenter.seed(1)
    for _ in range(3):
        images, masks = augmenter.batch(IMAGES, MASKS)
        assert (masks == (images > 127)).all()


def test_pixels_without_a_label_move_along_and_keep_their_value() -> None:
    whole, partial = Augmenter(Augmentation(), 128), Augmenter(Augmentation(), 128)
    unlabelled = IMAGES % 3 == 0
    whole.seed(4)
    images, masks = whole.batch(IMAGES, MASKS)
    whole.seed(4)
    _, places = whole.batch(IMAGES, unlabelled)
    partial.seed(4)
    crops, found = partial.batch(IMAGES, np.where(unlabelled, -1, MASKS).astype(np.int8))
    assert found.dtype == np.int8
    assert (crops == images).all() and (found == np.where(places, -1, masks)).all()


def test_crops_are_cut_from_everywhere_and_flips_happen_half_the_time() -> None:
    augmenter = Augmenter(Augmentation(brightness_contrast_probability=0), 128)
    augmenter.seed(2)
    windows = np.lib.stride_tricks.sliding_window_view(IMAGES[0], (128, 128))
    mirrored = np.lib.stride_tricks.sliding_window_view(IMAGES[0][:, ::-1], (128, 128))
    places, flips = set(), 0
    for _ in range(60):
        crop = augmenter.batch(IMAGES[:1], MASKS[:1])[0][0]
        flipped = not (windows == crop).all(axis=(2, 3)).any()
        flips += flipped
        (place,) = np.argwhere(((mirrored if flipped else windows) == crop).all(axis=(2, 3)))
        places.add(tuple(place))
    assert 15 <= flips <= 45
    assert len(places) > 40
    assert min(p[0] for p in places) < 4 and max(p[0] for p in places) > 16


def test_scaling_and_rotation_move_masks_with_their_images() -> None:
    """A bright disc beside a dark one: what is labelled stays bright, and discs change their size and place."""
    rows, columns = np.mgrid[:148, :148]
    disc = (rows - 50) ** 2 + (columns - 80) ** 2 < 400
    augmenter = Augmenter(PLAIN.replace(scale_limit=0.3, rotate_limit=20.0, affine_probability=0.5), 148)
    augmenter.seed(1)
    images, masks = augmenter.batch(
        np.tile(np.where(disc, 200, 20).astype(np.uint8), (60, 1, 1)), np.tile(disc, (60, 1, 1))
    )
    assert masks.dtype == bool and ((images > 110) == masks).mean() > 0.998
    sizes = masks.sum(axis=(1, 2))
    untouched = (masks == disc).all(axis=(1, 2))
    assert 15 <= untouched.sum() <= 45
    assert sizes.min() < 0.75 * disc.sum() and sizes.max() > 1.3 * disc.sum()
    places = np.array([np.argwhere(mask).mean(axis=0) for mask in masks[~untouched]])
    assert (places.std(axis=0) > 1).all()


def test_what_is_not_scaled_or_rotated_is_as_it_was_before_these_existed() -> None:
    """The Argus baseline's samples: runs of former versions go on as they began."""
    augmenter = Augmenter(Augmentation(), 128)
    augmenter.seed(4)
    images, masks = augmenter.batch(IMAGES, MASKS)
    assert (images.sum(), masks.sum()) == (14315668, 49076)


def test_brightness_and_contrast_are_linear_and_leave_masks_alone() -> None:
    augmenter = Augmenter(PLAIN.replace(brightness_contrast_probability=1), 148)
    augmenter.seed(3)
    ramp = np.tile(np.arange(148, dtype=np.uint8) + 50, (1, 148, 1))
    slopes = set()
    for _ in range(20):
        images, masks = augmenter.batch(ramp, ramp > 100)
        assert (masks == (ramp > 100)).all()
        line = images[0, 0].astype(float)
        inside = (line > 0) & (line < 255)
        slope, offset = np.polyfit(ramp[0, 0][inside], line[inside], 1)
        assert np.abs(slope * ramp[0, 0][inside] + offset - line[inside]).max() <= 1
        assert 0.75 < slope < 1.25
        slopes.add(round(slope, 2))
    assert len(slopes) > 5


def test_flip_and_brightness_do_not_go_together() -> None:
    """From the first sample after a seed on: every epoch begins with one."""
    augmenter = Augmenter(Augmentation(brightness_contrast_probability=1, contrast_limit=0), 148)
    ramp = np.tile(np.arange(148, dtype=np.uint8) + 50, (1, 148, 1))
    flipped, brightness = [], []
    for seed in range(300):
        augmenter.seed(seed)
        image = augmenter.batch(ramp, ramp > 0)[0][0].astype(float)
        flipped.append(image[0, 0] > image[0, -1])
        brightness.append(image.mean())
    assert abs(np.corrcoef(flipped, brightness)[0, 1]) < 0.2
