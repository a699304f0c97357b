"""Losses: a slow reference tile by tile, gradients, invariants, what an empty mask does, and golden values."""

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from salt_ray.config import Plateau, Stage
from salt_ray.model.network import Logits
from salt_ray.training.losses import (
    auxiliary_loss,
    combined_loss,
    lovasz_hinge,
    pixel_bce,
    salt_bce,
    symmetric_lovasz,
)

GOLDEN = Path(__file__).with_name("golden_losses.json")


def _batch(tiles: int = 6, side: int = 24) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits (N, S, S), salt logits (N,), masks (N, S, S): the first mask is empty, the second full."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(tiles, side, side, generator=generator) * 2
    masks = torch.rand(tiles, side, side, generator=generator) < torch.linspace(0, 1, tiles)[:, None, None]
    masks[0], masks[1] = False, True
    return logits, torch.randn(tiles, generator=generator), masks


def _reference(logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The loss of one tile in float64 from the definition: the Jaccard index of growing sets of wrong pixels."""
    errors = [1 - x * (1 if m else -1) for x, m in zip(logits.reshape(-1), mask.reshape(-1).tolist(), strict=True)]
    salt = {i for i, m in enumerate(mask.reshape(-1).tolist()) if m}
    loss, before, lost, invented = torch.zeros((), dtype=torch.float64), 0.0, 0, 0
    for i in sorted(range(len(errors)), key=lambda i: -errors[i].item()):
        lost, invented = lost + (i in salt), invented + (i not in salt)
        jaccard_loss = 1 - (len(salt) - lost) / (len(salt) + invented)
        loss = loss + (F.elu(errors[i]) + 1) * (jaccard_loss - before)
        before = jaccard_loss
    return loss


def test_loss_and_gradient_equal_the_reference_tile_by_tile():
    logits, _, masks = _batch()
    ours_leaf, reference_leaf = logits.clone().requires_grad_(), logits.double().requires_grad_()
    ours = lovasz_hinge(ours_leaf, masks)
    reference = torch.stack([_reference(*pair) for pair in zip(reference_leaf, masks, strict=True)])
    torch.testing.assert_close(ours.double(), reference, rtol=1e-6, atol=1e-6)
    ours.sum().backward()
    reference.sum().backward()
    torch.testing.assert_close(ours_leaf.grad.double(), reference_leaf.grad, rtol=0, atol=1e-6)


def _stage(lovasz: float, bce: float, pixel_bce: float = 0.0) -> Stage:
    weights = {"lovasz_weight": lovasz, "bce_weight": bce, "pixel_bce_weight": pixel_bce}
    return Stage(name="s", epochs=1, batch_size=1, lr=0.1, schedule=Plateau(), **weights)


def test_golden_values():
    logits, salt_logit, masks = _batch()
    golden = json.loads(GOLDEN.read_text())
    assert lovasz_hinge(logits, masks).tolist() == pytest.approx(golden["lovasz_hinge"], rel=1e-5)
    assert salt_bce(salt_logit, masks).tolist() == pytest.approx(golden["salt_bce"], rel=1e-5)
    assert combined_loss(Logits(logits, salt_logit), masks, _stage(0.75, 0.25)).item() == pytest.approx(
        golden["combined"], rel=1e-5
    )


def test_the_places_of_pixels_and_tiles_do_not_matter():
    logits, _, masks = _batch()
    losses = lovasz_hinge(logits, masks)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randperm(24 * 24, generator=generator)
    moved = [x.flatten(1)[:, pixels].reshape(x.shape) for x in (logits, masks)]
    torch.testing.assert_close(lovasz_hinge(*moved), losses, rtol=1e-6, atol=1e-6)
    tiles = torch.randperm(len(logits), generator=generator)
    torch.testing.assert_close(lovasz_hinge(logits[tiles], masks[tiles]), losses[tiles], rtol=1e-6, atol=1e-6)


def test_an_empty_mask_costs_its_largest_logit_alone():
    logits, _, masks = _batch()
    leaf = logits[:1].clone().requires_grad_()
    loss = lovasz_hinge(leaf, masks[:1])
    assert loss.item() == pytest.approx((F.elu(1 + leaf.max()) + 1).item(), rel=1e-6)
    loss.sum().backward()
    assert leaf.grad.flatten().nonzero().tolist() == [[leaf.argmax().item()]]
    assert lovasz_hinge(torch.full((1, 8, 8), -30.0), torch.zeros(1, 8, 8)).item() < 1e-6
    assert lovasz_hinge(torch.full((1, 8, 8), 5.0), torch.zeros(1, 8, 8)).item() == pytest.approx(7.0)


def test_a_full_mask_costs_the_mean_of_its_pixels():
    logits, _, masks = _batch()
    expected = (F.elu(1 - logits[1]) + 1).mean()
    assert lovasz_hinge(logits[1:2], masks[1:2]).item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_better_answer_costs_less_and_a_perfect_one_nothing():
    _, _, masks = _batch()
    signs = masks.float() * 2 - 1
    for worse, better in ((-4.0, -1.0), (-1.0, 0.5), (0.5, 3.0)):
        assert (lovasz_hinge(signs * better, masks) < lovasz_hinge(signs * worse, masks)).all()
    assert lovasz_hinge(signs * 30, masks).max() < 1e-6


def test_masks_of_numbers_are_masks_of_truth_values():
    logits, salt_logit, masks = _batch()
    assert torch.equal(lovasz_hinge(logits, masks.float()), lovasz_hinge(logits, masks))
    assert torch.equal(salt_bce(salt_logit, masks.float()), salt_bce(salt_logit, masks))


def test_half_precision_logits_are_computed_in_float32():
    logits, salt_logit, masks = _batch()
    half, half_salt = logits.bfloat16(), salt_logit.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = lovasz_hinge(half, masks), salt_bce(half_salt, masks)
    assert losses[0].dtype == losses[1].dtype == torch.float32
    assert torch.equal(losses[0], lovasz_hinge(half.float(), masks))
    assert torch.equal(losses[1], salt_bce(half_salt.float(), masks))


def test_a_lost_network_shows():
    logits, _, masks = _batch()
    logits[2, 3, 3] = math.nan
    assert lovasz_hinge(logits, masks).isnan().tolist() == [False, False, True, False, False, False]


def test_the_empty_head_learns_whether_there_is_any_salt():
    masks = torch.zeros(2, 5, 5, dtype=torch.bool)
    masks[1, 4, 4] = True
    losses = salt_bce(torch.tensor([1.5, 1.5]), masks)
    assert losses.tolist() == pytest.approx([math.log1p(math.exp(1.5)), math.log1p(math.exp(-1.5))], rel=1e-6)


def test_the_combination_is_the_mean_of_the_weighted_sum():
    logits, salt_logit, masks = _batch()
    both = 0.75 * lovasz_hinge(logits, masks) + 0.25 * salt_bce(salt_logit, masks)
    assert combined_loss(Logits(logits, salt_logit), masks, _stage(0.75, 0.25)).item() == pytest.approx(
        both.mean().item(), rel=1e-6
    )
    only_mask = combined_loss(Logits(logits, salt_logit), masks, _stage(1.0, 0.0))
    assert only_mask.item() == pytest.approx(lovasz_hinge(logits, masks).mean().item(), rel=1e-6)
    assert only_mask.shape == ()


def test_pixel_cross_entropy_is_a_mean_per_tile_and_an_empty_mask_is_no_exception():
    logits, salt_logit, masks = _batch()
    probability = logits.double().sigmoid()
    wanted = -torch.where(masks.bool(), probability, 1 - probability).log().mean(dim=(1, 2))
    torch.testing.assert_close(pixel_bce(logits, masks).double(), wanted, rtol=1e-5, atol=1e-6)
    both = combined_loss(Logits(logits, salt_logit), masks, _stage(0, 0.5, 2))
    assert both.item() == pytest.approx((2 * wanted + 0.5 * salt_bce(salt_logit, masks)).mean().item(), rel=1e-5)


def test_arguments_are_left_alone_and_wrong_shapes_named():
    logits, salt_logit, masks = _batch()
    kept = logits.clone(), masks.clone()
    combined_loss(Logits(logits, salt_logit), masks, _stage(0.5, 0.5))
    assert torch.equal(logits, kept[0])
    assert torch.equal(masks, kept[1])
    with pytest.raises(ValueError, match="N, H, W"):
        lovasz_hinge(logits[:, None], masks)
    with pytest.raises(ValueError, match="N, H, W"):
        lovasz_hinge(logits, masks[:, :12])
    with pytest.raises(ValueError, match="expected 6 salt logits"):
        salt_bce(salt_logit[:, None], masks)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_agrees():
    logits, salt_logit, masks = _batch()
    there = combined_loss(Logits(logits.cuda(), salt_logit.cuda()), masks.cuda(), _stage(0.75, 0.25))
    assert there.item() == pytest.approx(
        combined_loss(Logits(logits, salt_logit), masks, _stage(0.75, 0.25)).item(), rel=1e-6
    )


def test_the_symmetric_hinge_takes_background_as_it_takes_salt():
    logits, salt_logit, masks = _batch()
    losses = symmetric_lovasz(logits, masks)
    torch.testing.assert_close(symmetric_lovasz(-logits, ~masks), losses)
    torch.testing.assert_close(symmetric_lovasz(logits, masks.float()), losses)
    reference = torch.stack([(_reference(x, m) + _reference(-x, ~m)) / 2 for x, m in zip(logits, masks, strict=True)])
    torch.testing.assert_close(losses.double(), reference, rtol=1e-6, atol=1e-6)
    empty = (F.elu(1 + logits[0].max()) + 1 + (F.elu(1 + logits[0]) + 1).mean()) / 2
    assert losses[0].item() == pytest.approx(empty.item(), rel=1e-6)
    stage = _stage(1.0, 0.0).replace(lovasz="symmetric")
    assert combined_loss(Logits(logits, salt_logit), masks, stage).item() == pytest.approx(losses.mean().item())


@pytest.mark.parametrize("lovasz", [lovasz_hinge, symmetric_lovasz])
def test_deeper_maps_are_asked_for_the_mask_where_there_is_salt(lovasz):
    """As the stage asks the whole network for it, map by map; an empty mask asks nothing of them."""
    logits, salt_logit, masks = _batch()
    salt = masks.flatten(1).any(dim=1)
    assert salt.any() and not salt.all()
    maps = torch.stack([logits, -logits, 3 * logits], dim=1).requires_grad_()
    stage = _stage(0.75, 0.25, 0.5).replace(lovasz="symmetric" if lovasz is symmetric_lovasz else "hinge")
    each = [0.75 * lovasz(its, masks) + 0.5 * pixel_bce(its, masks) for its in maps.unbind(dim=1)]
    wanted = torch.stack(each).mean(dim=0) * salt
    torch.testing.assert_close(auxiliary_loss(maps, masks, stage), wanted)
    torch.testing.assert_close(auxiliary_loss(maps, masks.float(), stage), wanted)
    without = combined_loss(Logits(logits, salt_logit), masks, stage)
    weighed = stage.replace(auxiliary_weight=0.4)
    assert combined_loss(Logits(logits, salt_logit), masks, weighed) == without
    assert combined_loss(Logits(logits, salt_logit, maps), masks, stage) == without
    loss = combined_loss(Logits(logits, salt_logit, maps), masks, weighed)
    assert loss.item() == pytest.approx((without + 0.4 * wanted.mean()).item(), rel=1e-6)
    loss.backward()
    assert torch.equal(maps.grad.flatten(1).any(dim=1), salt)


def _partial() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """``_batch`` with masks int8, -1 where not labelled: half of each tile's pixels, all of the last tile's."""
    logits, salt_logit, masks = _batch()
    generator = torch.Generator().manual_seed(8)
    unlabelled = torch.rand(masks.shape, generator=generator) < 0.5
    unlabelled[-1] = True
    return logits, salt_logit, masks.char().masked_fill(unlabelled, -1)


def test_what_is_said_of_unlabelled_pixels_changes_no_loss_and_gets_no_gradient():
    logits, salt_logit, masks = _partial()
    stage = _stage(0.75, 0.25, 0.5).replace(auxiliary_weight=0.4)
    for lovasz in ("hinge", "symmetric"):
        found = []
        for elsewhere in (0.0, 50.0, -50.0):
            leaf = torch.where(masks < 0, elsewhere, logits).requires_grad_()
            all_logits = Logits(leaf, salt_logit, torch.stack([leaf, -leaf], dim=1))
            loss = combined_loss(all_logits, masks, stage.replace(lovasz=lovasz))
            loss.backward()
            found.append((loss.item(), leaf.grad))
            assert (leaf.grad[masks < 0] == 0).all() and leaf.grad[masks >= 0].any()
        assert found[0][0] == found[1][0] == found[2][0]
        assert torch.equal(found[0][1], found[1][1]) and torch.equal(found[0][1], found[2][1])


@pytest.mark.parametrize("loss", [lovasz_hinge, symmetric_lovasz, pixel_bce])
def test_the_loss_of_a_tile_is_that_of_its_labelled_pixels_alone(loss):
    logits, _, masks = _partial()
    losses = loss(logits, masks)
    for each, tile, mask in zip(losses[:-1], logits, masks, strict=False):
        alone = loss(tile[mask >= 0][None, None], (mask[mask >= 0] > 0)[None, None])
        torch.testing.assert_close(each, alone[0], rtol=1e-6, atol=1e-6)
    assert losses[-1] == 0  # of which nothing is labelled


def test_the_empty_head_learns_only_from_tiles_of_which_it_is_known_whether_they_hold_salt():
    masks = torch.zeros(4, 5, 5, dtype=torch.int8)
    masks[1, 0, 0] = masks[2, 0, 0] = -1
    masks[2, 4, 4] = masks[3, 4, 4] = 1
    losses = salt_bce(torch.full((4,), 1.5), masks)
    empty, salt = math.log1p(math.exp(1.5)), math.log1p(math.exp(-1.5))
    assert losses.tolist() == pytest.approx([empty, 0, salt, salt], rel=1e-6)


def test_deeper_maps_learn_only_where_a_labelled_pixel_is_salt():
    logits, _, masks = _partial()
    masks[2] = torch.where(masks[2] > 0, -1, masks[2])  # its salt is not labelled
    losses = auxiliary_loss(logits[:, None], masks, _stage(1.0, 0.0))
    assert (losses > 0).tolist() == [False, True, False, True, True, False]
