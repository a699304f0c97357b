"""What a tile looks like, as a vector: tiles that resemble each other point the same way (method section 4, b).

Two kinds: what a trained encoder saw in the tile, and, where nothing is trained yet, its contrast and texture.

Letters: n tiles, S tile and P padded edge in px, D length of an embedding, C channels of the encoder's deepest map.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch

from salt_ray.config import Experiment
from salt_ray.model.acceleration import mixed_precision
from salt_ray.model.network import build_network
from salt_ray.storage import StoragePath
from salt_ray.survey.padding import Frame, centre_crop
from salt_ray.training.checkpoint import CheckpointError, read_checkpoint
from salt_ray.training.samples import network_input

#: Cells along each edge of a tile in which contrast is averaged.
CELLS = 4
#: Bands of wave numbers along depth (both signs) and along the section, from 0 to a quarter cycle per px.
BANDS = (16, 8)


@torch.inference_mode()
def encoder_embeddings(
    experiment: Experiment,
    checkpoint: StoragePath,
    padded: np.ndarray,
    frame: Frame,
    device: torch.device,
    batch: int = 64,
) -> np.ndarray:
    """The mean of a trained encoder's deepest map over the tile's centre crop, on a logarithmic scale.

    log1p needs values of at least 0. Encoders whose stages end in a ReLU (ResNets, Argus) have no others. Those that
    end in a linear layer (MobileNets, EfficientNets) have negative ones too, which are set to 0 before the mean.

    Args:
        experiment: names the network that the checkpoint holds, and the precision.
        checkpoint: a sealed checkpoint file.
        padded: (n, P, P) uint8.
        batch: tiles at a time.

    Returns:
        (n, C) float32, at least 0.

    Raises:
        CheckpointError: the checkpoint is missing or damaged, or holds another network.
    """
    network = build_network(experiment.network.replace(pretrained=False))  # the checkpoint has all weights
    try:
        network.load_state_dict(read_checkpoint(checkpoint)["network"])
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"{checkpoint} does not hold the experiment's network ({experiment.network.encoder!r}): set "
            "folds.checkpoint to one that does"
        ) from error
    encoder = network.encoder.to(device, memory_format=torch.channels_last).eval()
    crops = centre_crop(padded, frame)
    embeddings = np.empty((len(crops), encoder.channels[-1]), np.float32)
    amp = mixed_precision(experiment, device)
    for start in range(0, len(crops), batch):
        images = network_input(crops[start : start + batch], device)
        with amp:
            deepest = encoder(images.expand(-1, 3, -1, -1))[-1]
        seen = deepest.float().relu().mean(dim=(2, 3))
        embeddings[start : start + batch] = seen.log1p().cpu().numpy()
    return embeddings


def image_embeddings(matched: np.ndarray) -> np.ndarray:
    """A tile's contrast where it is, and its texture: no training needed.

    Two parts of equal weight, both on a logarithmic scale: the mean absolute difference between neighbouring pixels,
    down and across, in 4 x 4 cells; the power spectrum of the whole tile in 16 x 8 bands. Grey itself is left out: on
    the TGS tiles it makes the nearest tile a less alike one. Every value is standardised over the tiles, so the
    embeddings of different calls are not to be compared.

    Args:
        matched: (n, S, S) float32 or uint8, grey values that can be compared between tiles (``mosaic.histogram``).

    Returns:
        (n, 160) float32.
    """
    parts = (_contrast(matched), _spectrum(matched))
    return np.concatenate([_standardised(part) / np.sqrt(part.shape[1]) for part in parts], axis=1, dtype=np.float32)


def _contrast(tiles: np.ndarray) -> np.ndarray:
    """(n, 32) float32: log of the mean absolute difference of neighbours in cells, down and across."""
    rows = []
    for tile in tiles:
        grey = tile.astype(np.float32)
        rows.append(np.concatenate([_cells(np.abs(np.diff(grey, axis=axis))) for axis in (0, 1)]))
    return np.log1p(np.stack(rows))


def _spectrum(tiles: np.ndarray) -> np.ndarray:
    """(n, 128) float32: log of the mean power in bands of wave numbers."""
    bands_down, bands_across = BANDS
    side = 32 * -(-tiles.shape[-1] // 32)  # filled up with the mean grey, so that bands have whole bins
    width = side // 32
    rows = []
    for tile in tiles:
        power = np.abs(np.fft.rfft2(tile - tile.mean(dtype=np.float64), s=(side, side))) ** 2
        low = np.fft.fftshift(power, axes=0)[side // 4 : -side // 4, : side // 4]
        rows.append(low.reshape(bands_down, width, bands_across, width).mean(axis=(1, 3)).ravel())
    return np.log1p(np.stack(rows)).astype(np.float32)


def _cells(values: np.ndarray) -> np.ndarray:
    """(16,) float32: means of a (height, width) float32 field in cells that share the pixels on their borders."""
    return cv2.resize(values, (CELLS, CELLS), interpolation=cv2.INTER_AREA).ravel()


def _standardised(columns: np.ndarray) -> np.ndarray:
    """Mean 0 and deviation 1 in every column; one that never varies becomes 0."""
    deviation = columns.std(axis=0, dtype=np.float64)
    return (columns - columns.mean(axis=0, dtype=np.float64)) / np.where(deviation > 0, deviation, 1)
