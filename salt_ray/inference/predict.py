"""Probabilities of tiles by one model, of one network or several (method section 5).

Letters: n tiles, B a batch, P padded and S tile edge in px.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from salt_ray.config import Experiment
from salt_ray.errors import RunError
from salt_ray.inference.probabilities import Probabilities
from salt_ray.inference.stored import write_chunk
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
from salt_ray.model.views import View, logits_of_views, mean_probabilities, views_of
from salt_ray.storage import StoragePath
from salt_ray.survey.padding import Frame, centre, centre_crop
from salt_ray.training.checkpoint import read_checkpoint
from salt_ray.training.samples import network_input


class Model:
    """A trained network, or several whose mean it is, ready to predict.

    Args:
        experiment: names the network, the precision and the prediction settings.
        checkpoints: a sealed checkpoint file for each network.
        say: called with a line for people when something unusual happens.

    Raises:
        CheckpointError: a checkpoint is missing or damaged.
    """

    def __init__(
        self,
        experiment: Experiment,
        checkpoints: Sequence[StoragePath],
        frame: Frame,
        device: torch.device,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.settings, self.frame, self.device = experiment.prediction, frame, device
        config = experiment.network.replace(pretrained=False)  # the checkpoint has all weights
        self._networks: list[SaltNet] = []
        for checkpoint in checkpoints:
            network = build_network(config)
            network.load_state_dict(read_checkpoint(checkpoint)["network"])
            self._networks.append(network.to(device, memory_format=torch.channels_last).eval())
        self._amp, self._say = mixed_precision(experiment, device), say
        self._batch = min(self.settings.batch_size, forward_batch(device))
        self._compiled = compiled(_mean_over_views) if wants_compilation(experiment, device) else None
        tune_for_fixed_shapes(device)

    def predict(self, padded: np.ndarray) -> Probabilities:
        """Predict (n, P, P) uint8 padded tiles in batches, averaged over the networks and the views of each tile."""
        crops = centre_crop(padded, self.frame)
        masks = np.empty((len(crops), self.frame.tile_px, self.frame.tile_px), np.float16)
        salt = np.empty(len(crops), np.float32)
        for batch, mean_mask, mean_salt in self._batches(crops):
            masks[batch] = centre(mean_mask, self.frame).half().cpu().numpy()
            salt[batch] = mean_salt.cpu().numpy()
        return Probabilities(masks, salt)

    def pixels(self, crops: np.ndarray) -> np.ndarray:
        """Probabilities of pixels, float32 (n, C, C), of uint8 crops (n, C, C) as the network sees them."""
        masks = np.empty(crops.shape, np.float32)
        for batch, mean_mask, _ in self._batches(crops):
            masks[batch] = mean_mask.cpu().numpy()
        return masks

    @torch.inference_mode()
    def _batches(self, crops: np.ndarray) -> Iterator[tuple[slice, Tensor, Tensor]]:
        for start in range(0, len(crops), self._batch):
            batch = slice(start, start + self._batch)
            yield batch, *self._mean(network_input(crops[batch], self.device))

    def _mean(self, images: Tensor) -> tuple[Tensor, Tensor]:
        masks, salt = zip(*(self._mean_of(network, images) for network in self._networks), strict=True)
        return torch.stack(masks).mean(dim=0), torch.stack(salt).mean(dim=0)

    def _mean_of(self, network: SaltNet, images: Tensor) -> tuple[Tensor, Tensor]:
        views = views_of(self.settings.flip)
        # The last batch is smaller: not worth compiling for.
        if self._compiled is not None and len(images) == self._batch:
            try:
                with compilation_watched():
                    return self._compiled(network, images, views, self._amp)
            except CompilationFailed as error:
                self._say(f"torch.compile failed ({error}): predicting without it")
                self._compiled = None
        return _mean_over_views(network, images, views, self._amp)


class Models:
    """The models of an experiment, which stay once they are loaded.

    Args:
        most: how many stay; None: all.
        others: as for ``Model``.
    """

    def __init__(
        self,
        experiment: Experiment,
        frame: Frame,
        device: torch.device,
        say: Callable[[str], None] = lambda line: None,
        most: int | None = None,
    ) -> None:
        self._experiment, self._frame, self._device, self._say, self._most = experiment, frame, device, say, most
        self._loaded: dict[tuple[StoragePath, ...], Model] = {}

    def predict(self, checkpoints: tuple[StoragePath, ...], padded: np.ndarray) -> Probabilities:
        """``Model.predict`` by the model with these weights.

        Raises:
            CheckpointError: a checkpoint is missing or damaged.
            RunError: the model's answers are no probabilities.
        """
        return _checked(self._model(checkpoints).predict(padded), checkpoints)

    def pixels(self, checkpoints: tuple[StoragePath, ...], crops: np.ndarray) -> np.ndarray:
        """``Model.pixels`` by the model with these weights; raises as ``predict``."""
        found = self._model(checkpoints).pixels(crops)
        _checked(Probabilities(found.astype(np.float16), np.empty(0, np.float32)), checkpoints)
        return found

    def write_chunk(self, checkpoints: tuple[StoragePath, ...], padded: np.ndarray, path: StoragePath) -> None:
        """``predict`` into a file."""
        write_chunk(path, self.predict(checkpoints, padded))

    def _model(self, checkpoints: tuple[StoragePath, ...]) -> Model:
        if checkpoints not in self._loaded:
            if len(self._loaded) == self._most:
                del self._loaded[next(iter(self._loaded))]
            self._loaded[checkpoints] = Model(self._experiment, checkpoints, self._frame, self._device, self._say)
        return self._loaded[checkpoints]


def _checked(probabilities: Probabilities, checkpoints: tuple[StoragePath, ...]) -> Probabilities:
    """The same, or the error that a model's answers are no probabilities."""
    if fault := probabilities.fault():
        names, folder = ", ".join(map(str, checkpoints)), checkpoints[0].parent
        raise RunError(f"{names} predicts {fault}: delete {folder} and train this fold again")
    return probabilities


def _mean_over_views(
    network: SaltNet, images: Tensor, views: Sequence[View], amp: torch.autocast
) -> tuple[Tensor, Tensor]:
    """Mean probabilities (B, C, C) and (B,), float32, of (B, 1, C, C) images."""
    return mean_probabilities(logits_of_views(network, images, views, amp), views)
