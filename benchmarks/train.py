"""Training steps of the loop against a plain eager fp32 PyTorch loop with a DataLoader, as the Argus baseline trained.

On a CPU a small network (experiments/from_scratch.py) with the Argus batch of 24; on CUDA the Argus network. The peer
augments tile by tile in DataLoader workers, keeps the default memory format and computes Lovasz tile by tile; written
from its description.

A twin of the loop is fed one batch over and over, which tells its data from its computing; the parts of a step are
measured one by one, each waited for, and compared with the step; the arithmetic is compared with what a large
product of matrices reaches on the same device.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness import figure, part, row, survey
from benchmarks.lovasz import one_by_one
from experiments.from_scratch import experiment as small_experiment
from experiments.random_folds import STAGE_1
from experiments.random_folds import experiment as argus_experiment
from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment, Stage
from salt_ray.metric import score
from salt_ray.model.acceleration import forward_batch, mixed_precision, wants_compilation
from salt_ray.model.network import Logits, build_network
from salt_ray.survey.augment import Augmenter
from salt_ray.survey.folds import depth_folds
from salt_ray.survey.padding import frame_for, operator
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.training import loop
from salt_ray.training.checkpoint import CheckpointFolder, Saver
from salt_ray.training.loop import new_network, new_optimizer, train_fold, validate
from salt_ray.training.losses import combined_loss
from salt_ray.training.samples import Batch, Samples, samples_for
from salt_ray.training.task import FoldTask

RUNS = 3
PARTS_REPEATED = 20
PRODUCT = {"cpu": 2048, "cuda": 8192}  # side of the matrices whose product says what the device can do


def measure_on(device: torch.device) -> Iterator[dict]:
    """Seconds per tile of one training epoch without validation, ours and the peer's in turn; then the breakdown."""
    experiment, name, tiles = (
        (argus_experiment(), "train, Argus network", 2000)
        if device.type == "cuda"
        else (small_experiment(), "train, small network", 192)
    )
    stage = STAGE_1.replace(early_stopping=None)
    training = experiment.trainings[0]
    experiment = experiment.replace(
        network=experiment.network.replace(pretrained=False),
        trainings=(training.replace(folds=training.folds.replace(count=2), stages=(stage,)),),
    )
    images, masks = survey(tiles)
    frame = frame_for(101, experiment.geometry)
    padding = operator(frame)
    ids = np.array([f"{i:06d}" for i in range(tiles)])
    data = TrainingTiles("bench", ids, padding.images(images), padding.masks(masks), frame)
    task = FoldTask(experiment, experiment.trainings[0], 0, depth_folds(ids, np.arange(tiles), 2))
    compiling = not wants_compilation(experiment, device)
    switched = experiment.replace(resources=experiment.resources.replace(compile=compiling))
    other_task = FoldTask(switched, task.training, 0, task.folds)
    rounds, epochs = (1, RUNS) if device.type == "cuda" else (RUNS, 1)  # there a round begins with a minute's compiling
    ours, other, peer = [], [], []
    for _ in range(rounds):
        ours += seconds_of_epochs(task, data, device, epochs)
        peer += _peer(experiment, data, device, epochs)
        other += seconds_of_epochs(other_task, data, device, epochs)
    logits = Logits(torch.randn(24, 128, 128, device=device), torch.randn(24, device=device))
    truth = logits.mask_logits + torch.randn_like(logits.mask_logits) > 1
    loss, peers_loss = (loss_of(logits, truth, stage) for loss_of in (combined_loss, _plain_loss))
    equal = torch.allclose(loss, peers_loss, rtol=1e-5)
    yield row(name, ours, peer, "ms/tile", equal)
    yield row(f"{name}, {'compiled' if compiling else 'not compiled'}", other, peer, "ms/tile", equal)
    yield from _parts(name, task, data, device)
    with mock.patch.object(loop, "samples_for", _OneBatch):
        twin = seconds_of_epochs(task, data, device, len(ours))
    yield row(f"{name}: against the same fed one batch", ours, twin, "ms/tile", equal=True)


class _OneBatch:
    """Gives the first batch that it was asked for again and again."""

    def __init__(self, *arguments: object) -> None:
        self._samples, self._batch = samples_for(*arguments), None
        self.frame, self.seed = self._samples.frame, self._samples.seed
        self.centred, self.truth = self._samples.centred, self._samples.truth

    def random(self, positions: np.ndarray) -> Batch:
        if self._batch is None:
            self._batch = self._samples.random(positions)
        return self._batch


