"""A slimmer decoder: each map is gated, and narrowed for a hypercolumn (method section 3).

Sources: scSE (Roy, Navab, Wachinger, 2018, Concurrent Spatial and Channel Squeeze & Excitation); hypercolumn (Hariharan
et al., 2015).
"""

from __future__ import annotations

from torch import Tensor, nn

from salt_ray.model.decoders.blocks import normed


class ScseGate(nn.Module):
    """(N, channels, h, w) -> the same shape: the map times one gate a channel, plus the map times one gate a pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        middle = max(1, channels // 16)
        self.channels = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, middle, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(middle, channels, 1),
        )
        self.pixels = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.channels(x).sigmoid() + self.pixels(x).sigmoid())


def column(in_channels: int, out_channels: int) -> nn.Sequential:
    """What one map gives to the hypercolumn: narrowed by a 1x1 convolution, which commutes with interpolation."""
    return nn.Sequential(*normed(nn.Conv2d(in_channels, out_channels, 1, bias=False)))
