"""An epoch of experiments/two_cores.py against a plain PyTorch loop: eager, channels last, two threads, bf16 or fp32.

Each side runs in a process of its own, because ours keeps memory for a whole process (``pipeline.workplace``). The peer
augments tile by tile in DataLoader workers, and computes Lovasz tile by tile; its optimizer, clipping and average are
PyTorch's, as ours are.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from benchmarks.harness import row, survey
from benchmarks.lovasz import one_by_one
from benchmarks.train import TileDataset, seconds_of_epochs
from experiments.two_cores import PIXELS
from experiments.two_cores import experiment as two_cores
from salt_ray.config import Experiment
from salt_ray.model.network import Logits, build_network
from salt_ray.pipeline.workplace import keep_memory
from salt_ray.survey.folds import depth_folds
from salt_ray.survey.padding import frame_for, operator
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.training.losses import combined_loss
from salt_ray.training.task import FoldTask

TILES, EPOCHS, RUNS, THREADS = 192, 2, 3, 2


def measure() -> Iterator[dict]:
    """Milliseconds a tile of training, without validation; the sides in turn."""
    truth = torch.rand(16, 128, 128) > 0.7
    logits = Logits(torch.randn(16, 128, 128), torch.randn(16))
    equal = torch.allclose(combined_loss(logits, truth, PIXELS), _plain_loss(logits, truth), rtol=1e-4)
    sides = {"ours": [], "bf16": [], "fp32": []}
    for _ in range(RUNS):
        for side, seconds in sides.items():
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                seconds.append(process.submit(_side, side).result())
    for precision in ("bf16", "fp32"):
        yield row(f"train, two_cores, plain loop in {precision}", sides["ours"], sides[precision], "ms/tile", equal)


def _side(side: str) -> float:
    """Seconds a tile, the median of the epochs after the first one."""
    torch.set_num_threads(THREADS)
    experiment = two_cores()
    training = experiment.trainings[0].replace(stages=(PIXELS,))
    images, masks = survey(TILES)
    frame = frame_for(101, experiment.geometry)
    padding = operator(frame)
    ids = np.array([f"{i:06d}" for i in range(TILES)])
    data = TrainingTiles("bench", ids, padding.images(images), padding.masks(masks), frame)
    task = FoldTask(experiment.replace(trainings=(training,)), training, 0, depth_folds(ids, np.arange(TILES), 2))
    if side == "ours":
        keep_memory()
        return float(np.median(seconds_of_epochs(task, data, torch.device("cpu"), EPOCHS)))
    return float(np.median(_plain(task.experiment, data, task.folds.split(0, ids)[0], side)))


def _plain_loss(logits: Logits, masks: torch.Tensor) -> torch.Tensor:
    salt = masks.flatten(1).any(1).float()
    hinge = (one_by_one(logits.mask_logits, masks) + one_by_one(-logits.mask_logits, ~masks)) / 2
    return (
        PIXELS.lovasz_weight * hinge.mean()
        + PIXELS.pixel_bce_weight * F.binary_cross_entropy_with_logits(logits.mask_logits, masks.float())
        + PIXELS.bce_weight * F.binary_cross_entropy_with_logits(logits.salt_logit, salt)
    )


def _plain(experiment: Experiment, data: TrainingTiles, training: np.ndarray, precision: str) -> list[float]:
    """Seconds a tile in each epoch of the plain loop after the first one."""
    torch.manual_seed(0)
    network = build_network(experiment.network).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), PIXELS.lr, weight_decay=PIXELS.optimizer.weight_decay)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(PIXELS.average), use_buffers=True)
    dataset = TileDataset(experiment, data, training)
    batches = DataLoader(
        dataset, PIXELS.batch_size, shuffle=True, drop_last=True, num_workers=THREADS, persistent_workers=True
    )
    seconds = []
    for _ in range(1 + EPOCHS):
        started, tiles = time.perf_counter(), 0
        for images, masks in batches:
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                logits = network(images.to(memory_format=torch.channels_last))
            loss = _plain_loss(Logits(*(part.float() for part in logits[:2])), masks)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), PIXELS.clip_norm)
            optimizer.step()
            average.update_parameters(network)
            tiles += len(images)
        seconds.append((time.perf_counter() - started) / tiles)
    return seconds[1:]
