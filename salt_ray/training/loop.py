"""One fold, trained through its stages: the loop written out once, in order, without callbacks (method section 4).

The same ``train_fold`` runs in a debugger, under Ray Train and under Ray Tune. It resumes by itself: what is finished
is skipped, what was interrupted goes on from its newest checkpoint and ends with the same bytes (on a CPU with the same
number of threads). Every epoch draws its random numbers from seeds made of (experiment seed, training, fold, stage,
epoch), so the epoch number in a checkpoint is the whole state of all random generators.

Where memory is short, the epoch is begun again with smaller parts of the same batches: a failed step leaves gradients
and running statistics behind that nobody can take back, and a new start would begin the epoch again too.

Letters: L labelled tiles, B a batch, P padded, C crop and S tile edge in px.
"""

from __future__ import annotations

import gc
import math
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from salt_ray.artifacts import Folder, RunDirectory
from salt_ray.config import Experiment, Stage, Training
from salt_ray.errors import SaltRayError
from salt_ray.model.network import Logits, SaltNet, build_network
from salt_ray.storage import write_atomically
from salt_ray.survey.augment import Augmenter
from salt_ray.survey.folds import FoldTable
from salt_ray.survey.padding import centre, centre_crop
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.training.checkpoint import CheckpointError, CheckpointFolder, Ownership, read_checkpoint
from salt_ray.training.losses import combined_loss
from salt_ray.training.metrics import score
from salt_ray.training.micro_batch import MicroBatch, OutOfMemory, memory_watched
from salt_ray.training.schedule import Stopping, build_schedule

VALIDATION_BATCH = 64  # tiles at once where they fit into memory
MORE_MEMORY = (
    "give a fold more memory (another GPU or machine, or fewer folds on one: raise resources.gpus_per_fold or "
    "resources.cpus_per_fold), or take a smaller network.encoder or geometry.crop_px and another --run-dir"
)


class TrainingFailed(SaltRayError):
    """A fold cannot be trained as asked; trying again would end the same way."""


@dataclass(frozen=True)
class Progress:
    """How far a fold is, after an epoch."""

    training: str
    fold: int
    stage: str
    epoch: int
    epochs: int
    loss: float
    validation_loss: float
    score: float
    best_score: float
    lr: float
    #: NaN for an epoch of an earlier start, and so is the time left: checkpoints hold no times.
    tiles_per_second: float
    seconds_left: float
    #: When the epoch ended or was read from its checkpoint, in seconds since 1970.
    time: float

    @property
    def name(self) -> str:
        """The fold's name in messages, runs and tables."""
        return fold_name(self.training, self.fold)


def fold_name(training: str, fold: int) -> str:
    """How a fold is called in messages, runs and tables."""
    return f"{training}-fold-{fold}"


