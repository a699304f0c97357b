"""The challenge's score of 4,000 tiles against a loop over tiles with an object matcher. Target: 100 times.

The matcher is the general one for several objects in a tile, as copied from challenge to challenge: histograms give the
area of every true and every predicted object, a joint histogram their intersections, and hits and misses are counted at
each threshold. Here each mask is one object. (The copies' score for an empty prediction is a fault and is not rebuilt:
method section 1.) A loop that needs no matcher, because it knows of one object, is over ten times faster than this one.
"""

from __future__ import annotations

import numpy as np

from benchmarks.harness import alternate, per_tile, row, survey
from salt_ray import metric

_TILES = 4000
#: The loop takes a millisecond for a tile.
_PEER_TILES = 400


def measure() -> list[dict]:
    """Milliseconds a tile; predictions are the masks moved by one to twelve pixels, a tenth of them another tile's."""
    _, truth = survey(_TILES)
    predicted = np.stack([np.roll(mask, 1 + index % 12, axis=index % 2) for index, mask in enumerate(truth)])
    predicted[::10] = truth[np.arange(0, _TILES, 10) - 1]
    expected = [_matched(*pair) for pair in zip(truth[:_PEER_TILES], predicted[:_PEER_TILES], strict=True)]
    equal = np.allclose(metric.tile_scores(truth, predicted)[:_PEER_TILES], expected, rtol=0, atol=1e-12)
    ours, peer = alternate(
        lambda: metric.score(truth, predicted),
        lambda: [_matched(*pair) for pair in zip(truth[:_PEER_TILES], predicted[:_PEER_TILES], strict=True)],
    )
    return [row("metric", per_tile(ours, _TILES), per_tile(peer, _PEER_TILES), "ms/tile", equal)]


def _matched(truth: np.ndarray, predicted: np.ndarray) -> float:
    edges = np.array([-0.5, 0.5, 1.5])  # background, salt
    true_labels, found_labels = truth.ravel().astype(np.uint8), predicted.ravel().astype(np.uint8)
    both = np.histogram2d(true_labels, found_labels, bins=(edges, edges))[0]
    true_areas = np.histogram(true_labels, bins=edges)[0][:, None]
    found_areas = np.histogram(found_labels, bins=edges)[0][None, :]
    either = np.maximum(true_areas + found_areas - both, 1e-9)
    overlaps = (both / either)[1:, 1:]
    is_true, is_found = true_areas[1:] > 0, found_areas[:, 1:] > 0
    precisions = []
    for threshold in (10 + np.arange(10)) / 20:
        hits = overlaps > threshold
        found = np.count_nonzero(hits.any(axis=1))
        missed = np.count_nonzero(is_true & ~hits.any(axis=1, keepdims=True))
        invented = np.count_nonzero(is_found & ~hits.any(axis=0, keepdims=True))
        precisions.append(found / (found + missed + invented) if found + missed + invented else 1.0)
    return float(np.mean(precisions))
