"""blocks: what decoders share keeps sizes, widths and functions, whichever way they are computed."""

import pytest
import torch
from torch import nn

from salt_ray.config import UNetDecoder as Section
from salt_ray.model.decoders.blocks import (
    AlignedConv2d,
    DecoderBlock,
    UNetDecoder,
    interpolate,
    interpolate_by_products,
)
from salt_ray.model.decoders.fpn import FpnBlock

CHANNELS, REDUCTIONS = (4, 6, 8, 10, 12), (2, 2, 4, 8, 16)
SECTION = Section(widths=(8, 7, 6, 5, 4), pyramid_widths=(6, 5, 4, 3, 2), dropout=0.5)


def maps():
    return [torch.rand(3, c, 32 // r, 64 // r) for c, r in zip(CHANNELS, REDUCTIONS, strict=True)]


def unet():
    torch.manual_seed(0)
    return UNetDecoder(SECTION, CHANNELS, REDUCTIONS, gate=nn.Identity, read=FpnBlock)


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


def test_the_result_has_a_channel_for_each_that_a_map_contributes():
    assert unet().out_channels == sum(SECTION.pyramid_widths)


def test_dropout_is_random_in_training_only():
    decoder, features = unet(), maps()
    assert not torch.equal(decoder(features, (32, 64)), decoder(features, (32, 64)))
    decoder.eval()
    assert torch.equal(decoder(features, (32, 64)), decoder(features, (32, 64)))


def test_dropout_falls_on_every_skip_and_on_whole_channels_of_the_result():
    decoder, seen = unet(), []
    decoder.dropout.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[1]))
    result = decoder(maps(), (32, 64))
    assert sorted(seen) == sorted((*CHANNELS[:-1], *SECTION.pyramid_widths))
    dropped = (result == 0).all(dim=(2, 3))
    assert 0.2 < dropped.float().mean() < 0.8
    assert (result[~dropped] != 0).any(dim=-1).all()


def test_dropping_before_or_after_interpolation_is_the_same():
    narrow, keep = torch.rand(2, 5, 4, 4), torch.tensor([0.0, 2, 2, 0, 2]).view(1, 5, 1, 1)
    widen = nn.Upsample(scale_factor=8, mode="bilinear")
    torch.testing.assert_close(widen(narrow * keep), widen(narrow) * keep)
