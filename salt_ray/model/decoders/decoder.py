"""Which decoder a section of an experiment means.

Every decoder is a module made of its section and of the channels and reductions of the five encoder maps, shallowest
first. It takes these maps and the image's (H, W), and returns one map (N, out_channels, H, W) for the mask head.
"""

from __future__ import annotations

from collections.abc import Sequence

from salt_ray.config import Fpn, Scse
from salt_ray.model.decoders.fpn import FpnDecoder
from salt_ray.model.decoders.scse import ScseDecoder

Decoder = FpnDecoder | ScseDecoder


def build_decoder(settings: Fpn | Scse, channels: Sequence[int], reductions: Sequence[int]) -> Decoder:
    """The decoder of a network; random weights are drawn from torch's global RNG.

    Args:
        channels, reductions: of the five encoder maps, shallowest first (``Encoder``).
    """
    match settings:
        case Fpn():
            return FpnDecoder(settings, channels, reductions)
        case Scse():
            return ScseDecoder(settings, channels, reductions)
        case other:
            raise AssertionError(f"no decoder for {other!r}")
