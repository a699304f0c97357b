"""Losses per tile, on logits: Lovász hinge and cross-entropy for the mask, cross-entropy for the empty head.

The Argus baseline uses the first and the last (method section 4). Masks are bool, or numbers: 1 for
salt, 0 for none, -1 for unlabelled pixels (``metric.UNLABELLED``). Logits at unlabelled pixels change no loss.

Letters: N tiles, H rows, W columns, J = H * W pixels of a tile.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from salt_ray.config import Stage
from salt_ray.metric import UNLABELLED
from salt_ray.model.network import Logits


def lovasz_hinge(logits: Tensor, masks: Tensor) -> Tensor:
    """Lovász hinge of every tile, with elu(error) + 1 in place of relu(error).

    Pixel errors, sorted from the largest, are weighted by what each adds to the Jaccard loss if all before it are wrong
    (Berman, Triki, Blaschko 2018, "The Lovász-Softmax loss", algorithm 1; elu + 1: method section 4). relu gives pixels
    beyond the margin no gradient, elu + 1 never quite lets go of them. All tiles are sorted in one call.

    An empty mask: every set of wrong pixels costs the whole Jaccard index, so that all weight is on the single largest
    error and the loss is elu(1 + largest logit) + 1, which tends to 0 where all logits are far below 0. A full mask
    weighs all its pixels alike: the loss is their mean.

    Args:
        logits: (N, H, W), any floating type; computed in float32.
        masks: (N, H, W), bool or of 0, 1 and -1.

    Returns:
        float32 (N,), each above 0; 0 where no pixel is labelled.

    Raises:
        ValueError: the shapes differ or are not (N, H, W).
    """
    if logits.shape != masks.shape or logits.ndim != 3:
        raise ValueError(f"logits and masks must both be (N, H, W), not {tuple(logits.shape)} and {tuple(masks.shape)}")
    salt, unlabelled = (masks > 0).flatten(1).float(), _unlabelled(masks)
    errors = 1 + logits.flatten(1).float() * (1 - 2 * salt)
    if unlabelled is not None:  # sorted behind all others, where they change no other weight, and with weight 0
        errors = errors.masked_fill(unlabelled.flatten(1), -math.inf)
    with torch.no_grad():  # the weights are constants: only the order of the errors and the mask decide them
        order = _largest_first(errors)
        weights = torch.empty_like(errors).scatter_(1, order, _jaccard_steps(salt.gather(1, order)))
    return ((F.elu(errors) + 1) * weights).sum(dim=1)


def symmetric_lovasz(logits: Tensor, masks: Tensor) -> Tensor:
    """Mean of the Lovász hinge on the mask and on its complement: background counts as salt does.

    An empty mask: half of it is ``lovasz_hinge`` of an empty one, the other half the mean over all pixels.

    Shapes, types and errors: ``lovasz_hinge``.
    """
    unlabelled = _unlabelled(masks)
    complement = masks <= 0 if unlabelled is None else (masks == 0).char().masked_fill(unlabelled, UNLABELLED)
    return (lovasz_hinge(logits, masks) + lovasz_hinge(-logits, complement)) / 2


def salt_bce(salt_logit: Tensor, masks: Tensor) -> Tensor:
    """Cross-entropy of "this tile contains salt" (method section 4).

    An empty mask is the negative class: the loss is softplus(salt_logit). A mask without salt of which some pixels are
    not labelled is of neither class: the loss is 0.

    Args:
        salt_logit: (N,), any floating type; computed in float32.
        masks: (N, H, W), bool or of 0, 1 and -1.

    Returns:
        float32 (N,).

    Raises:
        ValueError: there is not one logit per mask.
    """
    if salt_logit.shape != masks.shape[:1]:
        raise ValueError(f"expected {masks.shape[0]} salt logits (N,), not {tuple(salt_logit.shape)}")
    has_salt, unlabelled = _has_salt(masks), _unlabelled(masks)
    losses = F.binary_cross_entropy_with_logits(salt_logit.float(), has_salt.float(), reduction="none")
    if unlabelled is None:
        return losses
    return losses.masked_fill(unlabelled.flatten(1).any(dim=1) & ~has_salt, 0)


def pixel_bce(logits: Tensor, masks: Tensor) -> Tensor:
    """Cross-entropy of every pixel, mean over a tile's labelled ones; not in the Argus baseline.

    A network without pretrained weights learns from it what salt looks like, where the Lovász hinge alone stays at the
    trivial answer for thousands of steps. An empty mask is as any other: the loss is the mean softplus of the logits.

    Args:
        logits: (N, H, W), any floating type; computed in float32.
        masks: (N, H, W), bool or of 0, 1 and -1.

    Returns:
        float32 (N,); 0 where no pixel is labelled.
    """
    unlabelled = _unlabelled(masks)
    losses = F.binary_cross_entropy_with_logits(logits.float(), (masks > 0).float(), reduction="none")
    if unlabelled is None:
        return losses.mean(dim=(1, 2))
    labelled = (~unlabelled).sum(dim=(1, 2)).clamp(min=1)
    return losses.masked_fill(unlabelled, 0).sum(dim=(1, 2)) / labelled


def auxiliary_loss(logits: Tensor, masks: Tensor, stage: Stage) -> Tensor:
    """What a stage asks of a mask, its Lovász hinge and pixel cross-entropy, of every deeper map: mean over the maps.

    An empty mask: 0. Whether there is salt the empty head says; the deeper maps learn its shape.

    Args:
        logits: (N, K, H, W), any floating type; computed in float32.
        masks: (N, H, W), bool or of 0, 1 and -1.

    Returns:
        float32 (N,).
    """
    maps = logits.shape[1]
    its_logits, its_masks = logits.flatten(0, 1), masks[:, None].expand(-1, maps, -1, -1).flatten(0, 1)
    per_map = torch.zeros(len(its_masks), device=masks.device)
    if stage.lovasz_weight:
        per_map = per_map + stage.lovasz_weight * _lovasz(stage)(its_logits, its_masks)
    if stage.pixel_bce_weight:
        per_map = per_map + stage.pixel_bce_weight * pixel_bce(its_logits, its_masks)
    return per_map.unflatten(0, (-1, maps)).mean(dim=1) * _has_salt(masks)


def combined_loss(logits: Logits, masks: Tensor, stage: Stage) -> Tensor:
    """Mean over tiles of the losses weighted as a stage says: float32 scalar. A loss of weight 0 is not computed.

    Shapes, what an empty mask does, and errors: ``lovasz_hinge``, ``salt_bce``, ``pixel_bce`` and ``auxiliary_loss``,
    which is no part of it where the network gives no auxiliary logits: in validation.
    """
    per_tile = torch.zeros(len(masks), device=masks.device)
    if stage.lovasz_weight:
        per_tile = per_tile + stage.lovasz_weight * _lovasz(stage)(logits.mask_logits, masks)
    if stage.bce_weight:
        per_tile = per_tile + stage.bce_weight * salt_bce(logits.salt_logit, masks)
    if stage.pixel_bce_weight:
        per_tile = per_tile + stage.pixel_bce_weight * pixel_bce(logits.mask_logits, masks)
    if stage.auxiliary_weight and logits.auxiliary_logits is not None:
        per_tile = per_tile + stage.auxiliary_weight * auxiliary_loss(logits.auxiliary_logits, masks, stage)
    return per_tile.mean()


def _lovasz(stage: Stage) -> Callable[[Tensor, Tensor], Tensor]:
    return symmetric_lovasz if stage.lovasz == "symmetric" else lovasz_hinge


def _unlabelled(masks: Tensor) -> Tensor | None:
    """Bool (N, H, W), True for unlabelled pixels; None for bool masks, which are labelled throughout."""
    return None if masks.dtype == torch.bool else masks < 0


def _has_salt(masks: Tensor) -> Tensor:
    """(N,) bool."""
    return (masks > 0).flatten(1).any(dim=1)


def _largest_first(errors: Tensor) -> Tensor:
    """Places of every row's values from the largest to the smallest: int64 (N, J)."""
    if errors.device.type == "cpu":  # numpy sorts with vector instructions: 5 ms for 24 tiles of 128 x 128, torch 40 ms
        return torch.from_numpy(np.argsort(-errors.detach().numpy(), axis=1))
    return errors.argsort(dim=1, descending=True)


def _jaccard_steps(salt: Tensor) -> Tensor:
    """What each pixel adds to the Jaccard loss when pixels turn wrong one after the other: float32 (N, J).

    ``salt``: 0 or 1, float32 (N, J), in that order. After j wrong pixels, of which s are salt and were lost, j pixels
    of the union's S + j - s are not in the intersection. All counts are exact in float32 up to 2**24 pixels.
    """
    wrong = torch.arange(1, salt.shape[1] + 1, device=salt.device, dtype=salt.dtype)
    jaccard_loss = wrong / (salt.sum(dim=1, keepdim=True) + wrong - salt.cumsum(dim=1))
    return jaccard_loss.diff(dim=1, prepend=torch.zeros_like(jaccard_loss[:, :1]))
