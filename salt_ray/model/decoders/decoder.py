"""Which decoder a section of an experiment means.

Every decoder is a module made of its section and of the channels and reductions of the five encoder maps, shallowest
first. It takes these maps and the image's (H, W), and returns one map (N, out_channels, H, W) for the mask head.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from salt_ray.config import Fpn, Scse
from salt_ray.model.decoders.blocks import UNetDecoder
from salt_ray.model.decoders.fpn import FpnBlock
from salt_ray.model.decoders.scse import ScseGate, column


def build_decoder(settings: Fpn | Scse, channels: Sequence[int], reductions: Sequence[int]) -> UNetDecoder:
    """The decoder of a network; random weights are drawn from torch's global RNG.

    Args:
        channels, reductions: of the five encoder maps, shallowest first (``Encoder``).
    """
    match settings:
        case Fpn():
            return UNetDecoder(settings, channels, reductions, gate=nn.Identity, read=FpnBlock)
        case Scse():
            return UNetDecoder(settings, channels, reductions, gate=ScseGate, read=column)
        case other:
            raise AssertionError(f"no decoder for {other!r}")
