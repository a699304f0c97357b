"""The score of the TGS challenge: the one definition that everything uses (method section 1).

A tile's score is the mean over the thresholds t = 0.50, 0.55 … 0.95 of [intersection over union > t], strictly
greater. Where truth and prediction are both empty it is 1, where exactly one of them is empty it is 0. The score is the
mean over tiles: never a mean of batch means.

Truth is bool, or int8 if some pixels are unlabelled: these are ``UNLABELLED``, 1 is salt and 0 is none. In
both types salt is where a mask is above 0, and a label where it is at least 0. Intersection and union count labelled
pixels only.

Letters: N tiles, H rows, W columns, M known masks.
"""

from __future__ import annotations

import math

import numpy as np

#: In masks of int8: unlabelled pixels.
UNLABELLED = -1
#: The thresholds are (10 + k) / 20 for k = 0 … 9, so that every comparison is one of integers.
_TWENTIETHS = np.arange(10, 20)
#: Tiles worked on at a time: 64 of 101 x 101 stay in a core's cache.
_BLOCK_TILES = 64
#: Where the mean of the known masks is cut to make the constant answers that are tried.
_CONSTANT_LEVELS = np.arange(1, 20) / 20


def tile_scores(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Score of every tile, computed in integers: a share of 0, 0.1 … 1 of the ten thresholds passed.

    Args:
        truth: bool (N, H, W), or int8 with ``UNLABELLED`` pixels.
        predicted: bool (N, H, W).

    Returns:
        float64 (N,).

    Raises:
        TypeError: an argument has another type.
        ValueError: the shapes differ or are not (N, H, W), or no pixel of a tile is labelled.
    """
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    partial = truth.dtype == np.int8
    for name, masks in (("truth", truth), ("predicted", predicted)):
        if masks.dtype != np.bool_ and not (partial and masks is truth):
            raise TypeError(f"{name} must be bool, not {masks.dtype}: threshold it first")
    if truth.shape != predicted.shape or truth.ndim != 3:
        raise ValueError(f"truth and predicted must both be (N, H, W), not {truth.shape} and {predicted.shape}")
    if partial:
        if not has_label(truth).all():
            raise ValueError("a tile without a labelled pixel has no score: exclude it")
        truth, predicted = truth > 0, predicted & (truth >= 0)
    both, either = _overlaps(truth, predicted)
    passed = (20 * both[:, None] > _TWENTIETHS * either[:, None]).sum(axis=1)
    passed[either == 0] = len(_TWENTIETHS)
    return passed / len(_TWENTIETHS)


def labelled_share(truth: np.ndarray) -> np.ndarray:
    """(N,) float64: the share of the pixels of a mask (N, H, W), bool or int8, that are labelled."""
    return np.ones(len(truth)) if truth.dtype == np.bool_ else (truth >= 0).mean(axis=(1, 2))


def has_label(truth: np.ndarray) -> np.ndarray:
    """(N,) bool: whether any pixel of a mask (N, H, W), bool or int8, is labelled; no other tile has a score."""
    return labelled_share(truth) > 0


def wholly_labelled(truth: np.ndarray) -> np.ndarray:
    """(N,) bool: whether all pixels of a mask (N, H, W), bool or int8, are labelled."""
    return labelled_share(truth) == 1


def salt_share(truth: np.ndarray) -> np.ndarray:
    """(N,) float64: salt's share of the labelled pixels of a mask (N, H, W), bool or int8, of which some are."""
    return (truth > 0).mean(axis=(1, 2)) / labelled_share(truth)


def score(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Mean of ``tile_scores``; arguments and errors are its, and ValueError without any tile."""
    scores = tile_scores(truth, predicted)
    if not len(scores):
        raise ValueError("no tiles to score: pass at least one")
    return float(scores.mean())


def trivial_scores(known_masks: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """What answers score that look at no image: a model must beat both.

    Args:
        known_masks: bool or int8 (M, H, W), the masks one may learn from.
        truth: bool or int8 (N, H, W), the masks to score on.

    Returns:
        ``all_empty``: the score of empty masks. ``best_constant``: the score of one mask given to every tile: of the
        mean of the known masks, cut at 0.05, 0.10 … 0.95, that which scores best on the known masks (the lowest cut
        among equals). Cuts that leave it empty or full are no candidates; NaN where none remains.

    Raises:
        TypeError: an argument has another type.
        ValueError: an argument has no tile, or their tiles differ in size.
    """
    mean = _mean_mask(known_masks)
    levels = (mean > level for level in _CONSTANT_LEVELS)
    candidates = [candidate for candidate in levels if candidate.any() and not candidate.all()]
    constant = max(candidates, key=lambda candidate: _constant_score(known_masks, candidate), default=None)
    return {
        "all_empty": score(truth, np.zeros(truth.shape, bool)),
        "best_constant": math.nan if constant is None else _constant_score(truth, constant),
    }


def _mean_mask(masks: np.ndarray) -> np.ndarray:
    """How often each pixel is salt where it is labelled, float64 (H, W); 0 where it never is."""
    if masks.dtype == np.bool_ and len(masks):
        return masks.mean(axis=0)
    return (masks > 0).sum(axis=0) / np.maximum((masks >= 0).sum(axis=0), 1)


def _constant_score(truth: np.ndarray, mask: np.ndarray) -> float:
    if truth.shape[1:] != mask.shape:
        raise ValueError(f"truth has tiles of {truth.shape[1:]} px, the known masks of {mask.shape} px: use one size")
    return score(truth, np.broadcast_to(mask, truth.shape))


def _overlaps(truth: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels in the intersection and in the union of each pair, int64 (N,) each; eight pixels to a byte."""
    count, height, width = truth.shape
    both, either = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    packed_bytes = -(-height * width // 8)
    packed = np.zeros((2, _BLOCK_TILES, 8 * -(-packed_bytes // 8)), dtype=np.uint8)
    true, found = packed.view(np.uint64)
    for first in range(0, count, _BLOCK_TILES):
        block = slice(first, first + _BLOCK_TILES)
        size = len(both[block])
        for masks, bits in zip((truth, predicted), packed, strict=True):
            bits[:size, :packed_bytes] = np.packbits(masks[block].reshape(size, height * width), axis=1)
        both[block] = np.bitwise_count(true & found).sum(axis=1, dtype=np.int64)[:size]
        either[block] = np.bitwise_count(true | found).sum(axis=1, dtype=np.int64)[:size]
    return both, either
