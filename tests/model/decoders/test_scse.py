"""scse: gates, and columns that may be narrowed before they are interpolated."""

import torch
from torch import nn

from salt_ray.config import Scse
from salt_ray.model.decoders.decoder import build_decoder
from salt_ray.model.decoders.scse import ScseGate

CHANNELS, REDUCTIONS = (4, 6, 8, 10, 12), (2, 2, 4, 8, 16)


def test_gates_scale_channels_and_pixels():
    gate, x = ScseGate(32), torch.randn(2, 32, 5, 7)
    ratio = gate(x) / x
    assert ratio.min() > 0 and ratio.max() < 2
    by_channel, by_pixel = gate.channels(x).sigmoid(), gate.pixels(x).sigmoid()
    assert by_channel.shape == (2, 32, 1, 1) and by_pixel.shape == (2, 1, 5, 7)
    torch.testing.assert_close(ratio, (by_channel + by_pixel).expand_as(x))


def test_gates_change_what_the_next_block_reads():
    network, seen = build_decoder(Scse(), CHANNELS, REDUCTIONS), []
    network.blocks[1].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    network.gates[0].register_forward_hook(lambda module, inputs, output: seen.append(output))
    network([torch.rand(3, c, 32 // r, 64 // r) for c, r in zip(CHANNELS, REDUCTIONS, strict=True)], (32, 64))
    assert seen[0] is seen[1]


def test_narrowing_before_or_after_interpolation_is_the_same():
    convolution, widen = nn.Conv2d(6, 3, 1, bias=False), nn.Upsample(scale_factor=4, mode="bilinear")
    coarse = torch.rand(2, 6, 4, 4)
    torch.testing.assert_close(widen(convolution(coarse)), convolution(widen(coarse)))


def test_its_parameters_have_the_names_of_checkpoints():
    with torch.device("meta"):
        names = build_decoder(Scse(), CHANNELS, REDUCTIONS).state_dict()
    assert {name.split(".")[0] for name in names} == {"blocks", "gates", "fpn"}
