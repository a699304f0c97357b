"""The Argus baseline's decoder: an FPN block reads each map (method section 3).

Sources: feature pyramid (Lin et al., 2017; Kirillov et al., 2019, Panoptic Feature Pyramid Networks).
"""

from __future__ import annotations

from torch import nn

from salt_ray.model.decoders.blocks import AlignedConv2d


class FpnBlock(nn.Sequential):
    """(N, in, h, w) -> (N, out, h, w): twice conv 3x3, ReLU, BatchNorm in this order; the mean width in between."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        middle = round((in_channels + out_channels) / 2)
        layers: list[nn.Module] = []
        for before, after in ((in_channels, middle), (middle, out_channels)):
            layers += [AlignedConv2d(before, after), nn.ReLU(inplace=True), nn.BatchNorm2d(after)]
        super().__init__(*layers)
