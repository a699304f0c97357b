"""Where salt begins and ends on a trace."""

from __future__ import annotations

import numpy as np
import pytest

from salt_ray.volume.horizons import top_and_base


@pytest.mark.parametrize(
    ("trace", "top", "base"),
    [
        ([0, 0, 1, 1, 0, 0], 1.5, 3.5),
        ([0, 0.25, 0.75, 1, 0.9, 0.4], 1.5, 4.8),
        ([0.9, 0.6, 0.1, 0.0, 0.0, 0.0], 0, 1.2),
        ([0, 0, 0, 0, 0.2, 0.7], 4.6, 5),
        ([0, 1, 0, 0, 1, 0], 0.5, 4.5),  # the first top and the last base
        ([1] * 6, 0, 5),
        ([0.5] * 6, np.nan, np.nan),  # salt is above the threshold
        ([0] * 6, np.nan, np.nan),
    ],
)
def test_crossings_are_interpolated(trace: list[float], top: float, base: float) -> None:
    found = top_and_base(np.array([trace], np.float32), 0.5)
    np.testing.assert_allclose(np.ravel(found), [top, base], atol=1e-6)


def test_a_line_through_the_crossing_has_the_threshold_there() -> None:
    traces = np.random.default_rng(0).random((200, 30)).astype(np.float32)
    for threshold in (0.1, 0.5, 0.97):
        for found in top_and_base(traces, threshold):
            for trace, sample in zip(traces, found, strict=True):
                if np.isfinite(sample) and 0 < sample < 29:
                    assert np.interp(sample, np.arange(30), trace) == pytest.approx(threshold, abs=1e-5)
            assert (np.isfinite(found) == (traces > threshold).any(1)).all()