@dataclass(frozen=True)
class FoldTask:
    """One fold of one training: everything that decides its weights."""

    experiment: Experiment
    training: Training
    fold: int
    folds: FoldTable
    #: SHA-256 of the file that the encoder's first weights come from; None where there is no file.
    weights: str | None = None

    @property
    def name(self) -> str:
        return fold_name(self.training.name, self.fold)

    def inputs(self, stages: int, survey_key: str) -> dict[str, Any]:
        """What the first ``stages`` stages depend on, for ``artifacts.Folder``."""
        chosen = {"seed", "geometry", "augmentation", "network", "precision"}
        return {
            "experiment": self.experiment.model_dump(mode="json", include=chosen),
            "stages": [stage.model_dump(mode="json") for stage in self.training.stages[:stages]],
            "fold": self.fold,
            "folds": self.folds.digest,
            "survey": survey_key,
            "weights": self.weights,
        }

    def stage_folder(self, run: RunDirectory, stage: int, survey_key: str) -> Folder:
        path = run.stage(self.training.name, self.fold, self.training.stages[stage].name)
        return Folder(path, self.inputs(stage + 1, survey_key))

    def seed(self, *parts: int) -> int:
        """A seed for one use (``parts``), independent of every other."""
        entropy = [self.experiment.seed, zlib.crc32(self.training.name.encode()), self.fold, *parts]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def train_fold(
    task: FoldTask,
    tiles: TrainingTiles,
    run: RunDirectory,
    device: torch.device,
    report: Callable[[Progress], None] = lambda progress: None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Train one fold through all its stages, or finish what was begun.

    Args:
        report: called after every epoch, and once more with the last one when an interrupted stage goes on.
        say: called with a line for people when something unusual happens.

    Returns:
        The last stage's marker: ``{"epochs", "best_epoch", "best_score"}``, and ``"micro_batch"``, the smallest number
        of tiles at once, where memory was too short for whole batches.

    Raises:
        TrainingFailed: the loss is not finite, or not even the smallest part of a batch fits into memory.
        CheckpointError: checkpoints exist, but none is usable.
        Superseded: another worker has begun this fold since.
        RunError: the run directory holds this fold with other settings.
    """
    starting_point, fold_folder = None, task.stage_folder(run, 0, tiles.key).path.parent
    ownership, micro_batch = Ownership(fold_folder), MicroBatch(fold_folder)
    for index, stage in enumerate(task.training.stages):
        folder = task.stage_folder(run, index, tiles.key)
        folder.open()
        checkpoints = CheckpointFolder(folder.path, ownership)
        if folder.done is None and (line := micro_batch.remembered()) is not None:
            say(line)
        while folder.done is None:
            try:
                train_stage(
                    task, index, stage, starting_point, tiles, folder, checkpoints, micro_batch, device, report, say
                )
            except OutOfMemory as error:
                if not micro_batch.can_shrink(error):
                    cause = str(error.__cause__).partition("\n")[0]
                    raise TrainingFailed(
                        f"{task.name}: {error} ({cause}), and fewer are not possible: {MORE_MEMORY}"
                    ) from error
                ownership.hold()
                say(micro_batch.shrink(error))
            gc.collect()  # what the stage held on the device goes back, to other folds there too
            torch.cuda.empty_cache()
        starting_point = checkpoints
    return folder.done


def train_stage(
    task: FoldTask,
    index: int,
    stage: Stage,
    starting_point: CheckpointFolder | None,
    tiles: TrainingTiles,
    folder: Folder,
    checkpoints: CheckpointFolder,
    micro_batch: MicroBatch,
    device: torch.device,
    report: Callable[[Progress], None],
    say: Callable[[str], None],
) -> None:
    """Train one stage from ``starting_point``'s best weights (or the encoder's first ones) and write its marker.

    Raises:
        OutOfMemory: the same call begins the epoch again; with smaller parts it may succeed.
    """
    training, validation = task.folds.split(task.fold, tiles.ids)
    batch_size, validation_batch = min(stage.batch_size, len(training)), min(VALIDATION_BATCH, len(validation))
    parts, at_once = micro_batch.parts("training", batch_size), micro_batch.at_once("training", batch_size)
    validated_at_once = micro_batch.at_once("validation", validation_batch)
    state = checkpoints.newest(say)
    network = new_network(task, device, first_start=state is None and starting_point is None)
    if state is None and starting_point is not None:
        network.load_state_dict(read_checkpoint(starting_point.best_path)["network"])
    optimizer = torch.optim.SGD(
        network.parameters(), stage.lr, stage.momentum, weight_decay=stage.weight_decay, fused=device.type == "cuda"
    )
    schedule, stopping = build_schedule(stage), Stopping(stage.early_stopping)
    history: list[dict[str, float]] = []
    if state is not None:
        if state.get("inputs") != folder.inputs:
            raise CheckpointError(f"{folder.path} holds a checkpoint of other settings: restore its own, or delete it")
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.restore(state["schedule"])
        stopping.restore(state["stopping"])
        history = state["history"]
    augmenter = Augmenter(task.experiment.augmentation, tiles.frame.crop_px)
    amp = mixed_precision(task.experiment, device)
    later_epochs = sum(later.epochs for later in task.training.stages[index + 1 :])
    if history:  # whoever wrote this checkpoint may have died before its report
        report(epoch_progress(task, stage, history[-1], stopping.best_score, math.nan, math.nan))

    while stopping.epoch < stage.epochs and not stopping.stop:
        epoch, lr, started = stopping.epoch + 1, schedule.lr, time.monotonic()
        seed = task.seed(index, epoch)
        torch.manual_seed(seed)
        augmenter.seed(seed)
        for group in optimizer.param_groups:
            group["lr"] = lr
        network.train()
        losses = []
        where = f"epoch {epoch} of {stage.name}"
        with memory_watched("training", batch_size, at_once, where):
            for batch in batches(training, batch_size, np.random.default_rng(seed)):
                crops, cropped_masks = augmenter.batch(tiles.images[batch], tiles.masks[batch])
                optimizer.zero_grad(set_to_none=True)
                losses.append(torch.zeros((), device=device))
                for part, masks in zip(np.array_split(crops, parts), np.array_split(cropped_masks, parts), strict=True):
                    images, truth = network_input(part, device), torch.from_numpy(masks).to(device)
                    with amp:
                        logits = network(images)
                    loss = combined_loss(*logits, truth, stage) * (len(part) / len(batch))
                    loss.backward()
                    losses[-1] += loss.detach()
                optimizer.step()
        mean_loss = torch.stack(losses).mean().item()
        trained = time.monotonic()
        with memory_watched("validation", validation_batch, validated_at_once, where):
            validation_loss, epoch_score = validate(network, stage, tiles, validation, device, amp, validated_at_once)
        for name, value in (("loss", mean_loss), ("validation loss", validation_loss)):
            if not math.isfinite(value):
                raise TrainingFailed(
                    f"{task.name}, stage {stage.name}: the {name} is {value} in epoch {epoch}; lower the stage's lr "
                    f"(now {lr:g}) and use another --run-dir"
                )
        better = stopping.step(epoch_score)
        schedule.step(epoch_score)
        history.append(
            {"epoch": epoch, "lr": lr, "loss": mean_loss, "validation_loss": validation_loss, "score": epoch_score}
            | ({"micro_batch": at_once} if parts > 1 else {})
        )
        state = {
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state(),
            "stopping": stopping.state(),
            "history": history,
            "inputs": folder.inputs,
        }
        checkpoints.save(epoch, state, best=better)
        now = time.monotonic()
        speed = len(losses) * batch_size / (trained - started)
        seconds_left = (now - started) * (stage.epochs - epoch + later_epochs)
        report(epoch_progress(task, stage, history[-1], stopping.best_score, speed, seconds_left))

    checkpoints.ownership.hold()
    write_atomically(folder.path / "history.csv", history_table(history).to_csv(index=False))
    if index == len(task.training.stages) - 1:
        checkpoints.ownership.release()
    marker = {"epochs": stopping.epoch, "best_epoch": stopping.best_epoch, "best_score": stopping.best_score}
    reduced = [epoch["micro_batch"] for epoch in history if "micro_batch" in epoch]
    folder.finish(**marker, **({"micro_batch": min(reduced)} if reduced else {}))


def history_table(history: list[dict[str, float]]) -> pd.DataFrame:
    """One row an epoch; a column ``micro_batch`` (tiles at once) where one was trained in parts, empty for others."""
    table = pd.DataFrame(history)
    return table.astype({"micro_batch": "Int64"}) if "micro_batch" in table else table


def epoch_progress(
    task: FoldTask,
    stage: Stage,
    epoch: dict[str, float],
    best_score: float,
    tiles_per_second: float,
    seconds_left: float,
) -> Progress:
    """What is reported of an epoch of the history."""
    shown = {name: value for name, value in epoch.items() if name != "micro_batch"}
    return Progress(
        training=task.training.name,
        fold=task.fold,
        stage=stage.name,
        epochs=stage.epochs,
        best_score=best_score,
        tiles_per_second=tiles_per_second,
        seconds_left=seconds_left,
        time=time.time(),
        **shown,
    )


def new_network(task: FoldTask, device: torch.device, first_start: bool) -> SaltNet:
    """The fold's network; on its first start with its first weights, otherwise to be filled from a checkpoint."""
    torch.manual_seed(task.seed())
    config = task.experiment.network if first_start else task.experiment.network.replace(pretrained=False)
    return build_network(config).to(device, memory_format=torch.channels_last)


