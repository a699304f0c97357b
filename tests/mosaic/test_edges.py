"""Edges as vectors, and the exact search for the two that fit each best."""

import numpy as np
import pytest
import torch

from salt_ray.mosaic import edges
from salt_ray.mosaic.edges import Side, edge_vectors, find_neighbours, turned
from salt_ray.mosaic.histogram import matching_tables

pytestmark = pytest.mark.usefixtures("one_thread")

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def random_vectors(n: int, size: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((4, n, size)).astype(np.float32)
    vectors -= vectors.mean(axis=2, keepdims=True)
    return vectors / np.linalg.norm(vectors, axis=2, keepdims=True)


def two_best_one_by_one(vectors: np.ndarray, side: Side) -> tuple[np.ndarray, np.ndarray]:
    """By full products in float64."""
    products = vectors[side].astype(float) @ vectors[side.opposite].astype(float).T
    np.fill_diagonal(products, -np.inf)
    tiles = np.argsort(-products, axis=1)[:, :2]
    return tiles, np.take_along_axis(products, tiles, axis=1)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("n", [3, 64, 97, 1000])
def test_the_search_is_exact(n: int, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    # Small blocks: n then spans several, whole and partly filled.
    monkeypatch.setattr(edges, "_BLOCK", {"cpu": (64, 128), "cuda": (128, 64)})
    monkeypatch.setattr(edges, "_GROUP", 32)
    vectors = random_vectors(n, 24)
    found = find_neighbours(vectors, device)
    for side in Side:
        tiles, correlations = two_best_one_by_one(vectors, side)
        np.testing.assert_array_equal(found.tiles[side], tiles)
        np.testing.assert_allclose(found.correlations[side], correlations, atol=1e-6)


def test_equal_edges_are_found_in_the_same_way_each_time() -> None:
    vectors = random_vectors(40, 16).repeat(3, axis=1)
    first, second = find_neighbours(vectors), find_neighbours(vectors)
    np.testing.assert_array_equal(first.tiles, second.tiles)
    for side in Side:
        _, correlations = two_best_one_by_one(vectors, side)
        np.testing.assert_allclose(first.correlations[side], correlations, atol=1e-6)
        assert (first.tiles[side] != np.arange(120)[:, None]).all()
        assert (first.tiles[side, :, 0] != first.tiles[side, :, 1]).all()


def test_a_step_and_its_opposite_cancel() -> None:
    for side in Side:
        assert side.opposite.opposite is side
        assert tuple(np.add(side.step, side.opposite.step)) == (0, 0)


def test_tiles_cut_from_one_picture_find_each_other() -> None:
    size = 40
    picture = np.random.default_rng(2).integers(0, 256, (6 * size, 8 * size))
    # Smoothed a little, so that a line can be told from the one beside it.
    picture = (picture + np.roll(picture, 1, 0) + np.roll(picture, 1, 1) + np.roll(picture, (1, 1), (0, 1))) // 4
    grid = picture.astype(np.uint8).reshape(6, size, 8, size).swapaxes(1, 2)
    images = grid.reshape(48, size, size)
    numbers = np.arange(48).reshape(6, 8)
    found = find_neighbours(edge_vectors(images, matching_tables(images)))
    assert (found.tiles[Side.RIGHT, numbers[:, :-1], 0] == numbers[:, 1:]).mean() > 0.95
    assert (found.tiles[Side.TOP, numbers[1:], 0] == numbers[:-1]).mean() > 0.95


def test_vectors_have_length_one_and_flat_edges_none() -> None:
    images = np.random.default_rng(3).integers(0, 256, (30, 20, 20)).astype(np.uint8)
    images[4, :, :2] = 7
    images[9, -2:] = 200
    vectors = edge_vectors(images, matching_tables(images))
    is_flat = np.zeros((4, 30), bool)
    is_flat[Side.LEFT, 4] = is_flat[Side.BOTTOM, 9] = True
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=2), ~is_flat, atol=1e-5)
    np.testing.assert_allclose(vectors.sum(axis=2), 0, atol=1e-4)
    found = find_neighbours(vectors)
    assert not found.correlations[is_flat].any()


def test_edges_are_extrapolated_from_the_outer_two_lines() -> None:
    images = np.random.default_rng(4).integers(0, 256, (50, 12, 12)).astype(np.uint8)
    greys = np.tile(np.arange(256, dtype=np.float32), (50, 1))  # every grey value stays as it is
    vectors = edge_vectors(images, greys)
    for side, outer, second in ((Side.LEFT, 0, 1), (Side.RIGHT, -1, -2)):
        lines = 2.0 * images[:, :, outer] - images[:, :, second]
        lines = (lines - lines.mean(axis=0)) / lines.std(axis=0)
        lines = (lines - lines.mean(axis=1, keepdims=True)) / lines.std(axis=1, keepdims=True)
        np.testing.assert_allclose(vectors[side] * np.sqrt(12), lines, atol=1e-4)
        upright = images.swapaxes(1, 2)
        np.testing.assert_allclose(edge_vectors(upright, greys)[side + 2], vectors[side], atol=1e-6)


def test_turning_twice_changes_nothing_and_once_loses_the_neighbour() -> None:
    vectors = random_vectors(60, 30)
    vectors[Side.LEFT, 1:] = vectors[Side.RIGHT, :-1]
    np.testing.assert_array_equal(turned(turned(vectors)), vectors)
    assert (find_neighbours(vectors).tiles[Side.RIGHT, :-1, 0] == np.arange(1, 60)).all()
    assert (find_neighbours(turned(vectors)).tiles[Side.RIGHT, :-1, 0] == np.arange(1, 60)).mean() < 0.1
