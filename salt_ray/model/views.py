"""Test-time augmentation: the views of a tile, and the mean of what a network says of them (method section 5).

Every view is its own inverse: what a network says of it is turned back by the same function. This is the only place
where logits become probabilities.

Letters: B tiles, H x W pixels, C crop edge in px.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from salt_ray.model.acceleration import forward
from salt_ray.model.network import Logits, SaltNet

View = Callable[[Tensor], Tensor]


def as_it_is(images: Tensor) -> Tensor:
    """(…, H, W) images or masks, unchanged."""
    return images


def mirrored(images: Tensor) -> Tensor:
    """(…, H, W) images or masks, mirrored along W."""
    return images.flip(-1)


def views_of(flip: bool) -> list[View]:
    """The views of a tile whose predictions are averaged; the tile as it is comes first."""
    return [as_it_is, mirrored] if flip else [as_it_is]


def logits_of_views(network: SaltNet, images: Tensor, views: Sequence[View], amp: torch.autocast) -> list[Logits]:
    """What a network says of each view of (B, 1, C, C) images; masks are those of the view, not turned back."""
    if not images.is_cuda:  # one larger batch does not help a CPU
        return [forward(network, view(images), amp) for view in views]
    together = forward(network, torch.cat([view(images) for view in views]), amp)
    return list(map(Logits, together.mask_logits.chunk(len(views)), together.salt_logit.chunk(len(views))))


def mean_probabilities(logits: Sequence[Logits], views: Sequence[View]) -> tuple[Tensor, Tensor]:
    """Mean probabilities over the views, float32: of pixels (B, C, C), and that a tile has salt (B,)."""
    masks = [view(each.mask_logits.float().sigmoid()) for each, view in zip(logits, views, strict=True)]
    salt = [each.salt_logit.float().sigmoid() for each in logits]
    return torch.stack(masks).mean(dim=0), torch.stack(salt).mean(dim=0)