def mixed_precision(experiment: Experiment, device: torch.device) -> torch.autocast:
    """bf16 autocast where the experiment asks for it and the device has units for it; elsewhere it does nothing.

    On a CPU with AMX the seed's network predicts 3.8 times and trains 2.5 to 3 times as fast as in fp32.
    """
    has_units = device.type == "cuda" or torch.cpu.get_capabilities().get("amx_bf16", False)
    return torch.autocast(device.type, torch.bfloat16, enabled=experiment.precision == "bf16" and has_units)


def batches(positions: np.ndarray, size: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Shuffled batches of ``size``; the incomplete last one is left out (another epoch has its tiles elsewhere)."""
    size = min(size, len(positions))
    order = random.permutation(positions)
    for start in range(0, len(order) - size + 1, size):
        yield order[start : start + size]


def network_input(crops: np.ndarray, device: torch.device) -> torch.Tensor:
    """(B, C, C) uint8 crops as (B, 1, C, C) float32 in 0 … 1 on the device."""
    return torch.from_numpy(np.ascontiguousarray(crops)).to(device).unsqueeze(1).float() / 255


@torch.inference_mode()
def validate(
    network: SaltNet,
    stage: Stage,
    tiles: TrainingTiles,
    positions: np.ndarray,
    device: torch.device,
    amp: torch.autocast,
    at_once: int,
) -> tuple[float, float]:
    """Loss on the centre crops and score on the tiles: mask = logit > 0, emptied where P(salt) <= 0.5.

    ``at_once``: tiles in memory at a time; only rounding depends on it.
    """
    network.eval()
    total, predicted = 0.0, []
    for start in range(0, len(positions), at_once):
        batch = positions[start : start + at_once]
        images = network_input(centre_crop(tiles.images[batch], tiles.frame), device)
        masks = torch.from_numpy(centre_crop(tiles.masks[batch], tiles.frame)).to(device)
        with amp:
            logits = network(images)
        loss = combined_loss(*logits, masks, stage)
        total += loss.item() * len(batch)
        predicted.append(centre(decide_at_zero(logits), tiles.frame).cpu().numpy())
    truth = centre(tiles.masks[positions], tiles.frame)
    return total / len(positions), score(truth, np.concatenate(predicted))


def decide_at_zero(logits: Logits) -> torch.Tensor:
    """(B, C, C) bool: the masks at probability 0.5, empty where the empty head says so."""
    return (logits.mask_logits > 0) & (logits.salt_logit > 0)[:, None, None]
