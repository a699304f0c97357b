"""The decoder: U-Net blocks from the deepest map up, and an FPN block on each of their maps (method section 3).

Sources: U-Net (Ronneberger et al., 2015); the block with a transposed convolution (LinkNet, Chaurasia and Culurciello,
2017); feature pyramid (Lin et al., 2017; Kirillov et al., 2019, Panoptic Feature Pyramid Networks).
N images of H x W px; the encoder's maps come shallowest first, the decoder's widths deepest first.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DecoderBlock(nn.Sequential):
    """(N, in, h, w) -> (N, out, upscale * h, upscale * w): narrow to a quarter, upscale, widen.

    ``upscale`` is a power of two: a transposed convolution for each doubling, one plain convolution for 1.
    """

    def __init__(self, in_channels: int, out_channels: int, upscale: int) -> None:
        middle = max(1, in_channels // 4)
        doublings = upscale.bit_length() - 1
        assert upscale == 2**doublings
        layers = _normed(nn.Conv2d(in_channels, middle, 1, bias=False))
        for _ in range(doublings):
            layers += _normed(nn.ConvTranspose2d(middle, middle, 3, 2, padding=1, output_padding=1, bias=False))
        if doublings == 0:
            layers += _normed(nn.Conv2d(middle, middle, 3, padding=1, bias=False))
        layers += _normed(nn.Conv2d(middle, out_channels, 1, bias=False))
        super().__init__(*layers)


def _normed(convolution: nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
    return [convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU(inplace=True)]


class FpnBlock(nn.Sequential):
    """(N, in, h, w) -> (N, out, h, w): twice conv 3x3, ReLU, BatchNorm in this order; the mean width in between."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        middle = round((in_channels + out_channels) / 2)
        layers: list[nn.Module] = []
        for before, after in ((in_channels, middle), (middle, out_channels)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(inplace=True), nn.BatchNorm2d(after)]
        super().__init__(*layers)


class FpnDecoder(nn.Module):
    """Five encoder maps to one map of ``out_channels`` = sum(fpn_widths) channels at full size.

    Each of the first four decoder maps is joined by the encoder's map of its size before both the next block and the
    FPN block read it (only so do parameters and FLOPs come out as published).
    """

    def __init__(
        self,
        channels: Sequence[int],
        reductions: Sequence[int],
        widths: Sequence[int] | None,
        fpn_widths: Sequence[int],
        dropout: float,
    ) -> None:
        """
        Args:
            channels, reductions: of the five encoder maps, shallowest first (``Encoder``).
            widths: out channels of the five blocks, deepest first; None: those of the skips, then 128 and 128.
            fpn_widths: out channels of the five FPN blocks, deepest first.
            dropout: probability of dropping a channel of a skip (before it is joined) and of the result.
        """
        super().__init__()
        deepest, *skips = reversed(channels)
        widths = widths or (*skips[:3], 128, 128)
        scales = [*reversed(reductions), 1]
        upscales = [coarse // fine for coarse, fine in itertools.pairwise(scales)]
        joined = [width + skip for width, skip in zip(widths, [*skips, 0], strict=True)]
        self.blocks = nn.ModuleList(map(DecoderBlock, [deepest, *joined[:-1]], widths, upscales))
        self.fpn = nn.ModuleList(FpnBlock(before, width) for before, width in zip(joined, fpn_widths, strict=True))
        self.dropout = nn.Dropout2d(dropout)
        self.out_channels = sum(fpn_widths)

    def forward(self, features: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Encoder maps, shallowest first, and the image's (H, W) to (N, out_channels, H, W)."""
        x, *skips = reversed(features)
        pyramid = []
        for level, (block, fpn) in enumerate(zip(self.blocks, self.fpn, strict=True)):
            x = block(x)
            if level < len(skips):
                x = torch.cat([x, self.dropout(skips[level])], dim=1)
            # dropping channels commutes with interpolating and joining them, and costs far less before both
            narrow = self.dropout(fpn(x))
            if narrow.shape[-2:] != size:
                narrow = F.interpolate(narrow, size, mode="bilinear", align_corners=False)
            pyramid.append(narrow)
        return torch.cat(pyramid, dim=1)
