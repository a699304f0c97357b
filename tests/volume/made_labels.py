"""A made volume and the labels of some of its lines, for the tests of windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from made_segy import grid_numbers, write_segy
from scipy import ndimage

INLINES, CROSSLINES, SAMPLES = 64, 48, 40
LABELLED = (0, 20, 40, 60)


def made_cube(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Amplitudes float32, and where salt is, bool: (inlines, crosslines, samples); salt is a dome, and quiet."""
    rows, columns, samples = np.indices((INLINES, CROSSLINES, SAMPLES))
    salt = samples > 8 + 0.02 * (rows - 27) ** 2 + 0.03 * (columns - 20) ** 2
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(0, 100, salt.shape), (2, 2, 1))
    return np.where(salt, 0.2 * noise, noise).astype(np.float32), salt


def write_volume(
    folder: Path, amplitudes: np.ndarray, there: np.ndarray | None = None, spacing: float = 25, **how: object
) -> Path:
    """A SEG-Y file of a cube, its inlines from 100, its crosslines from 300 on.

    Args:
        there: bool (inlines, crosslines), where it has traces; None: everywhere.
        spacing: of inlines, in m; crosslines are 12.5 m apart.
    """
    shape = amplitudes.shape[:2]
    there = np.ones(shape, bool) if there is None else there
    numbers = {
        byte: np.broadcast_to(value, there.size)[there.ravel()] for byte, value in grid_numbers(*shape, spacing).items()
    }
    return write_segy(folder / "amplitudes.sgy", amplitudes[there], numbers, **how)


def write_labels(folder: Path, values: np.ndarray, rows: tuple[int, ...] = LABELLED, **how: object) -> Path:
    """A SEG-Y file of bytes with these inlines of a cube, the last one first: no trace has the number it has there."""
    numbers = grid_numbers(*values.shape[:2])
    traces = np.arange(values.shape[0] * values.shape[1]).reshape(values.shape[:2])[list(rows)[::-1]].ravel()
    chosen = {
        byte: np.broadcast_to(value, values.shape[0] * values.shape[1])[traces] for byte, value in numbers.items()
    }
    words = values.reshape(-1, values.shape[2])[traces]
    return write_segy(folder / "labels.sgy", words, chosen, code=8, **how)


def write_line(path: Path, words: np.ndarray, spacing: float = 12.5, **how: object) -> Path:
    """A 2D line of so many m between its traces, which are numbered."""
    path.parent.mkdir(exist_ok=True)
    traces = np.arange(len(words))
    numbers = {193: 1 + traces, 71: -100, 181: np.rint(100 * (1000 + spacing * traces)), 185: 200_000}
    return write_segy(path, words, numbers, **how)
