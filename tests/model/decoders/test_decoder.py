"""decoder: what every decoder keeps to, whichever section it is made of."""

from typing import get_args

import pytest
import torch

from salt_ray.config import Fpn, Network, Scse
from salt_ray.model.decoders.decoder import build_decoder

CHANNELS = (4, 6, 8, 10, 12)
REDUCTIONS = (2, 2, 4, 8, 16)
SECTIONS = [kind(widths=(8, 7, 6, 5, 4), pyramid_widths=(6, 5, 4, 3, 2), dropout=0.5) for kind in (Fpn, Scse)]
each_kind = pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.kind)


def maps(reductions=REDUCTIONS, height=32, width=64):
    return [torch.rand(3, c, height // r, width // r) for c, r in zip(CHANNELS, reductions, strict=True)]


def test_every_decoder_is_tried():
    assert set(get_args(Network.model_fields["decoder"].annotation)) == set(map(type, SECTIONS))


@each_kind
@pytest.mark.parametrize("reductions", [REDUCTIONS, (2, 4, 8, 16, 32), (4, 4, 8, 16, 16), (1, 2, 4, 8, 16)])
def test_result_has_full_size_whatever_the_reductions(section, reductions):
    decoder = build_decoder(section, CHANNELS, reductions)
    assert decoder(maps(reductions), (32, 64)).shape == (3, decoder.out_channels, 32, 64)


@each_kind
def test_nothing_is_random_in_prediction(section):
    decoder, features = build_decoder(section, CHANNELS, REDUCTIONS).eval(), maps()
    assert torch.equal(decoder(features, (32, 64)), decoder(features, (32, 64)))


@each_kind
def test_the_seed_decides_the_weights(section):
    states = []
    for _ in range(2):
        torch.manual_seed(0)
        states.append(build_decoder(section, CHANNELS, REDUCTIONS).state_dict())
    first, second = states
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
