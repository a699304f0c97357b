"""Mosaics drawn by hand and mosaics drawn by lot, for the tests of the rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from salt_ray.postprocessing.seen import Correction, SeenMosaic

Place = tuple[int, int]


def mask(drawing: str) -> np.ndarray:
    """A mask (S, S) bool from lines of '#' (salt) and '.'."""
    return np.array([[pixel == "#" for pixel in line] for line in drawing.split()])


def mosaic(
    tiles: Mapping[Place, str | np.ndarray], labelled: Iterable[Place] = (), corrected: Iterable[Place] = ()
) -> SeenMosaic:
    """A mosaic from the mask at each (row, column); its arrays refuse to be written to."""
    labelled, corrected = set(labelled), set(corrected)
    assert labelled | corrected <= set(tiles)
    masks = np.stack([mask(drawn) if isinstance(drawn, str) else drawn for drawn in tiles.values()])
    rows, cols = np.array(list(tiles), np.int64).T.copy()
    return frozen(
        rows, cols, masks, np.array([p in labelled for p in tiles]), np.array([p in corrected for p in tiles])
    )


def frozen(*arrays: np.ndarray) -> SeenMosaic:
    """A mosaic whose arrays refuse to be written to."""
    for array in arrays:
        array.flags.writeable = False
    return SeenMosaic(*arrays)


def drawn(mosaic: SeenMosaic, corrections: list[Correction]) -> dict[Place, tuple[str, list[Place]]]:
    """Each corrected place with its mask as a drawing, and the places that it comes from."""
    place = {tile: place for place, tile in mosaic.places.items()}
    assert len({one.tile for one in corrections}) == len(corrections)
    return {place[one.tile]: (text(one.mask), [place[source] for source in one.sources]) for one in corrections}


def text(mask: np.ndarray) -> str:
    """The inverse of ``mask``."""
    return "\n".join("".join(".#"[pixel] for pixel in line) for line in mask.astype(int))


def by_lot(seed: int, size: int) -> SeenMosaic:
    """A grid with missing places, in any order: salt bodies with straight sides, some of whose tiles are spoilt."""
    random = np.random.default_rng(seed)
    height, width = random.integers(2, 8), random.integers(1, 6)
    grid = [(row, col) for row in range(height) for col in range(width) if random.random() < 0.9] or [(0, 0)]
    section = _section(random, height * size, width * size, size)
    share = random.choice([0.3, 0.8])
    masks = []
    for row, col in grid:
        true = section[row * size : (row + 1) * size, col * size : (col + 1) * size]
        true = np.zeros_like(true) if true.all() else true
        masks.append(_spoilt(random, true) if random.random() < share else true)
    order = random.permutation(len(grid))
    labelled = random.random(len(grid)) < random.choice([0.2, 0.5])
    corrected = ~labelled & (random.random(len(grid)) < 0.1)
    rows, cols = np.array(grid, np.int64)[order].T.copy()
    return frozen(rows, cols, np.stack(masks)[order], labelled, corrected)


def _section(random: np.random.Generator, height: int, width: int, size: int) -> np.ndarray:
    """Discs whose salt goes on straight down, bool (height, width)."""
    y, x = np.mgrid[:height, :width]
    section = np.zeros((height, width), bool)
    for _ in range(random.integers(1, 4)):
        centre, radius = random.uniform(0, (height, width)), random.uniform(0.3, 2) * size
        section |= (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
    return np.logical_or.accumulate(section, axis=0)


def _spoilt(random: np.random.Generator, true: np.ndarray) -> np.ndarray:
    """A tile's mask, made empty (in half of all cases), full, striped, noisy, closed below or pierced."""
    size = len(true)
    start, end = sorted(random.choice(size + 1, 2, replace=False))
    mask = true.copy()
    match random.integers(10):
        case 0:
            mask[:] = True
        case 1:
            mask = np.zeros_like(true)
            mask[:, start:end] = True
        case 2:
            mask ^= random.random(true.shape) < 0.05
        case 3:
            mask[start:] = True
        case 4:
            mask[size // 3 : size // 2, size // 3 : size // 2] = False
        case _:
            mask[:] = False
    return mask
