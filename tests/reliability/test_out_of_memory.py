"""A fold whose memory is too short for its batches ends all the same, says so, and knows when it cannot."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import resource
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment
from salt_ray.errors import TrainingFailed
from salt_ray.experiment_file import override
from salt_ray.model.network import Logits
from salt_ray.survey.folds import FoldTable
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.training import loop
from salt_ray.training.checkpoint import Ownership, Superseded, read_checkpoint
from salt_ray.training.loop import train_fold
from salt_ray.training.micro_batch import MicroBatch
from salt_ray.training.progress import Progress
from salt_ray.training.task import FoldTask

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
CUDA_ERROR = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 15.77 GiB."


@pytest.fixture
def task(tiny: Experiment, tiny_folds: FoldTable) -> FoldTask:
    return FoldTask(tiny, tiny.trainings[0], 0, tiny_folds)


def files_of(run: RunDirectory) -> dict[str, bytes]:
    """Everything that a run left behind, but for the reasons why batches are in parts and how long epochs took."""
    notes = ("micro_batch.json", "times.csv")
    files = (path for path in run.path.rglob("*") if path.is_file() and path.name not in notes)
    return {str(path.relative_to(run.path)): path.read_bytes() for path in files}


def short_when(monkeypatch: pytest.MonkeyPatch, fails: Callable[[int, int], bool]) -> None:
    """The GPU's error after a forward pass, when ``fails`` says so of (number of the call, tiles at once)."""
    calls = []
    whole = loop.combined_loss

    def step(logits: Logits, *others: object) -> torch.Tensor:
        calls.append(len(logits.mask_logits))
        if fails(len(calls), len(logits.mask_logits)):
            raise torch.OutOfMemoryError(CUDA_ERROR)
        return whole(logits, *others)

    monkeypatch.setattr(loop, "combined_loss", step)


