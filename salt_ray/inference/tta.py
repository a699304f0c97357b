"""Test-time augmentation: every transform owns its inverse, and the round trip is its test.

B tiles, H x W pixels.
"""

from __future__ import annotations

import torch


class Identity:
    """Leaves tiles as they are."""

    def apply(self, images: torch.Tensor) -> torch.Tensor:
        return images

    def undo(self, masks: torch.Tensor) -> torch.Tensor:
        return masks


class LeftRightFlip:
    """Mirrors (…, H, W) along W; its own inverse."""

    def apply(self, images: torch.Tensor) -> torch.Tensor:
        return images.flip(-1)

    def undo(self, masks: torch.Tensor) -> torch.Tensor:
        return masks.flip(-1)


def transforms(flip: bool) -> list[Identity | LeftRightFlip]:
    """The views of a tile whose predictions are averaged."""
    return [Identity(), LeftRightFlip()] if flip else [Identity()]
