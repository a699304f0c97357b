"""Every ingredient of a stage that is off by default: it learns, and an interrupted fold ends with the same bytes."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from trained_folds import Interrupted, history, result_of, task_of, trained

from salt_ray.artifacts import RunDirectory
from salt_ray.config import AdamW, Cosine, Experiment, OneCycle
from salt_ray.experiment_file import override
from salt_ray.survey.folds import FoldTable
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.training import checkpoint
from salt_ray.training.checkpoint import read_checkpoint
from salt_ray.training.loop import new_network, train_fold
from salt_ray.training.progress import Progress

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
INGREDIENTS = {
    "optimizer": {"optimizer": AdamW()},
    "one cycle": {"schedule": OneCycle(warmup_epochs=1.5)},
    "average": {"average": 0.9},
    "clipped": {"clip_norm": 0.1},
    "symmetric": {"lovasz": "symmetric"},
    "snapshots": {"schedule": Cosine(epochs_per_cycle=2, snapshots=1)},
    "auxiliary": {"auxiliary_weight": 0.5},
    "enlarged": {},  # a setting of the network
}
TOGETHER = [tuple(name for name in INGREDIENTS if name != schedule) for schedule in ("one cycle", "snapshots")]


def with_ingredients(tiny: Experiment, *names: str, epochs: int = 3) -> Experiment:
    """One stage of a few epochs with these."""
    (training,) = tiny.trainings
    stage = training.stages[0].replace(epochs=epochs, early_stopping=None)
    for name in names:
        stage = stage.replace(**INGREDIENTS[name])
    scale = 1.5 if "enlarged" in names else 1.0
    network = tiny.network.replace(auxiliary_heads="auxiliary" in names, input_scale=scale)
    return tiny.replace(network=network, trainings=(training.replace(stages=(stage,)),))


@pytest.fixture(scope="module")
def plain(
    one_thread: None,
    tiny: Experiment,
    tiny_tiles: TrainingTiles,
    tiny_folds: FoldTable,
    tmp_path_factory: pytest.TempPathFactory,
) -> RunDirectory:
    """A fold without any ingredient."""
    run = RunDirectory(tmp_path_factory.mktemp("plain"))
    train_fold(task_of(with_ingredients(tiny), tiny_folds), tiny_tiles, run, CPU)
    return run


@pytest.mark.parametrize("names", [*zip(INGREDIENTS), *TOGETHER], ids=" ".join)
def test_with_every_ingredient_an_interrupted_fold_ends_with_the_same_bytes(
    names: tuple[str, ...],
    plain: RunDirectory,
    tiny: Experiment,
    tiny_tiles: TrainingTiles,
    tiny_folds: FoldTable,
    tmp_path: Path,
) -> None:
    """And with other weights than without it."""
    whole, broken = (RunDirectory(tmp_path / name) for name in ("whole", "broken"))
    task = task_of(with_ingredients(tiny, *names), tiny_folds)
    train_fold(task, tiny_tiles, whole, CPU)

    def stop(progress: Progress) -> None:
        if progress.epoch < 3 and not math.isnan(progress.tiles_per_second):
            raise Interrupted

    for _ in range(2):
        with pytest.raises(Interrupted):
            train_fold(task, tiny_tiles, broken, CPU, stop)
    train_fold(task, tiny_tiles, broken, CPU)
    assert result_of(task, broken) == result_of(task, whole)
    weights = [
        read_checkpoint(run.stage("random", 0, "plateau") / "epoch-00003.pt")["network"]["empty_head.weight"]
        for run in (plain, whole)
    ]
    assert not torch.equal(*weights)


def test_what_is_kept_is_the_average_and_training_goes_on_without_it(
    plain: RunDirectory, tiny: Experiment, tiny_tiles: TrainingTiles, tiny_folds: FoldTable, tmp_path: Path
) -> None:
    averaged = RunDirectory(tmp_path)
    train_fold(task_of(with_ingredients(tiny, "average"), tiny_folds), tiny_tiles, averaged, CPU)
    alone, state = (read_checkpoint(run.stage("random", 0, "plateau") / "epoch-00003.pt") for run in (plain, averaged))
    assert "trained" not in alone
    for name, value in alone["network"].items():
        assert torch.equal(state["trained"][name], value)
    assert [epoch["loss"] for epoch in state["history"]] == [epoch["loss"] for epoch in alone["history"]]
    assert [epoch["score"] for epoch in state["history"]] != [epoch["score"] for epoch in alone["history"]]


@pytest.mark.parametrize("file", ["snapshot-00002.pt", "epoch-00002.pt", "epoch-00003.pt"])
def test_killed_in_a_write_about_a_snapshot_it_ends_with_the_same_bytes(
    file: str,
    tiny: Experiment,
    tiny_tiles: TrainingTiles,
    tiny_folds: FoldTable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only the second epoch ends a whole cycle: its network is kept as it was, and nothing else of it."""
    whole, broken = (RunDirectory(tmp_path / name) for name in ("whole", "broken"))
    experiment = with_ingredients(tiny, "snapshots")
    task = task_of(experiment.replace(resources=experiment.resources.replace(checkpoint_epochs=3)), tiny_folds)
    kept: dict[int, dict] = {}

    def look(progress: Progress) -> None:
        stage = whole.stage("random", 0, "plateau")
        if progress.epoch == 2:
            kept[2] = read_checkpoint(stage / "epoch-00002.pt")["network"]

    marker = train_fold(task, tiny_tiles, whole, CPU, look)
    stage = whole.stage("random", 0, "plateau")
    assert [path.name for path in stage.glob("snapshot-*")] == ["snapshot-00002.pt"]
    snapshot = read_checkpoint(stage / "snapshot-00002.pt")
    assert snapshot.keys() == {"network", "is_best"} and snapshot["network"].keys() == kept[2].keys()
    assert all(torch.equal(value, kept[2][name]) for name, value in snapshot["network"].items())
    scores = [epoch["score"] for epoch in history(result_of(task, whole), "plateau")]
    assert marker["snapshots"] == [{"epoch": 2, "score": scores[1]}]

    def torn(path: Path, content: bytes | str) -> None:
        if path.name == file:
            raise Interrupted
        write(path, content)

    write = checkpoint.write_atomically
    monkeypatch.setattr(checkpoint, "write_atomically", torn)
    with pytest.raises(Interrupted):
        train_fold(task, tiny_tiles, broken, CPU)
    monkeypatch.setattr(checkpoint, "write_atomically", write)
    train_fold(task, tiny_tiles, broken, CPU)
    assert result_of(task, broken) == result_of(task, whole)


