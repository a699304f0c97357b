"""network: the published size and cost, shapes, determinism, gradients everywhere."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from salt_ray.config import Fpn, Network, Scse
from salt_ray.model import network as network_module
from salt_ray.model.encoder import timm
from salt_ray.model.network import build_network, try_network
from salt_ray.section import ExperimentError

SMALL = {
    "pretrained": False,
    "decoder": Fpn(widths=(24, 16, 12, 8, 8), pyramid_widths=(4, 4, 4, 4, 4)),
    "mask_head_width": 4,
}


def small(encoder="test_resnet", seed=0, dropout=0.2, **settings):
    torch.manual_seed(seed)
    decoder = SMALL["decoder"].replace(dropout=dropout)
    return build_network(Network(encoder=encoder, **SMALL | {"decoder": decoder} | settings))


@pytest.fixture(scope="module")
def argus_network():
    with torch.device("meta"):
        return build_network(Network(pretrained=False))


def test_size_of_the_published_network(argus_network):
    assert sum(p.numel() for p in argus_network.parameters()) == pytest.approx(62.6e6, rel=0.005)


def test_cost_of_the_published_network(argus_network):
    """57.8 GFLOP (two per multiply-add) a tile of 128 x 128 px, 192 with the backward pass; 64 % FPN, 19 % encoder."""
    tile = torch.zeros(1, 1, 128, 128, device="meta")
    with FlopCounterMode(display=False) as forward:
        argus_network(tile)
    with FlopCounterMode(display=False) as training:
        logits = argus_network(tile)
        (logits.mask_logits.sum() + logits.salt_logit.sum()).backward()
    parts = {name: sum(counts.values()) for name, counts in forward.get_flop_counts().items()}
    total = forward.get_total_flops()
    fpn = sum(parts[f"SaltNet.decoder.fpn.{level}"] for level in range(5))
    assert total == pytest.approx(57.8e9, rel=0.005)
    assert training.get_total_flops() == pytest.approx(192e9, rel=0.005)
    assert fpn / total == pytest.approx(0.64, abs=0.005)
    assert parts["SaltNet.encoder"] / total == pytest.approx(0.19, abs=0.005)


@pytest.mark.parametrize("encoder", ["seresnext50_32x4d", "resnet10t", "mobilenetv3_small_050", "hrnet_w18_small"])
@pytest.mark.parametrize(("height", "width"), [(128, 128), (64, 160)])
def test_shapes(encoder, height, width):
    with torch.device("meta"):
        network = build_network(Network(encoder=encoder, pretrained=False))
        logits = network(torch.zeros(3, 1, height, width))
    assert logits.mask_logits.shape == (3, height, width)
    assert logits.salt_logit.shape == (3,)
    assert logits.mask_logits.dtype == logits.salt_logit.dtype == torch.float32


def test_one_tile_keeps_its_batch_dimension():
    logits = small().eval()(torch.rand(1, 1, 32, 32))
    assert logits.mask_logits.shape == (1, 32, 32)
    assert logits.salt_logit.shape == (1,)


@pytest.mark.parametrize("shape", [(2, 1, 101, 101), (2, 1, 128, 120), (2, 3, 128, 128), (1, 128, 128)])
def test_tiles_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"multiples of 16"):
        small()(torch.zeros(shape))


def test_the_seed_decides_the_weights():
    first, second, other = small(seed=1), small(seed=1), small(seed=2)
    tiles = torch.rand(2, 1, 64, 64)
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(first.eval()(tiles).mask_logits, second.eval()(tiles).mask_logits)
    assert not torch.equal(first.empty_head.weight, other.empty_head.weight)


def test_dropout_only_in_training():
    network, tiles = small(dropout=0.5), torch.rand(2, 1, 64, 64)
    assert not torch.equal(network(tiles).mask_logits, network(tiles).mask_logits)
    network.eval()
    assert torch.equal(network(tiles).mask_logits, network(tiles).mask_logits)


@pytest.mark.parametrize("encoder", ["test_resnet", "mobilenetv3_small_050", "regnetx_002"])
def test_the_gradient_reaches_every_parameter(encoder):
    network = small(encoder, dropout=0.0)
    for module in network.modules():  # timm starts the last BatchNorm of a residual branch at 0: no gradient behind it
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
    logits = network(torch.rand(3, 1, 64, 64))
    (logits.mask_logits.square().mean() + logits.salt_logit.square().mean()).backward()
    untouched = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert untouched == []


def test_each_head_reads_what_it_should():
    """The mask does not depend on the empty head, nor the empty head on the decoder."""
    network = small(dropout=0.0)
    network(torch.rand(2, 1, 32, 32)).salt_logit.sum().backward()
    touched = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None}
    assert touched == {"encoder", "empty_head"}


def test_auxiliary_heads_are_those_of_the_four_deeper_maps_and_are_asked_in_training_only():
    plain, network, tiles = small(dropout=0.0), small(dropout=0.0, auxiliary_heads=True), torch.rand(3, 1, 64, 64)
    weights, others = network.state_dict(), plain.state_dict()
    heads = {f"auxiliary_heads.{level}.{part}" for level in range(4) for part in ("weight", "bias")}
    assert weights.keys() - others.keys() == heads
    assert all(torch.equal(weights[name], value) for name, value in others.items())
    maps = []
    for read in network.decoder.fpn:
        read.register_forward_hook(lambda module, inputs, output: maps.append(output))
    said = network(tiles)
    assert plain(tiles).auxiliary_logits is None and said.auxiliary_logits.shape == (3, 4, 64, 64)
    for level, head in enumerate(network.auxiliary_heads):
        alone = nn.functional.interpolate(head(maps[level]), (64, 64), mode="bilinear").squeeze(1)
        torch.testing.assert_close(said.auxiliary_logits[:, level], alone, rtol=1e-4, atol=1e-5)
    assert all(output.shape[-1] < 64 for output in maps[:4])
    network.eval(), plain.eval()
    said = network(tiles)
    assert said.auxiliary_logits is None and torch.equal(said.mask_logits, plain(tiles).mask_logits)


def test_enlarged_tiles_are_read_and_their_masks_brought_back():
    plain, network = (small(auxiliary_heads=True, dropout=0.0, input_scale=scale) for scale in (1.0, 1.5))
    assert plain.state_dict().keys() == network.state_dict().keys()
    tiles, size = torch.rand(3, 1, 64, 128), (64, 128)
    enlarged = nn.functional.interpolate(tiles, (96, 192), mode="bilinear")
    said, expected = network(tiles), plain(enlarged)
    torch.testing.assert_close(said.salt_logit, expected.salt_logit)
    for ours, theirs in (
        (said.mask_logits[:, None], expected.mask_logits[:, None]),
        (said.auxiliary_logits, expected.auxiliary_logits),
    ):
        torch.testing.assert_close(ours, nn.functional.interpolate(theirs, size, mode="bilinear"))


def test_a_scale_that_the_encoder_cannot_take_is_refused():
    with pytest.raises(ValueError, match=r"multiples of 16 after scaling by 1\.25"):
        small(input_scale=1.25)(torch.rand(2, 1, 32, 32))
    network = Network(encoder="test_resnet", **SMALL, input_scale=1.25)
    with pytest.raises(ExperimentError, match=r"network\.input_scale"):
        try_network(network, 32, download=False)
    try_network(network, 64, download=False)
    small(input_scale=1.1)(torch.rand(2, 1, 160, 160))  # 176.00000000000003 px


def test_torch_compile_sees_one_graph_with_auxiliary_heads_and_enlarged_tiles():
    network = small(decoder=Scse(dropout=0.0), auxiliary_heads=True, input_scale=1.5)
    tiles = torch.rand(2, 1, 64, 64)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(tiles).auxiliary_logits, network(tiles).auxiliary_logits)


def test_torch_compile_sees_one_graph():
    network, tiles = small().eval(), torch.rand(2, 1, 32, 32)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(tiles).mask_logits, network(tiles).mask_logits)


@pytest.mark.parametrize("download", [False, True])
def test_a_network_is_tried_without_a_download_unless_told_and_moves_no_rng(monkeypatch, download):
    asked, create_model = [], timm.create_model

    def without_network(name, pretrained, **options):
        asked.append(pretrained)
        return create_model(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", without_network)
    before = torch.get_rng_state()
    try_network(Network(encoder="test_resnet", **SMALL | {"pretrained": True}), 32, download=download)
    assert asked == [download, False] and torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("encoder", "crop_px", "words"),
    [
        ("mobilevitv2_050", 96, "Sizes of tensors must match"),  # its attention works on patches of 2 px
        ("mobilenetv3_small_050", 48, "multiples of 32"),
    ],
)
def test_an_encoder_that_cannot_take_the_crop_is_refused_before_a_run(encoder, crop_px, words):
    with pytest.raises(ExperimentError, match=rf"network\.encoder = '{encoder}' .* {crop_px} px \(.*{words}.*crop_px"):
        try_network(Network(encoder=encoder, **SMALL), crop_px, download=False)
    try_network(Network(encoder=encoder, **SMALL), 64, download=False)


def test_what_only_the_backward_pass_refuses_is_found(monkeypatch):
    class Careless(nn.Module):
        def forward(self, x):
            y = x.exp()
            return y.mul_(2) + y

    spoilt = lambda *arguments: nn.Sequential(nn.Conv2d(*arguments, 1), Careless())  # noqa: E731
    monkeypatch.setattr("salt_ray.model.decoders.decoder.column", spoilt)
    with pytest.raises(ExperimentError, match="modified by an inplace operation"):
        try_network(Network(encoder="test_resnet", **SMALL | {"decoder": Scse()}), 32, download=False)


def test_a_network_that_needs_values_to_know_its_shapes_is_tried_with_values(monkeypatch):
    devices, learn = [], network_module._learn

    def without_meta(network, crop_px, device):
        devices.append(device)
        if device == "meta":
            raise NotImplementedError("aten::_local_scalar_dense on the meta device")
        learn(network, crop_px, device)

    monkeypatch.setattr(network_module, "_learn", without_meta)
    try_network(Network(encoder="test_resnet", **SMALL), 32, download=False)
    assert devices == ["meta", "cpu"]
