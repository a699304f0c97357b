"""The network: encoder, decoder, mask head and empty head (method section 3).

N tiles of H x W px. Every output is a logit; probabilities are made elsewhere.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from salt_ray import config
from salt_ray.errors import REPEATED, SaltRayError
from salt_ray.model.decoders.blocks import AlignedConv2d, UNetDecoder, interpolate
from salt_ray.model.decoders.decoder import build_decoder
from salt_ray.model.encoder import Encoder, build_encoder
from salt_ray.section import ExperimentError


class Logits(NamedTuple):
    """What the network says of N tiles, before any sigmoid."""

    #: (N, H, W): is this pixel salt?
    mask_logits: Tensor
    #: (N,): does this tile contain salt?
    salt_logit: Tensor
    #: (N, K, H, W): the mask by each of K deeper decoder maps alone; None without heads for it, and in evaluation.
    auxiliary_logits: Tensor | None = None


class SaltNet(nn.Module):
    """A U-Net for the mask and an empty head on the encoder's deepest map.

    With ``auxiliary_heads`` each deeper map of the decoder learns a mask too (Lee et al., 2015, "Deeply-Supervised
    Nets"). The heads are 1x1 convolutions, which commute with interpolation: they read the maps' parts of the decoder's
    result, and give what they would give at the maps' own sizes, interpolated.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: UNetDecoder,
        mask_head_width: int,
        auxiliary_heads: bool = False,
        input_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.input_scale = input_scale
        self.encoder = encoder
        self.decoder = decoder
        self.mask_head = nn.Sequential(
            AlignedConv2d(decoder.out_channels, mask_head_width),
            nn.ReLU(inplace=True),
            nn.Conv2d(mask_head_width, 1, 1),
        )
        self.empty_head = nn.Linear(encoder.channels[-1], 1)
        deeper = decoder.pyramid_widths[:-1] if auxiliary_heads else ()
        self.auxiliary_heads = nn.ModuleList(nn.Conv2d(width, 1, 1) for width in deeper)  # last: other weights stay

    def forward(self, tiles: Tensor) -> Logits:
        """Grey tiles (N, 1, H, W), float32 in 0..1, to ``Logits``.

        Raises:
            ValueError: the shape is another, or a side times ``input_scale`` (rounded) is not a multiple of the deepest
                map's reduction.
        """
        deepest = self.encoder.reductions[-1]
        size = tuple(tiles.shape[-2:])
        scaled = tuple(round(side * self.input_scale) for side in size)
        if tiles.ndim != 4 or tiles.shape[1] != 1 or any(side % deepest for side in scaled):
            times = "" if scaled == size else f" after scaling by {self.input_scale}"
            raise ValueError(
                f"tiles of shape {tuple(tiles.shape)}: expected is (N, 1, H, W) with H and W multiples of {deepest}"
                f"{times}; change geometry.crop_px or network.input_scale, or pad the tiles"
            )
        if scaled != size:
            tiles = interpolate(tiles, scaled)
        features = self.encoder(tiles.expand(-1, 3, -1, -1))
        pixels = self.decoder(features, scaled)
        mask_logits = self.mask_head(pixels)
        auxiliary_logits = self._auxiliary_logits(pixels) if self.training and self.auxiliary_heads else None
        if scaled != size:
            mask_logits = interpolate(mask_logits, size)
            auxiliary_logits = None if auxiliary_logits is None else interpolate(auxiliary_logits, size)
        return Logits(
            mask_logits=mask_logits.squeeze(1),
            salt_logit=self.empty_head(features[-1].mean(dim=(2, 3))).squeeze(1),
            auxiliary_logits=auxiliary_logits,
        )

    def _auxiliary_logits(self, pixels: Tensor) -> Tensor:
        *deeper, _ = pixels.split(self.decoder.pyramid_widths, dim=1)
        return torch.cat([head(part) for head, part in zip(self.auxiliary_heads, deeper, strict=True)], dim=1)


def build_network(network: config.Network) -> SaltNet:
    """The network of an experiment; random weights are drawn from torch's global RNG.

    Raises:
        ExperimentError: the encoder or its weights cannot be used (``build_encoder``).
    """
    encoder = build_encoder(network.encoder, network.pretrained, network.normalise, network.drop_path)
    decoder = build_decoder(network.decoder, encoder.channels, encoder.reductions)
    return SaltNet(encoder, decoder, network.mask_head_width, network.auxiliary_heads, network.input_scale)


def try_network(network: config.Network, crop_px: int, *, download: bool) -> None:
    """Build a network and let it learn once, so that what is wrong with it is said before a run begins; no RNG moves.

    Args:
        crop_px: edge of the crops that it will see.
        download: False: timm's weights are not fetched, random ones take their place.

    Raises:
        ExperimentError: as ``build_network``, or the network cannot take such crops.
    """
    pretrained = download if network.pretrained is True else network.pretrained
    with torch.random.fork_rng(devices=[]):
        build_encoder(network.encoder, pretrained, network.normalise, network.drop_path)
        try:
            _learn(network, crop_px, "meta")  # shapes alone: no memory, however large the crop
        except (SaltRayError, *REPEATED):
            # Not every encoder can do without values.
            try:
                _learn(network, crop_px, "cpu")
            except REPEATED as error:
                text = str(error).partition("\n")[0]
                raise ExperimentError(
                    f"network.encoder = {network.encoder!r} cannot be trained on crops of {crop_px} x {crop_px} px "
                    f"({text}): choose another encoder, or another geometry.crop_px"
                ) from error


def _learn(network: config.Network, crop_px: int, device: str) -> None:
    """One step on two blank crops (batch norm has no variance of a single one), with random weights."""
    with torch.device(device):
        logits = build_network(network.replace(pretrained=False))(torch.zeros(2, 1, crop_px, crop_px))
    (logits.mask_logits.mean() + logits.salt_logit.mean()).backward()
