"""Every view of a tile is undone exactly."""

import torch

from salt_ray.model.views import views_of


def test_round_trip() -> None:
    images = torch.randn(3, 1, 8, 9)
    for view in views_of(flip=True):
        assert torch.equal(view(view(images)), images)


def test_flipping_adds_one_view_that_differs() -> None:
    images = torch.arange(12.0).reshape(1, 1, 3, 4)
    assert len(views_of(flip=False)) == 1
    _, flipped = views_of(flip=True)
    assert torch.equal(flipped(images)[0, 0, 0], torch.tensor([3.0, 2.0, 1.0, 0.0]))
