"""Histogram matching: agrees with scikit-image, undoes stretches, and lines are looked up like whole tiles."""

import numpy as np
from scipy import ndimage
from skimage.exposure import match_histograms

from salt_ray.mosaic.histogram import match, matching_tables

RANDOM = np.random.default_rng(0)


def tiles(count: int, size: int) -> np.ndarray:
    fields = ndimage.gaussian_filter(RANDOM.normal(size=(count, size, size)), (0, 1, 2))
    fields -= fields.min(axis=(1, 2), keepdims=True)
    return np.rint(fields * (255 / fields.max(axis=(1, 2), keepdims=True))).astype(np.uint8)


def test_matching_agrees_with_scikit_image() -> None:
    # Few grey values: the mean histogram has holes, which the interpolation must bridge.
    for images in (tiles(9, 40), tiles(9, 40) // 16 * 16):
        matched = match(matching_tables(images), images)
        for image, ours in zip(images, matched, strict=True):
            expected = match_histograms(image.ravel(), images.ravel())
            np.testing.assert_allclose(ours.ravel(), expected, atol=1e-3)


def test_a_tile_of_other_contrast_is_matched_to_the_same_greys() -> None:
    images = tiles(20, 48)
    faint = images.copy()
    faint[0] = images[0] // 2 + 40
    plain, again = (match(matching_tables(greys), greys)[0] for greys in (images, faint))
    assert np.abs(faint[0] - images[0].astype(float)).mean() > 20
    assert np.abs(plain - again).mean() < 2


def test_lines_are_looked_up_like_whole_tiles() -> None:
    images = tiles(5, 21)
    tables = matching_tables(images)
    assert tables.dtype == np.float32 and (np.diff(tables, axis=1) >= 0).all()
    np.testing.assert_array_equal(match(tables, images[:, :, -1]), match(tables, images)[:, :, -1])
