"""What a prediction worker refuses to write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from salt_ray.cluster.prediction import predict_chunk
from salt_ray.cluster.session import ClusterError
from salt_ray.inference.predict import Probabilities


class Broken:
    """A model whose weights have run away."""

    def predict(self, padded: np.ndarray) -> Probabilities:
        salt = np.full(len(padded), 0.5, np.float32)
        salt[1] = np.nan
        return Probabilities(np.zeros((len(padded), 5, 5), np.float16), salt)


def test_a_model_that_answers_nan_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"best\.pt predicts NaN"):
        predict_chunk(Broken(), tmp_path / "best.pt", np.zeros((3, 7, 7), np.uint8), tmp_path / "00000.npy")
    assert not list(tmp_path.iterdir())