def test_auxiliary_heads_learn_where_they_are_weighed_and_change_nothing_where_they_are_not(
    tiny: Experiment, tiny_tiles: TrainingTiles, tiny_folds: FoldTable, tmp_path: Path
) -> None:
    plain, weighed = with_ingredients(tiny), with_ingredients(tiny, "auxiliary")
    idle = plain.replace(network=weighed.network)
    networks = {}
    for name, experiment in (("plain", plain), ("idle", idle), ("weighed", weighed)):
        run, task = RunDirectory(tmp_path / name), task_of(experiment, tiny_folds)
        train_fold(task, tiny_tiles, run, CPU)
        networks[name] = read_checkpoint(run.stage("random", 0, "plateau") / "epoch-00003.pt")["network"]
        first = new_network(task, CPU, first_start=True).state_dict()
    heads = {name for name in networks["idle"] if name.startswith("auxiliary_heads.")}
    assert heads == networks["weighed"].keys() - networks["plain"].keys() and len(heads) == 2 * 4
    for name, value in networks["idle"].items():
        assert torch.equal(value, first[name] if name in heads else networks["plain"][name]), name
    assert not any(torch.equal(networks["weighed"][name], first[name]) for name in heads)


def on_gpu(*values: object) -> object:
    missing = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    return pytest.param(*values, marks=(pytest.mark.gpu, missing), id=" ".join([*values[0], *values[1:]]))


@pytest.mark.parametrize(
    ("names", "device", "precision", "compile"),
    [
        *((names, "cpu", "fp32", "false") for names in TOGETHER),
        *(on_gpu(names, "cuda", kind, "false") for kind in ("fp32", "bf16") for names in zip(INGREDIENTS)),
        *(on_gpu(names, "cuda", "bf16", "true") for names in TOGETHER),
    ],
)
def test_ingredients_learn_on_every_device_and_go_on_there_after_an_interruption(
    names: tuple[str, ...],
    device: str,
    precision: str,
    compile: str,
    tiny: Experiment,
    tiny_tiles: TrainingTiles,
    tmp_path: Path,
) -> None:
    """The loss falls from the first epoch of twelve steps to the second; nothing but progress is said."""
    ids = np.array([f"{copy}-{name}" for copy in range(4) for name in tiny_tiles.ids])
    images, masks = (np.concatenate([array] * 4) for array in (tiny_tiles.images, tiny_tiles.masks))
    tiles = dataclasses.replace(tiny_tiles, ids=ids, images=images, masks=masks)
    changes = [f"precision={precision}", f"resources.compile={compile}", "trainings.0.stages.0.lr=0.05"]
    experiment = override(with_ingredients(tiny, *names, epochs=2), changes)
    task, run = task_of(experiment, FoldTable(ids, np.arange(len(ids)) % 2, 2)), RunDirectory(tmp_path)
    seen: list[Progress] = []
    lines: list[str] = []

    def stop(progress: Progress) -> None:
        seen.append(progress)
        raise Interrupted

    with pytest.raises(Interrupted):
        train_fold(task, tiles, run, torch.device(device), stop, lines.append)
    train_fold(task, tiles, run, torch.device(device), seen.append, lines.append)
    first, second = trained(seen)
    assert (first.epoch, second.epoch, lines) == (1, 2, [])
    assert all(math.isfinite(value) for each in (first, second) for value in (each.loss, each.validation_loss))
    assert second.loss < first.loss
    assert (run.stage("random", 0, "plateau") / "snapshot-00002.pt").exists() == ("snapshots" in names)
