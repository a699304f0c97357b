"""Probabilities of tiles by one model: the only place where logits become probabilities (method section 5).

Letters: n tiles, B a batch, P padded and S tile edge in px.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from salt_ray.config import Experiment
from salt_ray.inference.tta import transforms
from salt_ray.model.network import SaltNet, build_network
from salt_ray.storage import StoragePath
from salt_ray.survey.padding import Frame, centre, centre_crop
from salt_ray.training.checkpoint import read_checkpoint
from salt_ray.training.loop import mixed_precision, network_input


class Probabilities(NamedTuple):
    """``masks`` (n, S, S) float16: probability of salt per pixel; ``salt`` (n,) float32: that the tile has any."""

    masks: np.ndarray
    salt: np.ndarray


class Model:
    """A trained network, ready to predict.

    Args:
        experiment: names the network, the precision and the prediction settings.
        checkpoint: a sealed checkpoint file.

    Raises:
        CheckpointError: the checkpoint is missing or damaged.
    """

    def __init__(self, experiment: Experiment, checkpoint: StoragePath, frame: Frame, device: torch.device) -> None:
        self.settings, self.frame, self.device = experiment.prediction, frame, device
        network = build_network(experiment.network.replace(pretrained=False))  # the checkpoint has all weights
        network.load_state_dict(read_checkpoint(checkpoint)["network"])
        self._network: SaltNet = network.to(device, memory_format=torch.channels_last).eval()
        self._amp = mixed_precision(experiment, device)

    @torch.inference_mode()
    def predict(self, padded: np.ndarray) -> Probabilities:
        """Predict (n, P, P) uint8 padded tiles in batches, averaged over the views of each tile."""
        crops = centre_crop(padded, self.frame)
        masks = np.empty((len(crops), self.frame.tile_px, self.frame.tile_px), np.float16)
        salt = np.empty(len(crops), np.float32)
        views = transforms(self.settings.flip)
        for start in range(0, len(crops), self.settings.batch_size):
            batch = slice(start, start + self.settings.batch_size)
            images = network_input(crops[batch], self.device)
            mean_mask, mean_salt = 0, 0
            for view in views:
                with self._amp:
                    logits = self._network(view.apply(images))
                mean_mask = mean_mask + view.undo(logits.mask_logits.float().sigmoid()) / len(views)
                mean_salt = mean_salt + logits.salt_logit.float().sigmoid() / len(views)
            masks[batch] = centre(mean_mask, self.frame).half().cpu().numpy()
            salt[batch] = mean_salt.cpu().numpy()
        return Probabilities(masks, salt)
