"""One fold, trained through its stages: the loop written out once, in order, without callbacks (method section 4).

The same ``train_fold`` runs in a debugger, under Ray Train and under Ray Tune. It resumes by itself: what is finished
is skipped, what was interrupted resumes from its newest checkpoint and ends with the same bytes (on a CPU with the same
number of threads). Every epoch draws its random numbers from seeds made of (experiment seed, training, fold, stage,
epoch), so the epoch number in a checkpoint is the whole state of all random generators.

Where memory is short, the epoch is begun again with smaller parts of the same batches: a failed step leaves gradients
and running statistics behind that cannot be undone, and a new start would begin the epoch again too.

A stage may learn from unlabelled tiles too (``training.pseudo_labels``): they stand behind the labelled ones.

Letters: L labelled tiles, B a batch, P padded, C crop and S tile edge in px.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from salt_ray.artifacts import Folder, RunDirectory
from salt_ray.config import AdamW, Sgd, Stage
from salt_ray.decision import Decision
from salt_ray.errors import TrainingFailed
from salt_ray.metric import score
from salt_ray.model.acceleration import (
    CompilationFailed,
    compilation_watched,
    compiled,
    forward,
    forward_batch,
    mixed_precision,
    tune_for_fixed_shapes,
    wants_compilation,
)
from salt_ray.model.network import SaltNet, build_network
from salt_ray.model.views import logits_of_views, mean_probabilities, views_of
from salt_ray.storage import StoragePath, save_array, write_atomically
from salt_ray.survey.padding import centre
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.training.checkpoint import CheckpointError, CheckpointFolder, Ownership, Saver, read_checkpoint
from salt_ray.training.hardware import remember_device
from salt_ray.training.losses import combined_loss
from salt_ray.training.micro_batch import MicroBatch, OutOfMemory, memory_watched
from salt_ray.training.pace import Pace
from salt_ray.training.progress import Progress, StepProgress
from salt_ray.training.pseudo_labels import epoch_tiles, pseudo_labels, with_pseudo_labels
from salt_ray.training.samples import Samples, samples_for
from salt_ray.training.schedule import Stopping, build_schedule
from salt_ray.training.task import FoldTask
from salt_ray.training.times import kept_times, write_times

MORE_MEMORY = (
    "give a fold more memory (another GPU or machine, or fewer folds on one: raise resources.gpus_per_fold or "
    "resources.cpus_per_fold), or use a smaller network.encoder or geometry.crop_px with another --run-dir"
)


@dataclass
class FoldWork:
    """What all stages of a fold have in common: on what they are trained, who may write them, and who hears of it."""

    task: FoldTask
    tiles: TrainingTiles
    device: torch.device
    report: Callable[[Progress], None]
    say: Callable[[str], None]
    ownership: Ownership
    micro_batch: MicroBatch
    follow: Callable[[StepProgress], None]
    may_compile: bool = True


def train_fold(
    task: FoldTask,
    tiles: TrainingTiles,
    run: RunDirectory,
    device: torch.device,
    report: Callable[[Progress], None] = lambda progress: None,
    say: Callable[[str], None] = lambda line: None,
    follow: Callable[[StepProgress], None] = lambda progress: None,
) -> dict[str, Any]:
    """Train one fold through all its stages, or finish what was begun.

    Args:
        report: called after every epoch, and once more with the last one when an interrupted stage resumes.
        say: called with a line for people when something unusual happens.
        follow: called every few seconds within an epoch that takes long (``training.pace``).

    Returns:
        The last stage's marker: ``{"epochs", "best_epoch", "best_score"}``; ``"micro_batch"``, the smallest number of
        tiles at once, where memory was too short for whole batches; ``"snapshots"``, each ``{"epoch", "score"}``, where
        some are kept.

    Raises:
        TrainingFailed: the loss is not finite, or not even the smallest part of a batch fits into memory.
        CheckpointError: checkpoints exist, but none is usable.
        Superseded: another worker has begun this fold since.
        RunError: the run directory holds this fold with other settings.
    """
    folders = [task.stage_folder(run, index, tiles.key) for index in range(len(task.training.stages))]
    fold_folder = run.fold(task.training.name, task.fold)
    ownership, micro_batch = Ownership(fold_folder), MicroBatch(fold_folder)
    work = FoldWork(task, tiles, device, report, say, ownership, micro_batch, follow)
    tune_for_fixed_shapes(device)
    for index, folder in enumerate(folders):
        folder.open()
        if folder.done is None:
            ownership.hold()
            remember_device(fold_folder, device)
            if (line := micro_batch.remembered()) is not None:
                say(line)
        while folder.done is None:
            try:
                train_stage(work, index, folder, starting_point_of(task, folders, index))
            except CompilationFailed as error:
                say(f"torch.compile failed ({error}): continuing without it; set resources.compile=false to skip it")
                work.may_compile = False
            except OutOfMemory as error:
                if not micro_batch.can_shrink(error.phase, error.batch):
                    cause = str(error.__cause__).partition("\n")[0]
                    raise TrainingFailed(
                        f"{task.name}: {error} ({cause}), and fewer are not possible: {MORE_MEMORY}"
                    ) from error
                ownership.hold()
                say(micro_batch.shrink(error))
            gc.collect()  # what the stage held on the device goes back, to other folds there too
            torch.cuda.empty_cache()
    return folder.done


def starting_point_of(task: FoldTask, folders: list[Folder], index: int) -> StoragePath | None:
    """The checkpoint of the stage before, which is finished, that a stage begins with; None for the first stage."""
    if index == 0:
        return None
    before = folders[index - 1]
    checkpoints = CheckpointFolder(before.path)
    if task.training.stages[index].begins == "best":
        return checkpoints.best_path
    return checkpoints.epoch_path(before.done["epochs"])


def train_stage(work: FoldWork, index: int, folder: Folder, starting_point: StoragePath | None) -> None:
    """Train one stage and write its marker.

    Args:
        starting_point: the checkpoint whose weights it begins with; None: the encoder's first ones.

    Raises:
        OutOfMemory, CompilationFailed: the same call begins the epoch again; with smaller parts, or without the
            compiler, it may succeed.
    """
    task, device, checkpoints = work.task, work.device, CheckpointFolder(folder.path, work.ownership)
    stage = task.training.stages[index]
    training, validation = task.folds.split(task.fold, work.tiles.ids)
    batch_size, validation_batch = min(stage.batch_size, len(training)), min(forward_batch(device), len(validation))
    parts = work.micro_batch.parts("training", batch_size)
    at_once = work.micro_batch.at_once("training", batch_size)
    validated_at_once = work.micro_batch.at_once("validation", validation_batch)
    begun = checkpoints.newest(work.say) or {}
    network = new_network(task, device, first_start=not begun and starting_point is None)
    optimizer = new_optimizer(network, stage, device)
    if begun:
        if folder.differences(begun.get("inputs", {})):
            raise CheckpointError(
                f"{folder.path} holds a checkpoint of a different experiment: restore its own, or delete it"
            )
        network.load_state_dict(begun.get("trained", begun["network"]))
        optimizer.load_state_dict(begun["optimizer"])
    elif starting_point is not None:
        network.load_state_dict(read_checkpoint(starting_point)["network"])
    amp, tiles = mixed_precision(task.experiment, device), work.tiles
    if stage.pseudo_labels is not None:
        labels = folder.path / "pseudo_labels.npy"
        if not begun and not labels.exists():
            with memory_watched("validation", validation_batch, validated_at_once, f"the labels for {stage.name}"):
                save_pseudo_labels(work, stage, labels, network, amp, validated_at_once)
        tiles = with_pseudo_labels(tiles, labels)
    pseudo = np.arange(len(work.tiles.ids), len(tiles.ids))
    average = moving_average(network, stage, begun)
    kept = network if average is None else average.module  # what is validated, kept and predicted with
    schedule = build_schedule(stage, begun.get("schedule"))
    stopping = Stopping(**begun.get("stopping", {"patience": stage.early_stopping}))
    history: list[dict[str, float]] = begun.get("history", [])
    del begun  # as large as what was loaded from it
    times = kept_times(folder.path, len(history))
    samples = samples_for(tiles, task.experiment.augmentation, device, work.say)
    compiling = work.may_compile and wants_compilation(task.experiment, device, stage.epochs * len(training))
    logits_of = compiled(forward, graphs=device.type == "cuda") if compiling else forward
    epoch_seconds: float | None = None  # of the newest epoch of this start
    if history:  # whoever wrote this checkpoint may have died before its report
        work.report(epoch_progress(task, stage, history[-1], stopping.best_score, math.nan, math.nan))

    with Saver(checkpoints, device) as saver:
        while not stopping.ended(stage.epochs):
            epoch, lr, started = stopping.epoch + 1, schedule.lr, time.monotonic()
            seed = task.seed(index, epoch)
            torch.manual_seed(seed)
            samples.seed(seed)
            network.train()
            random = np.random.default_rng(seed)
            learnt = epoch_tiles(training, pseudo, stage.pseudo_labels, random)
            losses, steps = [], len(learnt) // batch_size
            where = f"epoch {epoch} of {stage.name}"
            later = stage.epochs - epoch + task.epochs_after(index)
            about = {"training": task.training.name, "fold": task.fold, "stage": stage.name}
            about |= {"epoch": epoch, "epochs": stage.epochs}
            pace = Pace(work.follow, about, steps, batch_size, later, epoch_seconds)
            with memory_watched("training", batch_size, at_once, where), compilation_watched():
                for step, positions in enumerate(batches(learnt, batch_size, random)):
                    for group in optimizer.param_groups:
                        group["lr"] = schedule.lr_at((step + 0.5) / steps)
                    optimizer.zero_grad(set_to_none=True)
                    losses.append(torch.zeros((), device=device))
                    for batch in samples.random(positions).split(parts):
                        logits = logits_of(network, batch.images, amp)
                        loss = combined_loss(logits, batch.masks, stage) * (len(batch.masks) / len(positions))
                        loss.backward()
                        losses[-1] += loss.detach()
                    if stage.clip_norm is not None:
                        torch.nn.utils.clip_grad_norm_(network.parameters(), stage.clip_norm)
                    optimizer.step()
                    if average is not None:
                        average.update_parameters(network)
                    pace.step(losses)
            mean_loss = torch.stack(losses).mean().item()
            pace.end(mean_loss)
            trained = time.monotonic()
            with memory_watched("validation", validation_batch, validated_at_once, where):
                validation_loss, epoch_score = validate(
                    kept, samples, validation, stage, task.decision, amp, validated_at_once
                )
            for name, value in (("loss", mean_loss), ("validation loss", validation_loss)):
                if not math.isfinite(value):
                    raise TrainingFailed(
                        f"{task.name}, stage {stage.name}: the {name} is {value} in epoch {epoch}; lower the stage's "
                        f"lr (now {lr:g}) and use another --run-dir"
                    )
            better = stopping.step(epoch_score)
            schedule.step(epoch_score)
            history.append(
                {"epoch": epoch, "lr": lr, "loss": mean_loss, "validation_loss": validation_loss, "score": epoch_score}
                | ({"micro_batch": at_once} if parts > 1 else {})
            )
            times.append({"epoch": epoch, "ended": time.time(), "seconds": time.monotonic() - started})
            snapshot, regular = epoch in stage.snapshot_epochs, epoch % task.experiment.resources.checkpoint_epochs == 0
            if better or snapshot or regular or stopping.ended(stage.epochs):
                state = {
                    "network": kept.state_dict(),
                    **({} if average is None else {"trained": network.state_dict()}),
                    "optimizer": optimizer.state_dict(),
                    "schedule": schedule.state(),
                    "stopping": stopping.state(),
                    "history": list(history),
                    "inputs": folder.inputs,
                }
                work.ownership.hold()
                write_times(folder.path, times)  # before the checkpoint: no epoch is kept without its time
                saver.save(epoch, state, best=better, snapshot=snapshot)
            now = time.monotonic()
            speed = len(losses) * batch_size / (trained - started)
            epoch_seconds = now - started
            seconds_left = epoch_seconds * later
            work.report(epoch_progress(task, stage, history[-1], stopping.best_score, speed, seconds_left))

    work.ownership.hold()
    write_atomically(folder.path / "history.csv", history_table(history).to_csv(index=False))
    if index == len(task.training.stages) - 1:
        work.ownership.release()
    marker = {"epochs": stopping.epoch, "best_epoch": stopping.best_epoch, "best_score": stopping.best_score}
    reduced = [epoch["micro_batch"] for epoch in history if "micro_batch" in epoch]
    if reduced:
        marker["micro_batch"] = min(reduced)
    if stage.snapshot_epochs:
        marker["snapshots"] = [
            {"epoch": epoch["epoch"], "score": epoch["score"]}
            for epoch in history
            if epoch["epoch"] in stage.snapshot_epochs
        ]
    folder.finish(**marker)


def save_pseudo_labels(
    work: FoldWork, stage: Stage, path: StoragePath, network: SaltNet, amp: torch.autocast, at_once: int
) -> None:
    """Let the network with which a stage begins label the tiles that it is confident of.

    Raises:
        TrainingFailed: there are none.
    """
    task, unlabelled, confidence = work.task, work.tiles.unlabelled, stage.pseudo_labels.confidence
    labels = pseudo_labels(network, unlabelled, work.tiles.frame, task.decision, confidence, amp, work.device, at_once)
    if not len(labels):
        raise TrainingFailed(
            f"{task.name}, stage {stage.name}: the network is confident of none of {len(unlabelled.ids):,} unlabelled "
            f"tiles: lower the stage's pseudo_labels.confidence (now {confidence:g}), or train longer before it, in "
            "another --run-dir"
        )
    work.ownership.hold()
    save_array(path, labels)
    work.say(
        f"stage {stage.name}: {len(labels):,} of {len(unlabelled.ids):,} unlabelled tiles are labelled by fold "
        f"{task.fold}'s own model"
    )


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


def new_optimizer(network: SaltNet, stage: Stage, device: torch.device) -> torch.optim.Optimizer:
    """What takes a stage's steps, before its first one."""
    parameters, fused = network.parameters(), device.type == "cuda"
    match stage.optimizer:
        case Sgd(momentum=momentum, weight_decay=decay):
            return torch.optim.SGD(parameters, stage.lr, momentum, weight_decay=decay, fused=fused)
        case AdamW(weight_decay=decay):
            return torch.optim.AdamW(parameters, stage.lr, weight_decay=decay, fused=fused)
        case other:
            raise AssertionError(f"no optimizer for {other!r}")


