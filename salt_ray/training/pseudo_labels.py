"""Pseudo-labels: masks that a fold's own network gives to unlabelled tiles, for the fold's next stage to learn from.

A network that has seen a fold's labels would hand them on to the fold's model through its neighbours' masks. So each
fold labels for itself, as it decides in validation and before any rule of mosaics, which copy labels; and the stages
before depend on no score (``config.Training``). What is labelled, how sure the network has to be, and how many of these
tiles an epoch has, says ``config.PseudoLabels``.

Letters: L labelled tiles, U others, M of them with a pseudo-label, B at once, P padded and S tile edge in px.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from salt_ray.config import PseudoLabels
from salt_ray.decision import Decision
from salt_ray.model.network import SaltNet
from salt_ray.model.views import logits_of_views, mean_probabilities, views_of
from salt_ray.storage import StoragePath, load_array, readable
from salt_ray.survey.padding import Frame, centre, centre_crop, operator
from salt_ray.survey.prepared import TrainingTiles, UnlabelledTiles
from salt_ray.training.samples import network_input


@torch.inference_mode()
def pseudo_labels(
    network: SaltNet,
    tiles: UnlabelledTiles,
    frame: Frame,
    decision: Decision,
    confidence: float,
    amp: torch.autocast,
    device: torch.device,
    at_once: int,
) -> np.ndarray:
    """The tiles of which a network is confident enough, and their masks as ``decision`` makes them.

    Args:
        confidence: see ``config.PseudoLabels``.
        at_once: B.

    Returns:
        (M,) records of ``id`` and ``mask`` (the S x S bits, packed), in the order of the tiles.
    """
    network.eval()
    ids, masks, views = [], [], views_of(decision.flip)
    for start in range(0, len(tiles.ids), at_once):
        batch = slice(start, start + at_once)
        images = network_input(centre_crop(tiles.images[batch], frame), device)
        pixels, salt = mean_probabilities(logits_of_views(network, images, views, amp), views)
        pixels = centre(pixels, frame)
        taken = (likelier(salt) >= confidence) & (likelier(pixels).mean(dim=(1, 2)) >= confidence)
        ids.append(tiles.ids[batch][taken.cpu().numpy()])
        masks.append(decision.masks(pixels, salt)[taken].cpu().numpy())
    found = np.concatenate(ids)
    packed = np.packbits(np.concatenate(masks).reshape(len(found), frame.tile_px**2), axis=1)
    labels = np.empty(len(found), [("id", tiles.ids.dtype), ("mask", np.uint8, packed.shape[1:])])
    labels["id"], labels["mask"] = found, packed
    return labels


def likelier(salt: Tensor) -> Tensor:
    """The probability of salt or of none, whichever is larger; of any shape."""
    return torch.maximum(salt, 1 - salt)


def with_pseudo_labels(tiles: TrainingTiles, path: StoragePath) -> TrainingTiles:
    """The labelled tiles, then those of ``path`` with their pseudo-labels: (L + M, P, P) images and masks, copied.

    Args:
        path: what ``pseudo_labels`` returned, as .npy.

    Raises:
        RunError: the file is missing, damaged, or of other tiles.
    """
    labels, unlabelled, edge = load_array(path), tiles.unlabelled, tiles.frame.tile_px
    place = {tile: position for position, tile in enumerate(unlabelled.ids.tolist())}
    with readable(path, path.parent):
        positions = [place[tile] for tile in labels["id"].tolist()]
        masks = np.unpackbits(labels["mask"], axis=1, count=edge**2).reshape(-1, edge, edge).view(bool)
    return replace(
        tiles,
        ids=np.concatenate([tiles.ids, labels["id"]]),
        images=np.concatenate([tiles.images, unlabelled.images[positions]]),
        masks=np.concatenate([tiles.masks, operator(tiles.frame).masks(masks)]),
    )


def epoch_tiles(
    labelled: np.ndarray, pseudo: np.ndarray, settings: PseudoLabels | None, random: np.random.Generator
) -> np.ndarray:
    """Positions of the tiles that an epoch learns from: all labelled ones, and ``settings.share`` of the whole others.

    Where there are too few others, it is all of them.
    """
    if settings is None:
        return labelled
    wanted = round(len(labelled) * settings.share / (1 - settings.share))
    return np.concatenate([labelled, random.permutation(pseudo)[:wanted]])
