"""Training steps of the loop against a plain eager fp32 PyTorch loop with a DataLoader, as the seed trained.

On a CPU the demo's network with the seed's batch of 24; on CUDA the seed's network. The peer augments tile by tile
in DataLoader workers, keeps the default memory format and computes Lovasz tile by tile; written from its description.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.harness import row, survey
from benchmarks.lovasz import one_by_one
from experiments.demo import experiment as demo_experiment
from experiments.random_folds import STAGE_1
from experiments.random_folds import experiment as seed_experiment
from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment, Stage
from salt_ray.model.network import build_network
from salt_ray.survey.augment import Augmenter
from salt_ray.survey.folds import random_folds
from salt_ray.survey.padding import frame_for, operator
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.training.loop import FoldTask, train_fold
from salt_ray.training.losses import combined_loss

RUNS = 3


def measure() -> list[dict]:
    """Seconds per tile of one training epoch without validation, ours and the peer's in turn."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    experiment, name, tiles = (
        (seed_experiment(), "train, seed's network", 2000)
        if device.type == "cuda"
        else (demo_experiment(), "train, demo's network", 192)
    )
    stage = STAGE_1.replace(epochs=2, early_stopping=None)
    training = experiment.trainings[0]
    experiment = experiment.replace(
        network=experiment.network.replace(pretrained=False),
        trainings=(training.replace(folds=training.folds.replace(count=2), stages=(stage,)),),
    )
    images, masks = survey(tiles)
    frame = frame_for(101, experiment.geometry)
    padding = operator(frame.tile_px, frame.padded_px)
    ids = np.array([f"{i:06d}" for i in range(tiles)])
    data = TrainingTiles("bench", ids, padding.images(images), padding.masks(masks), frame)
    ours, peer = [], []
    for _ in range(RUNS):
        ours.append(_ours(experiment, data, device))
        peer.append(_peer(experiment, data, device))
    logits, salt_logit = torch.randn(24, 128, 128, device=device), torch.randn(24, device=device)
    truth = logits + torch.randn_like(logits) > 1
    one, other = (loss(logits, salt_logit, truth, stage) for loss in (combined_loss, _plain_loss))
    return [row(name, ours, peer, "ms/tile", equal=torch.allclose(one, other, rtol=1e-5))]


def _ours(experiment: Experiment, data: TrainingTiles, device: torch.device) -> float:
    """Seconds per tile in the second epoch of the loop."""
    speeds = []
    task = FoldTask(experiment, experiment.trainings[0], 0, random_folds(data.ids, np.arange(len(data.ids)), 2))
    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory(Path(folder))
        train_fold(task, data, run, device, report=lambda progress: speeds.append(progress.tiles_per_second))
    return 1 / speeds[-1]


class _Tiles(Dataset):
    def __init__(self, experiment: Experiment, data: TrainingTiles, positions: np.ndarray) -> None:
        self.augmenter, self.data, self.positions = (
            Augmenter(experiment.augmentation, data.frame.crop_px),
            data,
            positions,
        )

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        place = self.positions[index : index + 1]
        image, mask = self.augmenter.batch(self.data.images[place], self.data.masks[place])
        return torch.from_numpy(image / np.float32(255)), torch.from_numpy(mask[0])


def _plain_loss(mask_logits: torch.Tensor, salt_logit: torch.Tensor, masks: torch.Tensor, stage: Stage) -> torch.Tensor:
    salt = masks.flatten(1).any(1).float()
    bce = torch.nn.functional.binary_cross_entropy_with_logits(salt_logit, salt)
    return stage.lovasz_weight * one_by_one(mask_logits, masks).mean() + stage.bce_weight * bce


def _peer(experiment: Experiment, data: TrainingTiles, device: torch.device) -> float:
    """Seconds per tile in the second epoch of the plain loop."""
    stage = experiment.trainings[0].stages[0]
    torch.manual_seed(0)
    network = build_network(experiment.network).to(device).train()
    optimizer = torch.optim.SGD(network.parameters(), stage.lr, stage.momentum, weight_decay=stage.weight_decay)
    training, _ = random_folds(data.ids, np.arange(len(data.ids)), 2).split(0, data.ids)
    loader = DataLoader(
        _Tiles(experiment, data, training),
        stage.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=os.cpu_count() or 1,
        persistent_workers=True,
    )
    for _ in range(2):
        started, tiles = time.perf_counter(), 0
        for images, masks in loader:
            images, masks = images.to(device), masks.to(device)
            logits = network(images)
            loss = _plain_loss(*logits, masks, stage)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
            tiles += len(images)
        seconds = time.perf_counter() - started
    return seconds / tiles