def moving_average(network: SaltNet, stage: Stage, begun: dict[str, Any]) -> AveragedModel | None:
    """The average of a stage's weights, running statistics included, as far as it has begun; None: it keeps none."""
    if not stage.average:
        return None
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(stage.average), use_buffers=True)
    if begun:
        average.module.load_state_dict(begun["network"])
        average.n_averaged.fill_(1)  # 0 would mean that the next step's weights take its place
    return average


def batches(positions: np.ndarray, size: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Shuffled batches of ``size``; the incomplete last one is left out (another epoch has its tiles elsewhere)."""
    size = min(size, len(positions))
    order = random.permutation(positions)
    for start in range(0, len(order) - size + 1, size):
        yield order[start : start + size]


@torch.inference_mode()
def validate(
    network: SaltNet,
    samples: Samples,
    positions: np.ndarray,
    stage: Stage,
    decision: Decision,
    amp: torch.autocast,
    at_once: int,
) -> tuple[float, float]:
    """Loss on the centre crops, and score on the tiles as prediction would decide them.

    ``at_once``: tiles in memory at a time; only rounding depends on it. The device is waited for once, at the end.
    """
    network.eval()
    losses, predicted = [], []
    views = views_of(decision.flip)
    for start in range(0, len(positions), at_once):
        batch = samples.centred(positions[start : start + at_once])
        logits = logits_of_views(network, batch.images, views, amp)
        losses.append(combined_loss(logits[0], batch.masks, stage).double() * len(batch.masks))
        masks, salt = mean_probabilities(logits, views)
        predicted.append(decision.masks(centre(masks, samples.frame), salt))
    total = torch.stack(losses).sum().item()
    return total / len(positions), score(samples.truth(positions), torch.cat(predicted).cpu().numpy())
