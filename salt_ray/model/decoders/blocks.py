"""What decoders share: U-Net blocks from the deepest map up, of whose maps each gives the mask head a part.

Sources: U-Net (Ronneberger et al., 2015); the block with a transposed convolution (LinkNet, Chaurasia and Culurciello,
2017). N images of H x W px; the encoder's maps come shallowest first, the decoder's widths deepest first.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salt_ray import config


class DecoderBlock(nn.Sequential):
    """(N, in, h, w) -> (N, out, upscale * h, upscale * w): narrow to a quarter, upscale, widen.

    ``upscale`` is a power of two: a transposed convolution for each doubling, one plain convolution for 1.
    """

    def __init__(self, in_channels: int, out_channels: int, upscale: int) -> None:
        middle = max(1, in_channels // 4)
        doublings = upscale.bit_length() - 1
        assert upscale == 2**doublings
        layers = normed(nn.Conv2d(in_channels, middle, 1, bias=False))
        for _ in range(doublings):
            layers += normed(nn.ConvTranspose2d(middle, middle, 3, 2, padding=1, output_padding=1, bias=False))
        if doublings == 0:
            layers += normed(nn.Conv2d(middle, middle, 3, padding=1, bias=False))
        layers += normed(nn.Conv2d(middle, out_channels, 1, bias=False))
        super().__init__(*layers)


def normed(convolution: nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
    """A convolution, BatchNorm and ReLU in this order."""
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


class UNetDecoder(nn.Module):
    """Five encoder maps to one map of ``out_channels`` = sum(pyramid_widths) channels at full size, deepest part first.

    Each of the first four decoder maps is joined by the encoder's map of its size before both the next block and the
    mask head's part read it (only so do the FPN decoder's parameters and FLOPs come out as published).
    """

    def __init__(
        self,
        settings: config.UNetDecoder,
        channels: Sequence[int],
        reductions: Sequence[int],
        gate: Callable[[int], nn.Module],
        read: Callable[[int, int], nn.Module],
    ) -> None:
        """
        Args:
            settings: widths, and the probability of dropping a channel of a skip (before it is joined) and of the
                result.
            channels, reductions: of the five encoder maps, shallowest first (``Encoder``).
            gate: a module of a joined map's channels that keeps its shape; the next block and ``read`` see its result.
            read: a module of channels before and after that makes a map's part of the result and keeps its size.
        """
        super().__init__()
        deepest, *skips = reversed(channels)
        widths = settings.widths or (*skips[:3], 128, 128)
        scales = [*reversed(reductions), 1]
        upscales = [coarse // fine for coarse, fine in itertools.pairwise(scales)]
        joined = [width + skip for width, skip in zip(widths, [*skips, 0], strict=True)]
        self.blocks = nn.ModuleList(map(DecoderBlock, [deepest, *joined[:-1]], widths, upscales))
        self.gates = nn.ModuleList(map(gate, joined))
        # in checkpoints the modules that read the maps have the name of the first kind
        self.fpn = nn.ModuleList(map(read, joined, settings.pyramid_widths))
        self.dropout = nn.Dropout2d(settings.dropout)
        self.pyramid_widths = settings.pyramid_widths
        self.out_channels = sum(settings.pyramid_widths)

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

    Torch's backward pass adds up what each coarse pixel gets by atomic operations: for the four maps of Argus and 24
    tiles of 128 x 128 px 1.74 ms on an H100, products 0.13 (forward 0.84 and 0.18).
    """
    count, channels, height, width = x.shape
    rows, columns = (_interpolation(*edges, x) for edges in zip((height, width), size, strict=True))
    x = x.permute(0, 2, 3, 1)  # the layout in memory with channels last
    x = torch.bmm(rows.expand(count, -1, -1), x.reshape(count, height, width * channels))
    x = torch.bmm(columns.expand(count * size[0], -1, -1), x.reshape(count * size[0], width, channels))
    return x.reshape(count, *size, channels).permute(0, 3, 1, 2)


def _interpolation(before: int, after: int, like: Tensor) -> Tensor:
    """What each of ``after`` places takes of each of ``before`` ones: (after, before)."""
    impulses = torch.eye(before, device=like.device, dtype=torch.promote_types(like.dtype, torch.float32))[None]
    return F.interpolate(impulses, after, mode="linear")[0].T.to(like.dtype)
