"""decoder: sizes follow from the encoder's reductions, widths from the method, dropout falls on skips and result."""

import pytest
import torch
from torch import nn

from salt_ray.model.decoder import (
    AlignedConv2d,
    Decoder,
    DecoderBlock,
    FpnBlock,
    ScseGate,
    interpolate,
    interpolate_by_products,
)

CHANNELS = (4, 6, 8, 10, 12)
FPN_WIDTHS = (6, 5, 4, 3, 2)


def decoder(reductions=(2, 2, 4, 8, 16), dropout=0.0, widths=(8, 7, 6, 5, 4), kind="fpn"):
    torch.manual_seed(0)
    return Decoder(kind, CHANNELS, reductions, widths, FPN_WIDTHS, dropout)


def maps(reductions=(2, 2, 4, 8, 16), height=32, width=64):
    return [torch.rand(3, c, height // r, width // r) for c, r in zip(CHANNELS, reductions, strict=True)]


@pytest.mark.parametrize("upscale", [1, 2, 4, 8])
def test_block_scales_up(upscale):
    assert DecoderBlock(12, 5, upscale)(torch.rand(2, 12, 3, 4)).shape == (2, 5, 3 * upscale, 4 * upscale)


def test_block_narrows_to_a_quarter():
    convolutions = [m for m in DecoderBlock(64, 24, 2) if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert [(c.in_channels, c.out_channels, c.kernel_size[0]) for c in convolutions] == [
        (64, 16, 1),
        (16, 16, 3),
        (16, 24, 1),
    ]


def test_fpn_block_normalises_after_the_relu_and_has_the_mean_width_between():
    block = FpnBlock(2048, 128)
    assert [type(m) for m in block] == [AlignedConv2d, nn.ReLU, nn.BatchNorm2d] * 2
    assert block[0].out_channels == 1088


@pytest.mark.parametrize("kind", ["fpn", "scse"])
@pytest.mark.parametrize("reductions", [(2, 2, 4, 8, 16), (2, 4, 8, 16, 32), (4, 4, 8, 16, 16), (1, 2, 4, 8, 16)])
def test_result_has_full_size_whatever_the_reductions(reductions, kind):
    network = decoder(reductions, kind=kind)
    assert network.out_channels == sum(FPN_WIDTHS)
    assert network(maps(reductions), (32, 64)).shape == (3, sum(FPN_WIDTHS), 32, 64)


@pytest.mark.parametrize("size", [(16, 32), (32, 64), (12, 30)])
def test_interpolation_by_products_is_the_same_and_so_is_its_gradient(size):
    results = []
    for way in (interpolate, interpolate_by_products):
        torch.manual_seed(0)
        x = torch.randn(3, 5, 4, 8, dtype=torch.float64).to(memory_format=torch.channels_last).requires_grad_()
        y = way(x, size)
        y.mul(torch.randn_like(y)).sum().backward()
        results.append((y, x.grad))
    assert results[0][0].shape == (3, 5, *size)
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("channels", [(128, 68), (68, 8), (248, 32), (272, 32), (3, 5)])
def test_channels_that_fill_up_change_neither_result_nor_gradients(channels):
    torch.manual_seed(0)
    convolution, results = AlignedConv2d(*channels).double(), []
    for way in (convolution, convolution.aligned):
        x = torch.randn(2, channels[0], 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        y = way(x.requires_grad_())
        gradients = torch.autograd.grad(y.square().sum(), (x, *convolution.parameters()))
        results.append((y, *gradients))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_default_widths_are_those_of_the_method():
    with torch.device("meta"):
        network = Decoder("fpn", (64, 256, 512, 1024, 2048), (2, 2, 4, 8, 16), None, (128, 64, 32, 16, 8), 0.2)
    ends = [(block[0].in_channels, block[-3].out_channels) for block in network.blocks]
    assert ends == [(2048, 1024), (2048, 512), (1024, 256), (512, 128), (192, 128)]
    assert [(block[0].in_channels, block[3].out_channels) for block in network.fpn] == [
        (2048, 128), (1024, 64), (512, 32), (192, 16), (128, 8)
    ]  # fmt: skip
    assert network.out_channels == 248


def test_dropout_is_random_in_training_only():
    network, features = decoder(dropout=0.5), maps()
    assert not torch.equal(network(features, (32, 64)), network(features, (32, 64)))
    network.eval()
    assert torch.equal(network(features, (32, 64)), network(features, (32, 64)))


def test_dropout_falls_on_every_skip_and_on_whole_channels_of_the_result():
    network, seen = decoder(dropout=0.5), []
    network.dropout.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[1]))
    result = network(maps(), (32, 64))
    assert sorted(seen) == sorted((*CHANNELS[:-1], *FPN_WIDTHS))
    dropped = (result == 0).all(dim=(2, 3))
    assert 0.2 < dropped.float().mean() < 0.8
    assert (result[~dropped] != 0).any(dim=-1).all()


def test_dropping_before_or_after_interpolation_is_the_same():
    narrow, keep = torch.rand(2, 5, 4, 4), torch.tensor([0.0, 2, 2, 0, 2]).view(1, 5, 1, 1)
    widen = nn.Upsample(scale_factor=8, mode="bilinear")
    torch.testing.assert_close(widen(narrow * keep), widen(narrow) * keep)


def test_gates_scale_channels_and_pixels():
    gate, x = ScseGate(32), torch.randn(2, 32, 5, 7)
    ratio = gate(x) / x
    assert ratio.min() > 0 and ratio.max() < 2
    by_channel, by_pixel = gate.channels(x).sigmoid(), gate.pixels(x).sigmoid()
    assert by_channel.shape == (2, 32, 1, 1) and by_pixel.shape == (2, 1, 5, 7)
    torch.testing.assert_close(ratio, (by_channel + by_pixel).expand_as(x))


def test_gates_change_what_the_next_block_reads():
    network, seen = decoder(kind="scse"), []
    network.blocks[1].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    network.gates[0].register_forward_hook(lambda module, inputs, output: seen.append(output))
    network(maps(), (32, 64))
    assert seen[0] is seen[1]


def test_narrowing_before_or_after_interpolation_is_the_same():
    convolution, widen = nn.Conv2d(6, 3, 1, bias=False), nn.Upsample(scale_factor=4, mode="bilinear")
    coarse = torch.rand(2, 6, 4, 4)
    torch.testing.assert_close(widen(convolution(coarse)), convolution(widen(coarse)))