def _parts(name: str, task: FoldTask, data: TrainingTiles, device: torch.device) -> Iterator[dict]:
    """What one step and the end of an epoch consist of, eagerly, each part waited for."""
    stage, amp = task.training.stages[0], mixed_precision(task.experiment, device)
    samples: Samples = samples_for(data, task.experiment.augmentation, device, print)
    network = new_network(task, device, first_start=True).train()
    optimizer = new_optimizer(network, stage, device)
    training, validation = task.folds.split(task.fold, data.ids)
    positions, seconds = training[: stage.batch_size], {}

    def clock(what: str, work: Callable[..., Any], *arguments: object, **options: object) -> Any:
        _wait(device)
        started = time.perf_counter()
        result = work(*arguments, **options)
        _wait(device)
        seconds.setdefault(what, []).append(time.perf_counter() - started)
        return result

    def forward(images: torch.Tensor) -> Logits:
        with amp:
            return network(images)

    for _ in range(PARTS_REPEATED):
        batch = clock("samples", samples.random, positions)
        optimizer.zero_grad(set_to_none=True)
        logits = clock("forward", forward, batch.images)
        loss = clock("loss", combined_loss, logits, batch.masks, stage)
        clock("backward", loss.backward)
        clock("optimizer", optimizer.step)
    whole = np.sum([np.median(times[PARTS_REPEATED // 4 :]) for times in seconds.values()])
    for what, times in seconds.items():
        yield part(f"{name}: {what}", times[PARTS_REPEATED // 4 :], stage.batch_size, whole, "of a step's parts")
    if device.type == "cuda":
        yield figure(f"{name}: memory at its peak", [torch.cuda.max_memory_allocated() / 1e9], "GB")
    with FlopCounterMode(display=False) as counter:
        combined_loss(forward(batch.images), batch.masks, stage).backward()
    possible = counter.get_total_flops() / _flops_per_second(device, amp)
    yield part(f"{name}: arithmetic at the speed of a large product", [possible], stage.batch_size, whole, "of a step")

    seconds.clear()
    epoch = whole * len(training) / stage.batch_size
    state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "history": []}
    truth = samples.truth(validation)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(5):
            at_once = forward_batch(device)
            clock("validation", validate, network, samples, validation, stage, task.decision, amp, at_once)
            clock("metric within it", score, truth, ~truth)
            with Saver(CheckpointFolder(Path(folder)), device) as saver:
                clock("best checkpoint, until training goes on", saver.save, number, state, best=True)
                clock("best checkpoint, the rest", saver.finish)
    for what, times in seconds.items():
        yield part(f"{name}: {what}", times[1:], len(training), epoch, "of an epoch's steps")


def _flops_per_second(device: torch.device, amp: torch.autocast) -> float:
    """What a product of large matrices reaches, in the type that the network's convolutions have."""
    with amp:
        dtype = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else torch.float32
    side = PRODUCT[device.type]
    one, other = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    times = []
    for _ in range(6):
        _wait(device)
        started = time.perf_counter()
        one @ other
        _wait(device)
        times.append(time.perf_counter() - started)
    return 2 * side**3 / float(np.median(times[1:]))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds_of_epochs(task: FoldTask, data: TrainingTiles, device: torch.device, epochs: int) -> list[float]:
    """Seconds per tile in so many epochs of the loop after the first one."""
    (stage,) = task.training.stages
    training, speeds = task.training.replace(stages=(stage.replace(epochs=1 + epochs),)), []
    with tempfile.TemporaryDirectory() as folder:
        task, run = FoldTask(task.experiment, training, task.fold, task.folds), RunDirectory(Path(folder))
        train_fold(task, data, run, device, lambda progress: speeds.append(progress.tiles_per_second), print)
    return [1 / speed for speed in speeds[1:]]


class TileDataset(Dataset):
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


def _plain_loss(logits: Logits, masks: torch.Tensor, stage: Stage) -> torch.Tensor:
    salt = masks.flatten(1).any(1).float()
    bce = torch.nn.functional.binary_cross_entropy_with_logits(logits.salt_logit, salt)
    return stage.lovasz_weight * one_by_one(logits.mask_logits, masks).mean() + stage.bce_weight * bce


def _peer(experiment: Experiment, data: TrainingTiles, device: torch.device, epochs: int) -> list[float]:
    """Seconds per tile in so many epochs of the plain loop after the first one."""
    stage = experiment.trainings[0].stages[0]
    torch.manual_seed(0)
    network = build_network(experiment.network).to(device).train()
    settings = stage.optimizer
    optimizer = torch.optim.SGD(
        network.parameters(), stage.lr, settings.momentum, weight_decay=settings.weight_decay
    )
    training, _ = depth_folds(data.ids, np.arange(len(data.ids)), 2).split(0, data.ids)
    loader = DataLoader(
        TileDataset(experiment, data, training),
        stage.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=os.cpu_count() or 1,
        persistent_workers=True,
    )
    seconds = []
    for _ in range(1 + epochs):
        started, tiles = time.perf_counter(), 0
        for images, masks in loader:
            images, masks = images.to(device), masks.to(device)
            logits = network(images)
            loss = _plain_loss(logits, masks, stage)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
            tiles += len(images)
        seconds.append((time.perf_counter() - started) / tiles)
    return seconds[1:]
