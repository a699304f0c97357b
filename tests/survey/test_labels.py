"""What a prediction that fills its tile becomes, as the labels say it."""

from __future__ import annotations

import numpy as np
import pytest

from salt_ray.errors import RunError
from salt_ray.metric import UNLABELLED
from salt_ray.survey.labels import ENOUGH_WITH_SALT, full_tiles


def labels(full: int, partly: int, empty: int) -> np.ndarray:
    masks = np.zeros((full + partly + empty, 5, 5), bool)
    masks[:full] = True
    masks[full : full + partly, 2] = True
    return masks


@pytest.mark.parametrize(
    ("masks", "becomes"),
    [
        (labels(1, 0, 0), "salt"),
        (labels(1, 1000, 3), "salt"),
        (labels(0, ENOUGH_WITH_SALT, 0), "empty"),
        (labels(0, 3 * ENOUGH_WITH_SALT, 50), "empty"),
        (labels(0, 0, 0), "empty"),  # nothing is trained, and folds say so
    ],
)
def test_full_labels_decide(masks: np.ndarray, becomes: str) -> None:
    assert full_tiles(masks) == becomes


def test_only_wholly_labelled_tiles_say_whether_salt_fills_tiles() -> None:
    masks = labels(2, 2 * ENOUGH_WITH_SALT, 5).astype(np.int8)
    assert full_tiles(masks) == "salt"
    masks[:2, 0, 0] = UNLABELLED  # they may be full, or not
    assert full_tiles(masks) == "empty"
    masks[: 2 * ENOUGH_WITH_SALT, 0, 0] = UNLABELLED
    with pytest.raises(RunError, match="none of the 2 wholly labelled tiles with salt is entirely salt"):
        full_tiles(masks)


@pytest.mark.parametrize("partly", [0, 1, ENOUGH_WITH_SALT - 1])
def test_too_few_labels_with_salt_are_asked_about(partly: int) -> None:
    with pytest.raises(RunError) as raised:
        full_tiles(labels(0, partly, 2 * ENOUGH_WITH_SALT))
    assert f"none of the {partly} labelled tiles with salt" in str(raised.value)
    assert all(f"--set labels.full_tiles={choice}" in str(raised.value) for choice in ("salt", "empty"))
