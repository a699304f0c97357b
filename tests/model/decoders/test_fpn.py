"""fpn: the block's order and widths, and those of the method."""

import torch
from torch import nn

from salt_ray.config import Fpn
from salt_ray.model.decoders.blocks import AlignedConv2d
from salt_ray.model.decoders.decoder import build_decoder
from salt_ray.model.decoders.fpn import FpnBlock


def test_fpn_block_normalises_after_the_relu_and_has_the_mean_width_between():
    block = FpnBlock(2048, 128)
    assert [type(m) for m in block] == [AlignedConv2d, nn.ReLU, nn.BatchNorm2d] * 2
    assert block[0].out_channels == 1088


def test_default_widths_are_those_of_the_method():
    with torch.device("meta"):
        network = build_decoder(Fpn(), (64, 256, 512, 1024, 2048), (2, 2, 4, 8, 16))
    ends = [(block[0].in_channels, block[-3].out_channels) for block in network.blocks]
    assert ends == [(2048, 1024), (2048, 512), (1024, 256), (512, 128), (192, 128)]
    assert [(block[0].in_channels, block[3].out_channels) for block in network.fpn] == [
        (2048, 128), (1024, 64), (512, 32), (192, 16), (128, 8)
    ]  # fmt: skip
    assert network.out_channels == 248
