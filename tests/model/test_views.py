"""Every view of a tile is undone exactly."""

import torch

from salt_ray.model.views import transforms


def test_round_trip() -> None:
    images = torch.randn(3, 1, 8, 9)
    for view in transforms(flip=True):
        assert torch.equal(view.undo(view.apply(images)), images)


def test_flipping_adds_one_view_that_differs() -> None:
    images = torch.arange(12.0).reshape(1, 1, 3, 4)
    assert len(transforms(flip=False)) == 1
    _, flipped = transforms(flip=True)
    assert torch.equal(flipped.apply(images)[0, 0, 0], torch.tensor([3.0, 2.0, 1.0, 0.0]))
