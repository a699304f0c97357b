"""The decoder: U-Net blocks from the deepest map up, and what the mask head gets of each of their maps.

That is an FPN block a map (method section 3) or, in a slimmer one, scSE gates and a hypercolumn (method section 7).

Sources: U-Net (Ronneberger et al., 2015); the block with a transposed convolution (LinkNet, Chaurasia and Culurciello,
2017); feature pyramid (Lin et al., 2017; Kirillov et al., 2019, Panoptic Feature Pyramid Networks); scSE (Roy, Navab,
Wachinger, 2018, Concurrent Spatial and Channel Squeeze & Excitation); hypercolumn (Hariharan et al., 2015).
N images of H x W px; the encoder's maps come shallowest first, the decoder's widths deepest first.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

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


class AlignedConv2d(nn.Conv2d):
    """A 3x3 convolution that keeps the size; on a GPU with zeros for channels that fill up its tensor cores' tiles.

    The function is the same. Forward and backward, in bf16 on an H100, 24 tiles of 128 x 128 px: 128 -> 68 -> 8
    channels take 1.63 ms, with 96 in the middle 0.89; 248 -> 32 takes 0.81 ms, 256 -> 32 0.55.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_cuda:
            return super().forward(x)
        return self.aligned(x)

    def aligned(self, x: Tensor) -> Tensor:
        """``forward`` with the zeros."""
        more_in, more_out = _missing(self.in_channels), _missing(self.out_channels)
        weight = F.pad(self.weight, (0, 0, 0, 0, 0, more_in, 0, more_out))
        wide = F.conv2d(F.pad(x, (0, 0, 0, 0, 0, more_in)), weight, F.pad(self.bias, (0, more_out)), padding=1)
        return wide[:, : self.out_channels]


def _missing(channels: int) -> int:
    """Channels to the next multiple of 32; none where they are few, or a multiple of 16."""
    return 0 if channels < 32 or channels % 16 == 0 else -channels % 32


class FpnBlock(nn.Sequential):
    """(N, in, h, w) -> (N, out, h, w): twice conv 3x3, ReLU, BatchNorm in this order; the mean width in between."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        middle = round((in_channels + out_channels) / 2)
        layers: list[nn.Module] = []
        for before, after in ((in_channels, middle), (middle, out_channels)):
            layers += [AlignedConv2d(before, after), nn.ReLU(inplace=True), nn.BatchNorm2d(after)]
        super().__init__(*layers)


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


def _column(in_channels: int, out_channels: int) -> nn.Sequential:
    """What one map gives to the hypercolumn: narrowed by a 1x1 convolution, which commutes with interpolation."""
    return nn.Sequential(*_normed(nn.Conv2d(in_channels, out_channels, 1, bias=False)))


class Decoder(nn.Module):
    """Five encoder maps to one map of ``out_channels`` = sum(pyramid_widths) channels at full size.

    Each of the first four decoder maps is joined by the encoder's map of its size before both the next block and the
    mask head's part read it (only so do the FPN decoder's parameters and FLOPs come out as published).
    """

    def __init__(
        self,
        kind: Literal["fpn", "scse"],
        channels: Sequence[int],
        reductions: Sequence[int],
        widths: Sequence[int] | None,
        pyramid_widths: Sequence[int],
        dropout: float,
    ) -> None:
        """
        Args:
            kind: "fpn": an FPN block reads each map; "scse": each map is gated, and narrowed for a hypercolumn.
            channels, reductions: of the five encoder maps, shallowest first (``Encoder``).
            widths: out channels of the five blocks, deepest first; None: those of the skips, then 128 and 128.
            pyramid_widths: channels that each map contributes to the result, deepest first.
            dropout: probability of dropping a channel of a skip (before it is joined) and of the result.
        """
        super().__init__()
        deepest, *skips = reversed(channels)
        widths = widths or (*skips[:3], 128, 128)
        scales = [*reversed(reductions), 1]
        upscales = [coarse // fine for coarse, fine in itertools.pairwise(scales)]
        joined = [width + skip for width, skip in zip(widths, [*skips, 0], strict=True)]
        gate, read = (nn.Identity, FpnBlock) if kind == "fpn" else (ScseGate, _column)
        self.blocks = nn.ModuleList(map(DecoderBlock, [deepest, *joined[:-1]], widths, upscales))
        self.gates = nn.ModuleList(map(gate, joined))
        self.fpn = nn.ModuleList(map(read, joined, pyramid_widths))
        self.dropout = nn.Dropout2d(dropout)
        self.out_channels = sum(pyramid_widths)

    def forward(self, features: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Encoder maps, shallowest first, and the image's (H, W) to (N, out_channels, H, W)."""
        x, *skips = reversed(features)
        pyramid = []
        for level, (block, gate, read) in enumerate(zip(self.blocks, self.gates, self.fpn, strict=True)):
            x = block(x)
            if level < len(skips):
                x = torch.cat([x, self.dropout(skips[level])], dim=1)
            x = gate(x)
            # dropping channels commutes with interpolating and joining them, and costs far less before both
            narrow = self.dropout(read(x))
            pyramid.append(narrow if narrow.shape[-2:] == size else interpolate(narrow, size))
        return torch.cat(pyramid, dim=1)


def interpolate(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, channels, h, w) -> (N, channels, *size), bilinear, as torch's ``interpolate`` without aligned corners."""
    return interpolate_by_products(x, size) if x.is_cuda else F.interpolate(x, size, mode="bilinear")


def interpolate_by_products(x: Tensor, size: tuple[int, int]) -> Tensor:
    """``interpolate`` as a product with one matrix for rows and one for columns.

    Torch's backward pass adds up what each coarse pixel gets by atomic operations: for the seed's four maps and 24
    tiles of 128 x 128 px 1.74 ms on an H100, products 0.13 (forward 0.84 and 0.18).
    """
    count, channels, height, width = x.shape
    rows, columns = (_interpolation(*edges, x) for edges in zip((height, width), size, strict=True))
    x = x.permute(0, 2, 3, 1)  # as it lies in memory with channels last
    x = torch.bmm(rows.expand(count, -1, -1), x.reshape(count, height, width * channels))
    x = torch.bmm(columns.expand(count * size[0], -1, -1), x.reshape(count * size[0], width, channels))
    return x.reshape(count, *size, channels).permute(0, 3, 1, 2)


def _interpolation(before: int, after: int, like: Tensor) -> Tensor:
    """What each of ``after`` places takes of each of ``before`` ones: (after, before)."""
    impulses = torch.eye(before, device=like.device, dtype=torch.promote_types(like.dtype, torch.float32))[None]
    return F.interpolate(impulses, after, mode="linear")[0].T.to(like.dtype)
