"""Pseudo-labels: what is labelled and how, that no label of the fold reaches them, and resume from anywhere."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from salt_ray.artifacts import RunDirectory
from salt_ray.config import AdamW, Cosine, Experiment, PseudoLabels
from salt_ray.decision import Decision
from salt_ray.errors import RunError, TrainingFailed
from salt_ray.model.acceleration import mixed_precision
from salt_ray.model.network import Logits
from salt_ray.storage import load_array, save_array
from salt_ray.survey.folds import FoldTable
from salt_ray.survey.padding import centre, operator
from salt_ray.survey.prepared import TrainingTiles, UnlabelledTiles
from salt_ray.training import loop
from salt_ray.training.checkpoint import read_checkpoint
from salt_ray.training.loop import train_fold
from salt_ray.training.progress import Progress
from salt_ray.training.pseudo_labels import epoch_tiles, pseudo_labels, with_pseudo_labels
from salt_ray.training.samples import Batch, DeviceSamples
from salt_ray.training.task import FoldTask

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
DECISION = Decision(mask_threshold=0.4, salt_threshold=0.5, flip=True, full_tiles="salt")


@pytest.fixture(scope="module")
def tiles(tiny_tiles: TrainingTiles) -> TrainingTiles:
    """Ten more without labels: some of them upside down."""
    ids = np.array([f"more{i}" for i in range(10)])
    return replace(tiny_tiles, unlabelled=UnlabelledTiles(ids, tiny_tiles.images[:10, ::-1].copy()))


@pytest.fixture(scope="module")
def learning(tiny: Experiment) -> Experiment:
    """Four epochs from labels alone, after which it sees some salt, then two from pseudo-labels too."""
    (training,) = tiny.trainings
    first = training.stages[1].replace(
        name="first", epochs=4, lr=0.02, pixel_bce_weight=1.0, optimizer=AdamW(), schedule=Cosine()
    )
    own = first.replace(name="self", epochs=2, begins="last", pseudo_labels=PseudoLabels(share=0.25, confidence=0.5))
    return tiny.replace(trainings=(training.replace(stages=(first, own)),))


def task_of(experiment: Experiment, folds: FoldTable, fold: int = 0) -> FoldTask:
    return FoldTask(experiment, experiment.trainings[0], fold, folds, decision=DECISION)


def labels_of(run: RunDirectory, fold: int = 0) -> Path:
    return run.stage("random", fold, "self") / "pseudo_labels.npy"


def files_of(run: RunDirectory) -> dict[str, bytes]:
    files = (path for path in run.path.rglob("*") if path.is_file() and path.name != "times.csv")
    return {str(path.relative_to(run.path)): path.read_bytes() for path in files}


class Interrupted(Exception):
    pass


def stopped_after(epoch: int) -> Callable[[Progress], None]:
    def stop(progress: Progress) -> None:
        if (progress.stage, progress.epoch) == ("self", epoch) and not math.isnan(progress.tiles_per_second):
            raise Interrupted

    return stop


@pytest.fixture(scope="module")
def undisturbed(
    one_thread: None,
    learning: Experiment,
    tiles: TrainingTiles,
    tiny_folds: FoldTable,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[RunDirectory, list[str]]:
    run, lines = RunDirectory(tmp_path_factory.mktemp("run")), []
    train_fold(task_of(learning, tiny_folds), tiles, run, CPU, say=lines.append)
    return run, lines


@pytest.fixture
def run(undisturbed: tuple[RunDirectory, list[str]], tmp_path: Path) -> RunDirectory:
    """Where the first stage is done."""
    run = RunDirectory(tmp_path)
    shutil.copytree(undisturbed[0].stage("random", 0, "first"), run.stage("random", 0, "first"))
    return run


class Brightness(torch.nn.Module):
    """Salt where a tile is bright, more so on its left; a tile has some the more the brighter it is in the mean."""

    def forward(self, images: torch.Tensor) -> Logits:
        ramp = torch.linspace(1, -1, images.shape[-1])
        return Logits(20 * (images[:, 0] - 0.5) + ramp, 12 * images.mean(dim=(1, 2, 3)) - 6)


def answers(frames: TrainingTiles, confidence: float, at_once: int = 4) -> np.ndarray:
    amp = torch.autocast("cpu", enabled=False)
    return pseudo_labels(Brightness(), frames.unlabelled, frames.frame, DECISION, confidence, amp, CPU, at_once)


def test_a_tile_is_labelled_where_its_pixels_and_all_of_it_are_likely_enough(tiles: TrainingTiles) -> None:
    network, found = Brightness(), answers(tiles, 0.5)
    assert found["id"].tolist() == tiles.unlabelled.ids.tolist()  # nothing is less likely than the contrary
    images = torch.from_numpy(tiles.unlabelled.images)[:, None, 10:-10, 10:-10] / 255
    views = [network(images), network(images.flip(-1))]
    pixels = (views[0].mask_logits.sigmoid() + views[1].mask_logits.sigmoid().flip(-1)) / 2
    salt = (views[0].salt_logit.sigmoid() + views[1].salt_logit.sigmoid()) / 2
    pixels = centre(pixels, tiles.frame)
    limit = np.array([(torch.maximum(p, 1 - p).mean(), max(s, 1 - s)) for p, s in zip(pixels, salt, strict=True)])
    assert (limit.argmin(axis=1) == 0).any() and (limit.argmin(axis=1) == 1).any()  # either may be in the way
    masks = np.unpackbits(found["mask"], axis=1, count=33 * 33).reshape(-1, 33, 33).astype(bool)
    np.testing.assert_array_equal(masks, DECISION.masks(pixels, salt).numpy())
    assert masks.any() and not masks.any(axis=(1, 2)).all()
    middle = float(np.median(limit.min(axis=1)))
    some = answers(tiles, middle)
    assert some["id"].tolist() == tiles.unlabelled.ids[limit.min(axis=1) >= middle].tolist() and len(some) == 5
    np.testing.assert_array_equal(some, found[np.isin(found["id"], some["id"])])
    np.testing.assert_array_equal(some, answers(tiles, middle, at_once=3))
    assert len(answers(tiles, 1.0)) == 0


def test_they_stand_behind_the_labelled_tiles_padded_as_labels_are(tiles: TrainingTiles, tmp_path: Path) -> None:
    labels = answers(tiles, 0.5)[[1, 4, 5]]
    save_array(tmp_path / "labels.npy", labels)
    both, count = with_pseudo_labels(tiles, tmp_path / "labels.npy"), len(tiles.ids)
    for whole, part in ((both.ids, tiles.ids), (both.images, tiles.images), (both.masks, tiles.masks)):
        np.testing.assert_array_equal(whole[:count], part)
    assert both.ids[count:].tolist() == labels["id"].tolist()
    np.testing.assert_array_equal(both.images[count:], tiles.unlabelled.images[[1, 4, 5]])
    masks = np.unpackbits(labels["mask"], axis=1, count=33 * 33).reshape(3, 33, 33).astype(bool)
    np.testing.assert_array_equal(both.masks[count:], operator(tiles.frame).masks(masks))
    assert both.masks.dtype == bool and masks.any()
    partial = np.where(tiles.images > 200, -1, tiles.masks).astype(np.int8)  # not all pixels have a label
    beside = with_pseudo_labels(replace(tiles, masks=partial), tmp_path / "labels.npy").masks
    np.testing.assert_array_equal(beside, np.concatenate([partial, both.masks[count:]]))
    assert beside.dtype == np.int8 and (partial < 0).any()


@pytest.mark.parametrize(
    "damage",
    [
        lambda labels: labels[["id"]],
        lambda labels: labels["mask"],
        lambda labels: np.array([("other", labels["mask"][0])], labels.dtype),
    ],
    ids=["no masks", "no ids", "other tiles"],
)
def test_a_file_of_something_else_is_damaged(
    damage: Callable[[np.ndarray], np.ndarray], tiles: TrainingTiles, tmp_path: Path
) -> None:
    save_array(tmp_path / "pseudo_labels.npy", damage(answers(tiles, 0.5)))
    with pytest.raises(RunError, match=r"pseudo_labels\.npy is damaged .*: restore it, or delete "):
        with_pseudo_labels(tiles, tmp_path / "pseudo_labels.npy")


@pytest.mark.parametrize(("share", "others"), [(0.5, 12), (0.25, 4), (0.9, 20)])
def test_an_epoch_has_its_share_of_them_and_other_ones_than_the_next(share: float, others: int) -> None:
    labelled, pseudo, settings = np.arange(12), np.arange(50, 70), PseudoLabels(share=share)
    first, same, second = (epoch_tiles(labelled, pseudo, settings, np.random.default_rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, same)
    np.testing.assert_array_equal(first[:12], labelled)
    assert len(set(first[12:])) == len(first[12:]) == others and set(first[12:]) <= set(pseudo)
    assert others == 20 or set(first) != set(second)
    assert epoch_tiles(labelled, pseudo[:0], None, np.random.default_rng(0)) is labelled


def test_labels_of_a_fold_do_not_reach_its_pseudo_labels(
    learning: Experiment, tiles: TrainingTiles, tiny_folds: FoldTable, tmp_path: Path
) -> None:
    """Invert the labels that validate fold 0: its pseudo-labels are the same, those of fold 1 are others."""
    _, judging = tiny_folds.split(0, tiles.ids)
    masks = tiles.masks.copy()
    masks[judging] ^= True
    runs = [RunDirectory(tmp_path / name) for name in ("as they are", "inverted")]

    def stop(line: str) -> None:
        raise Interrupted(line)

    for run, shown in zip(runs, (tiles, replace(tiles, masks=masks)), strict=True):
        for fold in (0, 1):
            with pytest.raises(Interrupted, match="are labelled by"):
                train_fold(task_of(learning, tiny_folds, fold), shown, run, CPU, say=stop)
    last = [read_checkpoint(run.stage("random", 0, "first") / "epoch-00004.pt") for run in runs]
    scores = [[epoch["score"] for epoch in state["history"]] for state in last]
    assert scores[0] != scores[1]
    ours, others = ([labels_of(run, fold).read_bytes() for run in runs] for fold in (0, 1))
    assert ours[0] == ours[1]
    assert others[0] != others[1]


def test_a_line_says_how_many_and_they_change_what_is_learnt(
    undisturbed: tuple[RunDirectory, list[str]],
    run: RunDirectory,
    learning: Experiment,
    tiles: TrainingTiles,
    tiny_folds: FoldTable,
) -> None:
    learnt, lines = undisturbed
    assert lines == ["stage self: 10 of 10 unlabelled tiles are labelled by fold 0's own model"]
    assert load_array(labels_of(learnt))["id"].tolist() == tiles.unlabelled.ids.tolist()
    (training,) = learning.trainings
    first, own = training.stages
    alone = learning.replace(trainings=(training.replace(stages=(first, own.replace(pseudo_labels=None))),))
    train_fold(task_of(alone, tiny_folds), replace(tiles, unlabelled=None), run, CPU)
    assert not labels_of(run).exists()
    weights = [read_checkpoint(each.stage("random", 0, "self") / "epoch-00002.pt")["network"] for each in (run, learnt)]
    assert not torch.equal(*(each["empty_head.weight"] for each in weights))


@pytest.mark.parametrize("moment", ["before the file", "after the file", "epoch 1", "epoch 2"])
def test_interrupted_it_ends_with_the_same_bytes(
    moment: str,
    undisturbed: tuple[RunDirectory, list[str]],
    run: RunDirectory,
    learning: Experiment,
    tiles: TrainingTiles,
    tiny_folds: FoldTable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task, lines, saved = task_of(learning, tiny_folds), [], []

    def save(path: Path, array: np.ndarray) -> None:
        if moment == "after the file":
            save_array(path, array)
        saved.append(path)
        raise Interrupted

    stop = stopped_after(int(moment[-1])) if moment.startswith("epoch") else lambda progress: None
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        if moment.endswith("file"):
            patch.setattr(loop, "save_array", save)
        train_fold(task, tiles, run, CPU, stop)
    assert labels_of(run).exists() == (moment != "before the file")
    assert saved == [labels_of(run)] * moment.endswith("file")
    train_fold(task, tiles, run, CPU, say=lines.append)
    assert len(lines) == (moment == "before the file")  # labelled once more where the file was not there
    assert files_of(run) == files_of(undisturbed[0])


def test_without_its_file_a_stage_that_has_begun_does_not_go_on(
    run: RunDirectory, learning: Experiment, tiles: TrainingTiles, tiny_folds: FoldTable
) -> None:
    """Its network has learnt since: it would label otherwise."""
    task = task_of(learning, tiny_folds)
    with pytest.raises(Interrupted):
        train_fold(task, tiles, run, CPU, stopped_after(1))
    labels_of(run).unlink()
    with pytest.raises(RunError, match=r"pseudo_labels\.npy is missing: restore it, or delete .*self"):
        train_fold(task, tiles, run, CPU)


def test_a_network_that_is_confident_of_nothing_fails_the_fold(
    run: RunDirectory, learning: Experiment, tiles: TrainingTiles, tiny_folds: FoldTable
) -> None:
    (training,) = learning.trainings
    first, own = training.stages
    stages = first, own.replace(pseudo_labels=PseudoLabels(confidence=1.0))
    hopeless = learning.replace(trainings=(training.replace(stages=stages),))
    with pytest.raises(TrainingFailed, match=r"random-fold-0, stage self: .* none of 10 .*confidence \(now 1\)"):
        train_fold(task_of(hopeless, tiny_folds), tiles, run, CPU)
    assert [path.name for path in labels_of(run).parent.iterdir()] == ["inputs.json"]


def test_where_memory_is_short_fewer_tiles_are_labelled_at_once(
    undisturbed: tuple[RunDirectory, list[str]],
    run: RunDirectory,
    learning: Experiment,
    tiles: TrainingTiles,
    tiny_folds: FoldTable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def label(*arguments: object) -> np.ndarray:
        asked.append(arguments[-1])
        if len(asked) == 1:
            raise MemoryError
        return pseudo_labels(*arguments)

    monkeypatch.setattr(loop, "pseudo_labels", label)
    lines: list[str] = []
    train_fold(task_of(learning, tiny_folds), tiles, run, CPU, say=lines.append)
    assert asked == [12, 6]
    assert lines[0].startswith("out of memory with 12 tiles at once in the validation of the labels for self; c")
    assert labels_of(run).read_bytes() == labels_of(undisturbed[0]).read_bytes()


def test_samples_made_on_the_device_are_of_them_too(
    run: RunDirectory,
    learning: Experiment,
    tiles: TrainingTiles,
    tiny_folds: FoldTable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a GPU: an epoch of twelve labelled tiles and four others is four batches of four."""
    drawn: list[list[int]] = []

    class Watched(DeviceSamples):
        def random(self, positions: np.ndarray) -> Batch:
            drawn.append(positions.tolist())
            return super().random(positions)

    monkeypatch.setattr(loop, "samples_for", lambda *arguments: Watched(*arguments[:3]))
    train_fold(task_of(learning, tiny_folds), tiles, run, CPU)
    first, second = (list(chain.from_iterable(drawn[start : start + 4])) for start in (0, 4))
    training, _ = tiny_folds.split(0, tiles.ids)
    assert len(drawn) == 8
    for epoch in (first, second):
        assert sorted(p for p in epoch if p < 24) == sorted(training) and sum(24 <= p < 34 for p in epoch) == 4
    assert {p for p in first if p >= 24} != {p for p in second if p >= 24}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_labels_as_a_cpu_does_and_learns_from_it(
    learning: Experiment, tiles: TrainingTiles, tiny_folds: FoldTable, tmp_path: Path
) -> None:
    run, device = RunDirectory(tmp_path), torch.device("cuda")
    train_fold(task_of(learning, tiny_folds), tiles, run, device)
    network = loop.new_network(task_of(learning, tiny_folds), CPU, first_start=False)
    network.load_state_dict(read_checkpoint(run.stage("random", 0, "first") / "epoch-00004.pt")["network"])
    amp = mixed_precision(learning, CPU)
    here = pseudo_labels(network, tiles.unlabelled, tiles.frame, DECISION, 0.5, amp, CPU, 4)
    there = load_array(labels_of(run))
    assert there["id"].tolist() == here["id"].tolist()
    bits = np.unpackbits(there["mask"] ^ here["mask"])
    assert bits.mean() < 0.01  # where a probability is at the threshold
