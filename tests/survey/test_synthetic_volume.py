"""The synthetic volume: lines that can be drawn alone, salt with overhangs, both directions alike."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from salt_ray.survey.synthetic_volume import SyntheticVolume

LINES, SAMPLES = 96, 128
SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def volumes() -> list[tuple[np.ndarray, np.ndarray]]:
    """Amplitudes and salt (inline, sample, crossline) of some surveys, as many crosslines as inlines."""
    made = []
    for seed in SEEDS:
        earth = SyntheticVolume(LINES, SAMPLES, seed)
        amplitudes, salt = zip(*(earth.inline(line) for line in range(LINES)), strict=True)
        made.append((np.stack(amplitudes), np.stack(salt)))
    return made


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def test_a_line_is_the_same_in_any_order_and_alone(volumes: list) -> None:
    amplitudes, salt = volumes[1]
    assert amplitudes.dtype == np.float32 and np.isfinite(amplitudes).all() and salt.dtype == bool
    backwards = SyntheticVolume(LINES, SAMPLES, SEEDS[1])
    for line in (70, 69, 20):
        found = backwards.inline(line)
        np.testing.assert_array_equal(found[0], amplitudes[line])
        np.testing.assert_array_equal(found[1], salt[line])
    np.testing.assert_array_equal(SyntheticVolume(LINES, SAMPLES, SEEDS[1]).inline(0)[0], amplitudes[0])
    assert abs(correlation(volumes[0][0], amplitudes)) < 0.2  # another seed, another earth


def test_salt_has_a_sensible_share_and_overhangs(volumes: list) -> None:
    for _, salt in volumes:
        assert 0.08 < salt.mean() < 0.45
        entries = (salt[:, 1:] & ~salt[:, :-1]).sum(1) + salt[:, 0]
        assert (entries > 1).mean() > 0.03  # traces that enter salt twice
        assert (entries > 0).mean() > 0.3


def test_neighbouring_lines_are_alike_and_distant_ones_are_not(volumes: list) -> None:
    for amplitudes, salt in volumes:
        for cube in (amplitudes, amplitudes.transpose(2, 1, 0)):  # along inlines, along crosslines
            near = [correlation(cube[line], cube[line + 1]) for line in range(0, LINES - 1, 7)]
            far = [correlation(cube[line], cube[line + 64]) for line in range(0, LINES - 64, 7)]
            assert min(near) > 0.85 and np.mean(near) > 0.92 and abs(np.mean(far)) < 0.4
        assert (salt[1:] ^ salt[:-1]).mean() < 0.02


def test_inlines_and_crosslines_have_the_same_statistics(volumes: list) -> None:
    def spectrum(axis: int) -> np.ndarray:
        """Share of the power in bands of wavenumber along an axis, a mean over surveys."""
        power = np.zeros(LINES // 2 + 1)
        for amplitudes, _ in volumes:
            power += (np.abs(np.fft.rfft(amplitudes, axis=axis)) ** 2).mean(axis=tuple({0, 1, 2} - {axis}))
        bands = np.split(power[1:], [2, 4, 8, 16, 32])
        return np.array([band.sum() for band in bands]) / power[1:].sum()

    ratio = spectrum(0) / spectrum(2)
    assert (ratio > 0.5).all() and (ratio < 2).all(), ratio
    edges = [sum((np.diff(salt, axis=axis)).mean() for _, salt in volumes) for axis in (0, 2)]
    assert 0.6 < edges[0] / edges[1] < 1.6


def test_wavelets_get_longer_with_depth_and_salt_has_no_layers(volumes: list) -> None:
    for amplitudes, salt in volumes:

        def crossings(cube: np.ndarray, where: np.ndarray) -> float:
            return float(((cube[:, 1:] > 0) != (cube[:, :-1] > 0))[where[:, 1:]].mean())

        sediment = ~salt
        third = SAMPLES // 3
        shallow = crossings(amplitudes[:, :third], sediment[:, :third])
        deep = crossings(amplitudes[:, -third:], sediment[:, -third:])
        assert shallow > 1.2 * deep
        # Layers go on sideways, the grain of salt does not (its edges are left out).
        apart, inside = 6, ndimage.binary_erosion(salt, np.ones((1, 13, 1)), border_value=1)
        both, neither = (mask[..., apart:] & mask[..., :-apart] for mask in (inside, sediment))
        left, right = amplitudes[..., :-apart], amplitudes[..., apart:]
        assert correlation(left[neither], right[neither]) > correlation(left[both], right[both]) + 0.1
