"""Lovász hinge, loss and backward of 24 tiles of 128 x 128, against a loop over tiles. Target: twice on the CPU.

On CUDA a second row measures there (target: 10 times).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from benchmarks.harness import alternate, row, survey
from salt_ray.training import losses

_BATCH = 24
_SIDE = 128
#: A batch takes milliseconds: several make one run.
_REPEATS = 5


def measure_on(device: torch.device) -> list[dict]:
    """Milliseconds a batch, on the CPU and, where that is the device, on the GPU."""
    return [_measure_on(kind) for kind in dict.fromkeys(("cpu", device.type))]


def _measure_on(device: str) -> dict:
    _, tiles = survey(_BATCH)
    masks = F.pad(torch.from_numpy(tiles), (13, 14, 13, 14)).to(device)
    assert masks.shape == (_BATCH, _SIDE, _SIDE)
    logits = torch.randn(masks.shape, generator=torch.Generator().manual_seed(0)).to(device) * 3
    ours, ours_gradient = _loss_and_gradient(losses.lovasz_hinge, logits, masks)
    peer, peer_gradient = _loss_and_gradient(one_by_one, logits, masks)
    equal = torch.allclose(ours, peer, rtol=1e-6, atol=1e-6)
    equal &= torch.allclose(ours_gradient, peer_gradient, rtol=0, atol=1e-6)

    def repeat(loss) -> None:
        for _ in range(_REPEATS):
            _loss_and_gradient(loss, logits, masks)
        if device == "cuda":
            torch.cuda.synchronize()

    seconds = alternate(lambda: repeat(losses.lovasz_hinge), lambda: repeat(one_by_one), runs=9, warmup=2)
    ours_seconds, peer_seconds = ([value / _REPEATS for value in side] for side in seconds)
    return row(f"lovasz, loss and backward, {device}", ours_seconds, peer_seconds, "ms/batch", equal)


def _loss_and_gradient(loss, logits: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    leaf = logits.clone().requires_grad_()
    per_tile = loss(leaf, masks)
    per_tile.sum().backward()
    return per_tile.detach(), leaf.grad


def one_by_one(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """The paper's algorithm for each tile in turn: sort with gradient, Jaccard index, difference, dot product."""
    values = []
    for logit, mask in zip(logits, masks, strict=True):
        truth = mask.reshape(-1).float()
        errors = 1.0 - logit.reshape(-1) * (2.0 * truth - 1.0)
        ordered, order = torch.sort(errors, dim=0, descending=True)
        truth = truth[order]
        total = truth.sum()
        jaccard = 1.0 - (total - truth.cumsum(0)) / (total + (1.0 - truth).cumsum(0))
        steps = torch.cat((jaccard[:1], jaccard[1:] - jaccard[:-1]))
        values.append(torch.dot(F.elu(ordered) + 1.0, steps))
    return torch.stack(values)
