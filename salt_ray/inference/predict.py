"""Probabilities of tiles by one model (method section 5).

Letters: n tiles, B a batch, P padded and S tile edge in px.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from salt_ray.config import Experiment
from salt_ray.inference.probabilities import Probabilities
from salt_ray.model.acceleration import (
    CompilationFailed,
    compilation_watched,
    compiled,
    forward_batch,
    mixed_precision,
    tune_for_fixed_shapes,
    wants_compilation,
)
from salt_ray.model.network import SaltNet, build_network
from salt_ray.model.views import View, logits_of_views, mean_probabilities, transforms
from salt_ray.storage import StoragePath
from salt_ray.survey.padding import Frame, centre, centre_crop
from salt_ray.training.checkpoint import read_checkpoint
from salt_ray.training.samples import network_input


class Model:
    """A trained network, ready to predict.

    Args:
        experiment: names the network, the precision and the prediction settings.
        checkpoint: a sealed checkpoint file.
        say: called with a line for people when something unusual happens.

    Raises:
        CheckpointError: the checkpoint is missing or damaged.
    """

    def __init__(
        self,
        experiment: Experiment,
        checkpoint: StoragePath,
        frame: Frame,
        device: torch.device,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.settings, self.frame, self.device = experiment.prediction, frame, device
        network = build_network(experiment.network.replace(pretrained=False))  # the checkpoint has all weights
        network.load_state_dict(read_checkpoint(checkpoint)["network"])
        self._network: SaltNet = network.to(device, memory_format=torch.channels_last).eval()
        self._amp, self._say = mixed_precision(experiment, device), say
        self._batch = min(self.settings.batch_size, forward_batch(device))
        self._compiled = compiled(_mean_over_views) if wants_compilation(experiment, device) else None
        tune_for_fixed_shapes(device)

    @torch.inference_mode()
    def predict(self, padded: np.ndarray) -> Probabilities:
        """Predict (n, P, P) uint8 padded tiles in batches, averaged over the views of each tile."""
        crops = centre_crop(padded, self.frame)
        masks = np.empty((len(crops), self.frame.tile_px, self.frame.tile_px), np.float16)
        salt = np.empty(len(crops), np.float32)
        for start in range(0, len(crops), self._batch):
            batch = slice(start, start + self._batch)
            mean_mask, mean_salt = self._mean(network_input(crops[batch], self.device))
            masks[batch] = centre(mean_mask, self.frame).half().cpu().numpy()
            salt[batch] = mean_salt.cpu().numpy()
        return Probabilities(masks, salt)

    def _mean(self, images: Tensor) -> tuple[Tensor, Tensor]:
        views = transforms(self.settings.flip)
        # The last batch is smaller: not worth compiling for.
        if self._compiled is not None and len(images) == self._batch:
            try:
                with compilation_watched():
                    return self._compiled(self._network, images, views, self._amp)
            except CompilationFailed as error:
                self._say(f"torch.compile failed ({error}): predicting without it")
                self._compiled = None
        return _mean_over_views(self._network, images, views, self._amp)


def _mean_over_views(
    network: SaltNet, images: Tensor, views: Sequence[View], amp: torch.autocast
) -> tuple[Tensor, Tensor]:
    """Mean probabilities (B, C, C) and (B,), float32, of (B, 1, C, C) images."""
    return mean_probabilities(logits_of_views(network, images, views, amp), views)
