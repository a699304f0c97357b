"""A trial trains with exactly its sampled values, reports every step once, and goes on where it was."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Cosine, Experiment, FloatRange, IntRange, Tune
from salt_ray.section import ExperimentError
from salt_ray.survey.folds import FoldTable
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.training import loop
from salt_ray.training.checkpoint import read_checkpoint
from salt_ray.training.task import FoldTask
from salt_ray.tuning.space import Space
from salt_ray.tuning.trial import Step, fold_ends, folds_of, run_trial

pytestmark = pytest.mark.usefixtures("one_thread")
STAGE = "trainings.all.stages.plateau"
CPU = torch.device("cpu")


@pytest.fixture
def searched(tiny: Experiment) -> Experiment:
    """Both folds of three and two epochs; learning rate, loss weights and patience are searched."""
    parameters = (
        FloatRange(name="lr", fields=(f"{STAGE}.lr",), low=1e-3, high=0.1, log=True),
        FloatRange(name="lovasz", fields=(f"{STAGE}.lovasz_weight",), low=0.1, high=1.0),
        FloatRange(name="bce", fields=(f"{STAGE}.bce_weight",), low=0.1, high=1.0),
        IntRange(name="patience", fields=(f"{STAGE}.schedule.patience",), low=0, high=9),
    )
    return tiny.replace(tune=Tune(parameters=parameters, folds="all"))


def trial(
    experiment: Experiment, values: dict, tiles: TrainingTiles, folds: FoldTable, run: Path
) -> tuple[float, list[Step]]:
    effective = Space(experiment).effective(values)
    tasks = [FoldTask(effective, training, fold, folds) for training, fold in folds_of(effective)]
    steps: list[Step] = []
    return run_trial(tasks, tiles, RunDirectory(run), CPU, steps.append), steps


def test_sampled_values_are_what_trains_and_what_stands_in_the_checkpoint(
    searched: Experiment, tiny_tiles: TrainingTiles, tiny_folds: FoldTable, tmp_path: Path
) -> None:
    samples = [
        {"lr": 0.05, "lovasz": 1.0, "bce": 0.1, "patience": 0},
        {"lr": 0.004, "lovasz": 0.2, "bce": 0.9, "patience": 7},
    ]
    weights, losses = [], []
    for number, values in enumerate(samples):
        trial(searched, values, tiny_tiles, tiny_folds, tmp_path / str(number))
        for fold in (0, 1):
            stage = RunDirectory(tmp_path / str(number)).stage("random", fold, "plateau")
            checkpoint = read_checkpoint(stage / "best.pt")
            recorded = checkpoint["inputs"]["stages"][0]
            used = {
                "lr": recorded["lr"],
                "lovasz": recorded["lovasz_weight"],
                "bce": recorded["bce_weight"],
                "patience": recorded["schedule"]["patience"],
            }
            assert used == values
            history = pd.read_csv(stage / "history.csv")
            assert history["lr"][0] == values["lr"]
            assert checkpoint["optimizer"]["param_groups"][0]["lr"] in history["lr"].tolist()
        weights.append(checkpoint["network"])
        losses.append(history["loss"][0])
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert losses[0] != losses[1]  # the first epoch's network and batches are the same: only the weights differ


def test_loss_weights_scale_the_loss_that_is_reported(
    searched: Experiment, tiny_tiles: TrainingTiles, tiny_folds: FoldTable, tmp_path: Path
) -> None:
    """With a learning rate of almost nothing both trials see the same network: half the weights, half the loss."""
    parameters = (searched.tune.parameters[0].replace(low=1e-12), *searched.tune.parameters[1:])
    frozen = searched.replace(tune=searched.tune.replace(parameters=parameters, folds=(0,)))
    first = []
    for weight in (0.8, 0.4):
        values = {"lr": 1e-12, "lovasz": weight, "bce": weight, "patience": 9}
        _, steps = trial(frozen, values, tiny_tiles, tiny_folds, tmp_path / str(weight))
        first.append(steps[0].progress.loss)
    assert first[0] == pytest.approx(2 * first[1], rel=1e-4)


def test_steps_count_epochs_over_folds_and_are_judged_where_trials_compare(
    searched: Experiment, tiny_tiles: TrainingTiles, tiny_folds: FoldTable, tmp_path: Path
) -> None:
    values = {"lr": 0.02, "lovasz": 0.75, "bce": 0.25, "patience": 0}
    value, steps = trial(searched, values, tiny_tiles, tiny_folds, tmp_path)
    assert fold_ends(searched) == [5, 10]
    assert [step.step for step in steps] == [1, 2, 3, 4, 5, 5, 6, 7, 8, 9, 10, 10]
    assert [step.step for step in steps if step.judged] == [1, 2, 3, 4, 5, 10]
    ends = [step for step in steps if step.progress is None]
    best = [
        max(
            step.progress.score
            for step in steps
            if step.progress and step.progress.fold == fold and step.progress.stage == "cosine"
        )
        for fold in (0, 1)
    ]
    assert ends[0].value == best[0]
    assert ends[1].value == value == pytest.approx(sum(best) / 2)
    for step in steps:
        if step.progress is not None and step.progress.fold == 1:
            assert step.value == pytest.approx((best[0] + step.progress.best_score) / 2)


def test_a_trial_of_snapshots_is_worth_the_mean_of_their_scores(
    searched: Experiment,
    tiny_tiles: TrainingTiles,
    tiny_folds: FoldTable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (training,) = searched.trainings
    plateau, cosine = training.stages
    cosine = cosine.replace(epochs=4, schedule=Cosine(epochs_per_cycle=2, snapshots=2))
    experiment = searched.replace(
        trainings=(training.replace(stages=(plateau.replace(epochs=1), cosine)),),
        prediction=searched.prediction.replace(models="snapshots"),
        tune=searched.tune.replace(folds=(0,)),
    )
    scores = iter([0.9, 0.1, 0.5, 0.8, 0.2])
    monkeypatch.setattr(loop, "validate", lambda *arguments: (1.0, next(scores)))
    values = {"lr": 0.05, "lovasz": 0.75, "bce": 0.25, "patience": 0}
    value, steps = trial(experiment, values, tiny_tiles, tiny_folds, tmp_path)
    assert value == steps[-1].value == pytest.approx((0.5 + 0.2) / 2)


class Killed(Exception):
    """Stands for the end of the process."""


def test_an_interrupted_trial_ends_as_an_undisturbed_one(
    searched: Experiment, tiny_tiles: TrainingTiles, tiny_folds: FoldTable, tmp_path: Path
) -> None:
    values = {"lr": 0.03, "lovasz": 0.5, "bce": 0.5, "patience": 1}
    expected, undisturbed = trial(searched, values, tiny_tiles, tiny_folds, tmp_path / "whole")
    effective = Space(searched).effective(values)
    tasks = [FoldTask(effective, training, fold, tiny_folds) for training, fold in folds_of(effective)]
    run, seen = RunDirectory(tmp_path / "killed"), []
    for last in (2, 7, 99):  # inside the first fold, inside the second, not at all

        def report(step: Step, last: int = last) -> None:
            seen.append(step)
            if step.step == last:
                raise Killed

        try:
            value = run_trial(tasks, tiny_tiles, run, CPU, report)
        except Killed:
            assert last != 99
    assert value == expected
    assert {(s.step, s.value) for s in seen if s.judged} == {(s.step, s.value) for s in undisturbed if s.judged}
    for fold in (0, 1):
        files = [
            RunDirectory(tmp_path / name).stage("random", fold, "cosine") / "best.pt" for name in ("whole", "killed")
        ]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_a_fold_that_there_is_not_is_named(searched: Experiment) -> None:
    with pytest.raises(ExperimentError, match=r"tune\.folds: random has no fold 2, only 0 … 1"):
        folds_of(searched.replace(tune=searched.tune.replace(folds=(0, 2))))