@pytest.mark.parametrize("call", [1, 3, 7])
def test_it_ends_as_a_worker_would_that_starts_again(
    call: int, task: FoldTask, tiny_tiles: TrainingTiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch has three training steps and one validation, so these are in epochs 1, 1 and 2."""
    epoch = 1 if call < 4 else 2
    restarted, lines = RunDirectory(tmp_path / "restarted"), []

    def halve(progress: Progress) -> None:
        if progress.epoch == 1 and progress.stage == "plateau":
            raise KeyboardInterrupt

    if epoch == 2:
        with pytest.raises(KeyboardInterrupt):
            train_fold(task, tiny_tiles, restarted, CPU, halve)
    MicroBatch(restarted.stage("random", 0, "plateau").parent).halve("its worker was killed for memory", ["training"])
    train_fold(task, tiny_tiles, restarted, CPU, say=lines.append)
    assert "its worker was killed for memory" in lines[0]

    short_when(monkeypatch, lambda number, tiles: number == call)
    run, lines, reports = RunDirectory(tmp_path / "run"), [], []
    marker = train_fold(task, tiny_tiles, run, CPU, reports.append, lines.append)
    assert lines[0] == (
        f"out of memory with 4 tiles at once in epoch {epoch} of plateau; continuing with 2 at once, same batch of 4"
    )
    assert files_of(run) == files_of(restarted)
    assert {(report.stage, report.epoch) for report in reports} == {
        ("plateau", 1), ("plateau", 2), ("plateau", 3), ("cosine", 1), ("cosine", 2),
    }  # fmt: skip
    assert marker["micro_batch"] == 2
    table = pd.read_csv(run.stage("random", 0, "plateau") / "history.csv", dtype={"micro_batch": "Int64"})
    assert [None if pd.isna(value) else value for value in table.micro_batch] == [None] * (epoch - 1) + [2] * (
        4 - epoch
    )


def test_what_did_not_fit_is_let_go_before_the_next_try(
    task: FoldTask, tiny_tiles: TrainingTiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks: list[weakref.ref] = []
    build = loop.new_network

    def remember(*arguments: object, **named: object) -> torch.nn.Module:
        assert not any(network() is not None for network in networks)
        network = build(*arguments, **named)
        networks.append(weakref.ref(network))
        return network

    monkeypatch.setattr(loop, "new_network", remember)
    short_when(monkeypatch, lambda number, tiles: number == 2)
    train_fold(task, tiny_tiles, RunDirectory(tmp_path), CPU)
    assert len(networks) == 3  # the first stage twice, the second once


def test_a_shortage_in_validation_leaves_training_as_it_is(
    task: FoldTask, tiny_tiles: TrainingTiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed, run, lines = RunDirectory(tmp_path / "undisturbed"), RunDirectory(tmp_path / "run"), []
    train_fold(task, tiny_tiles, undisturbed, CPU)
    short_when(monkeypatch, lambda number, tiles: tiles > 4)  # 12 tiles to validate, batches of 4
    marker = train_fold(task, tiny_tiles, run, CPU, say=lines.append)
    assert lines[:2] == [
        "out of memory with 12 tiles at once in the validation of epoch 1 of plateau; continuing with 6 at once",
        "out of memory with 6 tiles at once in the validation of epoch 1 of plateau; continuing with 3 at once",
    ]
    assert "micro_batch" not in marker
    ours, theirs = (read_checkpoint(r.stage("random", 0, "cosine") / "epoch-00002.pt") for r in (run, undisturbed))
    assert all(torch.equal(ours["network"][name], theirs["network"][name]) for name in theirs["network"])
    for epoch, other in zip(ours["history"], theirs["history"], strict=True):
        assert epoch == pytest.approx(other, rel=1e-5)


def test_at_the_smallest_part_it_fails_with_the_remedy_and_can_go_on_elsewhere(
    task: FoldTask, tiny_tiles: TrainingTiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, lines = RunDirectory(tmp_path), []
    with monkeypatch.context() as patch:
        short_when(patch, lambda number, tiles: True)
        with pytest.raises(TrainingFailed) as failure:
            train_fold(task, tiny_tiles, run, CPU, say=lines.append)
    assert len(lines) == 1  # from 4 to 2
    for words in ("random-fold-0: out of memory with 2 tiles", "GPU 0 has", "gpus_per_fold", "network.encoder"):
        assert words in str(failure.value)
    assert not list(tmp_path.rglob("*.pt")) and not list(tmp_path.rglob("done.json"))
    assert train_fold(task, tiny_tiles, run, CPU)["micro_batch"] == 2


def test_another_error_is_no_shortage(
    task: FoldTask, tiny_tiles: TrainingTiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("size mismatch")

    monkeypatch.setattr(loop, "combined_loss", broken)
    with pytest.raises(RuntimeError, match="size mismatch"):
        train_fold(task, tiny_tiles, RunDirectory(tmp_path), CPU)
    assert not list(tmp_path.rglob("micro_batch.json"))


def test_a_worker_that_was_cut_off_does_not_take_its_fold_back(
    task: FoldTask, tiny_tiles: TrainingTiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDirectory(tmp_path)
    fold_folder = run.stage("random", 0, "plateau").parent
    other = Ownership(fold_folder)

    def taken_over(number: int, tiles: int) -> bool:
        if number == 1:
            other.hold()
        return number == 1

    short_when(monkeypatch, taken_over)
    with pytest.raises(Superseded):
        train_fold(task, tiny_tiles, run, CPU)
    other.hold()
    assert not MicroBatch(fold_folder).path.exists()


def one_large_batch(task: FoldTask, tiles: TrainingTiles, copies: int) -> tuple[FoldTask, TrainingTiles]:
    """One epoch of one stage, which is one batch of 12 x ``copies`` tiles of 64 x 64 px."""
    many = dataclasses.replace(
        tiles,
        ids=np.array([f"{copy}-{name}" for copy in range(copies) for name in tiles.ids]),
        images=np.concatenate([tiles.images] * copies),
        masks=np.concatenate([tiles.masks] * copies),
    )
    folds = FoldTable(many.ids, np.arange(len(many.ids)) % 2, 2)
    experiment = override(task.experiment, ["trainings.0.stages.plateau.batch_size=999"])
    training = experiment.trainings[0]
    stage = training.stages[0].replace(epochs=1)
    return FoldTask(experiment, training.replace(stages=(stage,)), 0, folds), many


def status(name: str) -> int:
    """A size of this process in bytes, as the kernel tells it."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1]) * 1024


def train_in_memory(task: FoldTask, tiles: TrainingTiles, folder: Path, parts: int, limit: int | None) -> None:
    """A process of its own: a run in ``folder`` under a limit on the address space; its lines and its peak in bytes."""
    torch.set_num_threads(1)
    run, lines = RunDirectory(folder), []
    if parts == 2:
        MicroBatch(run.stage("random", 0, "plateau").parent).halve("a test", ["training"])
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    train_fold(task, tiles, run, CPU, say=lines.append)
    folder.with_suffix(".json").write_text(json.dumps({"lines": lines, "peak": status("VmPeak")}))


def test_a_host_without_memory_for_a_whole_batch(
    task: FoldTask, tiny_tiles: TrainingTiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process whose address space ends between what whole batches and what half ones need, near to the former.

    Peaks vary by 1 MB, and lie 128 MB apart.
    """
    # Every tensor is mapped and unmapped on its own; otherwise what fits depends on the holes between earlier ones.
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", str(2**16))
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    large, tiles = one_large_batch(task, tiny_tiles, copies=12)

    def begin(name: str, parts: int, limit: int | None = None) -> multiprocessing.Process:
        arguments = (large, tiles, tmp_path / name, parts, limit)
        worker = multiprocessing.get_context("spawn").Process(target=train_in_memory, args=arguments)
        worker.start()
        return worker

    def seen(name: str, worker: multiprocessing.Process) -> dict:
        worker.join()
        assert worker.exitcode == 0
        return json.loads((tmp_path / f"{name}.json").read_text())

    beside = {name: begin(name, parts) for name, parts in (("whole", 1), ("halves", 2))}
    whole, halves = (seen(name, worker)["peak"] for name, worker in beside.items())
    assert whole - halves > 50 * 2**20  # the machine's kernels decide how far
    assert seen("run", begin("run", parts=1, limit=(7 * whole + halves) // 8))["lines"] == [
        "out of memory with 144 tiles at once in epoch 1 of plateau; continuing with 72 at once, same batch of 144"
    ]
    assert files_of(RunDirectory(tmp_path / "run")) == files_of(RunDirectory(tmp_path / "halves"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_without_memory_for_a_whole_batch(task: FoldTask, tiny_tiles: TrainingTiles, tmp_path: Path) -> None:
    """The process may use as much as lies between the peaks of a run with whole and one with half batches."""
    device, peaks = torch.device("cuda"), []
    large, tiles = one_large_batch(task, tiny_tiles, copies=8)
    for parts in (1, 2):
        run = RunDirectory(tmp_path / str(parts))
        if parts == 2:
            MicroBatch(run.stage("random", 0, "plateau").parent).halve("a test")
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        train_fold(large, tiles, run, device)
        peaks.append(torch.cuda.max_memory_reserved())
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(sum(peaks) / 2 / total)
    lines: list[str] = []
    try:
        marker = train_fold(large, tiles, RunDirectory(tmp_path / "run"), device, say=lines.append)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert lines[0].startswith("out of memory with 96 tiles at once in epoch 1 of plateau; continuing with 48 at once")
    assert marker["micro_batch"] <= 48
