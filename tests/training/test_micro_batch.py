"""Parts of batches: never too small, remembered, the same gradient, and only memory makes them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment
from salt_ray.experiment_file import override
from salt_ray.model.network import SaltNet
from salt_ray.survey.folds import FoldTable
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.training.checkpoint import read_checkpoint
from salt_ray.training.loop import new_network, train_fold
from salt_ray.training.micro_batch import (
    SMALLEST,
    MicroBatch,
    MicroBatchError,
    OutOfMemory,
    is_out_of_memory,
    memory_watched,
)
from salt_ray.training.task import FoldTask

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


@pytest.mark.parametrize("phase", ["training", "validation"])
def test_parts_halve_down_to_the_smallest(phase: str, tmp_path: Path) -> None:
    for batch in (1, 2, 3, 4, 5, 7, 24, 32, 33):
        micro_batch = MicroBatch(tmp_path / str(batch))
        sizes = [micro_batch.at_once(phase, batch)]
        assert sizes == [batch]
        while micro_batch.can_shrink(phase, batch):
            micro_batch.shrink(OutOfMemory("short", phase, batch))
            parts = [len(part) for part in np.array_split(np.arange(batch), micro_batch.parts(phase, batch))]
            assert max(parts) == micro_batch.at_once(phase, batch) < sizes[-1] <= 2 * max(parts)
            assert min(parts) >= SMALLEST[phase]
            sizes.append(max(parts))
        assert sizes[-1] < 2 * SMALLEST[phase] or batch < 2 * SMALLEST[phase]


def test_what_was_remembered_is_there_for_another_start(tmp_path: Path) -> None:
    """The controller that halves does not know the batch size."""
    assert MicroBatch(tmp_path).remembered() is None
    assert not list(tmp_path.iterdir())
    line = MicroBatch(tmp_path).halve("its worker was killed for memory")
    assert line == "its worker was killed for memory; continuing with batches in 2 parts"
    micro_batch = MicroBatch(tmp_path)
    assert (micro_batch.at_once("training", 32), micro_batch.at_once("validation", 64)) == (16, 32)
    assert micro_batch.shrink(OutOfMemory("out of memory with 16 tiles at once", "training", 32)) == (
        "out of memory with 16 tiles at once; continuing with 8 at once, same batch of 32"
    )
    assert json.loads((tmp_path / "micro_batch.json").read_text()) == {
        "training": 4,
        "validation": 2,
        "why": ["its worker was killed for memory", "out of memory with 16 tiles at once"],
    }
    assert "out of memory with 16 tiles" in micro_batch.remembered()
    assert str(micro_batch.path) in micro_batch.remembered()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"training": 0, "validation": 1, "why": []}'])
def test_a_damaged_memory_is_an_error(content: str, tmp_path: Path) -> None:
    (tmp_path / "micro_batch.json").write_text(content)
    with pytest.raises(MicroBatchError, match="delete it"):
        MicroBatch(tmp_path).parts("training", 4)


def test_real_shortages_are_recognised_and_nothing_else() -> None:
    for allocate in (lambda: torch.empty(1 << 50), lambda: np.empty(1 << 60, np.uint8)):
        with (
            pytest.raises(OutOfMemory, match=r"^out of memory with 4 tiles at once in epoch 2$"),
            memory_watched("training", 8, 4, "epoch 2"),
        ):
            allocate()
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))
    assert is_out_of_memory(RuntimeError("could not create a primitive"))
    for other in (RuntimeError("size mismatch"), ValueError("out of memory"), torch.linalg.LinAlgError("singular")):
        assert not is_out_of_memory(other)
        with pytest.raises(type(other), match=str(other)), memory_watched("training", 8, 4, "epoch 2"):
            raise other


@pytest.mark.parametrize(("batch", "halvings"), [(8, 1), (8, 2), (5, 1)])
def test_the_gradient_is_that_of_the_whole_batch(
    batch: int,
    halvings: int,
    tiny: Experiment,
    tiny_tiles: TrainingTiles,
    tiny_folds: FoldTable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One step of a network whose batch norm and dropout are as in prediction: SGD moves weights by their gradient."""
    monkeypatch.setattr(SaltNet, "train", lambda network, mode=True: nn.Module.train(network, False))
    fields = [
        f"trainings.0.stages.plateau.{field}"
        for field in (f"batch_size={batch}", "epochs=1", "optimizer.weight_decay=0.0")
    ]
    task = FoldTask(override(tiny, fields), tiny.trainings[0], 0, tiny_folds)
    training = task.experiment.trainings[0]
    task = FoldTask(task.experiment, training.replace(stages=training.stages[:1]), 0, tiny_folds)
    first = new_network(task, CPU, first_start=True).state_dict()
    moves, losses = [], []
    for name, times in (("whole", 0), ("parts", halvings)):
        run = RunDirectory(tmp_path / name)
        stage = run.stage("random", 0, "plateau")
        for _ in range(times):
            MicroBatch(stage.parent).halve("a test")
        train_fold(task, tiny_tiles, run, CPU)
        state = read_checkpoint(stage / "epoch-00001.pt")
        assert state["history"][0].get("micro_batch", batch) == -(-batch // 2**times)
        losses.append(state["history"][0]["loss"])
        moves.append(torch.cat([(state["network"][key] - first[key]).flatten().double() for key in first]))
    whole, parts = moves
    assert whole.norm() > 1e-3
    assert (parts - whole).norm() < 1e-4 * whole.norm()
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
