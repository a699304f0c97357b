"""Windows over a section: none of it is left out, and joining them is cutting's inverse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salt_ray.volume import blending
from salt_ray.volume.blending import Blending, window_weights

sizes = st.integers(1, 70)


@pytest.mark.parametrize("window_px", [31, 32, 128])
def test_weights_are_symmetric_about_the_centre_and_never_nothing(window_px: int) -> None:
    weights = window_weights(window_px)
    for same in (weights.T, weights[::-1], weights[:, ::-1]):
        np.testing.assert_array_equal(weights, same)
    middle = (window_px - 1) // 2
    assert weights.max() == weights[middle, middle] > 0.98 and weights.min() == 1e-3
    away = np.abs(np.arange(window_px) - (window_px - 1) / 2) <= window_px / 8
    assert weights[middle][away].min() > 0.6 > weights[middle][~away].max()


@given(height=sizes, width=sizes, step=st.integers(1, 16), seed=st.integers(0, 9))
def test_joining_what_was_cut_gives_the_section(height: int, width: int, step: int, seed: int) -> None:
    section = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    joined = Blending(section.shape, 16, step).join(section, np.ones(width, bool), lambda windows: windows)
    assert joined.dtype == np.float32
    np.testing.assert_allclose(joined, section, atol=1e-6)


@given(height=sizes, width=sizes, step=st.integers(1, 16), constant=st.floats(0, 1, width=32))
def test_a_network_that_says_the_same_everywhere_gives_the_same(
    height: int, width: int, step: int, constant: float
) -> None:
    section = np.zeros((height, width), np.uint8)

    def answer(windows: np.ndarray) -> np.ndarray:
        return np.full(windows.shape, constant, np.float32)

    joined = Blending(section.shape, 16, step).join(section, np.ones(width, bool), answer)
    np.testing.assert_allclose(joined, constant, atol=1e-6)


def test_traces_that_are_not_live_are_0_and_change_no_other() -> None:
    section = np.random.default_rng(1).random((40, 90)).astype(np.float32)
    live = np.ones(90, bool)
    live[20:75] = False
    seen = []

    def answer(windows: np.ndarray) -> np.ndarray:
        seen.append(len(windows))
        return windows**2

    some = Blending(section.shape, 16, 8)
    joined = some.join(section, live, answer)
    every = some.join(section, np.ones(90, bool), answer)
    np.testing.assert_array_equal(joined[:, live], every[:, live])
    assert not joined[:, ~live].any() and seen[0] < seen[1] == len(some)
    assert not some.join(section, np.zeros(90, bool), lambda windows: pytest.fail("nothing to see")).any()


def test_a_small_section_is_mirrored_at_its_ends() -> None:
    section = np.arange(12, dtype=np.uint8).reshape(3, 4)
    seen: list[np.ndarray] = []

    def answer(windows: np.ndarray) -> np.ndarray:
        seen.append(windows)
        return windows

    Blending(section.shape, 8, 4).join(section, np.ones(4, bool), answer)
    np.testing.assert_array_equal(seen[0], np.pad(section, ((0, 5), (0, 4)), mode="reflect")[None])


def test_few_windows_are_cut_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blending, "AT_ONCE", 5)
    section, counts = np.random.default_rng(2).random((64, 64)).astype(np.float32), []
    joined = Blending(section.shape, 16, 8).join(section, np.ones(64, bool), lambda cut: counts.append(len(cut)) or cut)
    np.testing.assert_allclose(joined, section, atol=1e-6)
    assert max(counts) == 5 and sum(counts) == 49
