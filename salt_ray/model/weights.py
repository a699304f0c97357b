"""Which weights a network begins with."""

from __future__ import annotations

import hashlib

from salt_ray.section import ExperimentError
from salt_ray.storage import StoragePath


def weights_digest(weights: bool | StoragePath) -> str | None:
    """SHA-256 (hex) of a file of weights; None where no file is named, but timm's weights or random ones.

    Raises:
        ExperimentError: there is no such file, or it cannot be read.
        StorageError: the object store cannot be reached.
    """
    if isinstance(weights, bool):
        return None
    try:
        return hashlib.sha256(weights.read_bytes()).hexdigest()
    except OSError as error:
        raise ExperimentError(
            f"the weights {weights} cannot be read ({error.strerror or 'there is no such file'}): let "
            "network.pretrained (a local file) or folds.checkpoint name a file that is there"
        ) from error
