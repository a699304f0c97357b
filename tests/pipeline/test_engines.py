"""What every engine keeps to: folds, predictions, tasks and trials come to the same, in this process and on a Ray."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from optuna.trial import TrialState

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Choice, Experiment, Resources, Tune
from salt_ray.decision import ARGUS
from salt_ray.inference.predict import Model
from salt_ray.inference.stored import StoredRecords, chunk_path
from salt_ray.pipeline.application import apply
from salt_ray.pipeline.engine import Chunk, Engine, Failed, Predicting
from salt_ray.pipeline.local import LocalEngine
from salt_ray.pipeline.trained import load_run
from salt_ray.pipeline.trial import SearchWork
from salt_ray.postprocessing.selection import LeakError
from salt_ray.report.terminal import Terminal
from salt_ray.report.trials import TrialView
from salt_ray.survey.folds import FoldTable
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.survey.synthetic import write_survey
from salt_ray.training import pace
from salt_ray.training.checkpoint import CheckpointFolder
from salt_ray.training.progress import Progress, StepProgress
from salt_ray.training.task import FoldTask
from salt_ray.tuning.space import study_folder
from salt_ray.tuning.study import Study

ONE_CORE = Resources(cpus_per_fold=1)


@pytest.fixture(scope="module")
def ray_engine(ray_directory: Path) -> Iterator[Engine]:
    from salt_ray.cluster.engine import RayEngine  # Ray: seconds that the other engine need not wait for

    from ray import cloudpickle  # isort: skip

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import this file
    with RayEngine("local", lambda dashboard: None) as engine:
        yield engine


@pytest.fixture(params=["local", pytest.param("ray", marks=pytest.mark.alone)])
def engine(request: pytest.FixtureRequest) -> Engine:
    return LocalEngine() if request.param == "local" else request.getfixturevalue("ray_engine")


def short(tiny: Experiment) -> Experiment:
    """Two epochs of one stage."""
    (training,) = tiny.trainings
    stage = training.stages[0].replace(epochs=2, early_stopping=None)
    return tiny.replace(trainings=(training.replace(stages=(stage,)),), resources=ONE_CORE)


def weights(run: RunDirectory, fold: int) -> bytes:
    return CheckpointFolder(run.stage("random", fold, "plateau")).best_path.read_bytes()


@pytest.fixture(scope="module")
def expected(tiny: Experiment, tiny_tiles: TrainingTiles, tiny_folds: FoldTable, tmp_path_factory) -> RunDirectory:
    """Both folds, trained by the loop itself."""
    from salt_ray.training.loop import train_fold

    run, experiment, threads = RunDirectory(tmp_path_factory.mktemp("expected")), short(tiny), torch.get_num_threads()
    torch.set_num_threads(1)
    for fold in range(2):
        task = FoldTask(experiment, experiment.trainings[0], fold, tiny_folds)
        train_fold(task, tiny_tiles, run, torch.device("cpu"))
    torch.set_num_threads(threads)
    return run


def test_folds_end_with_the_loops_bytes_and_one_that_fails_stops_no_other(
    engine: Engine,
    tiny: Experiment,
    tiny_tiles: TrainingTiles,
    tiny_folds: FoldTable,
    expected: RunDirectory,
    tmp_path: Path,
) -> None:
    experiment, run = short(tiny), RunDirectory(tmp_path)
    (training,) = experiment.trainings
    endless = training.replace(name="endless", stages=(training.stages[0].replace(lr=1e30),))
    tasks = [
        FoldTask(experiment, endless, 0, tiny_folds),
        *(FoldTask(experiment, training, k, tiny_folds) for k in (0, 1)),
    ]
    told: list[Progress] = []
    failed, *trained = engine.train(tasks, tiny_tiles, run, told.append, lambda line: None)
    assert failed.task.name == "endless-fold-0" and failed.marker is None and "the loss is" in failed.failure
    assert [outcome.task.fold for outcome in trained] == [0, 1]
    for fold, outcome in enumerate(trained):
        assert outcome.failure is None and outcome.marker["epochs"] == 2
        assert weights(run, fold) == weights(expected, fold)
        assert {(p.epoch, p.epochs) for p in told if p.name == f"random-fold-{fold}"} >= {(2, 2)}
        assert list((run.tensorboard / f"random-fold-{fold}" / "plateau").iterdir())


def test_there_is_a_place_for_a_fold(engine: Engine, tiny: Experiment) -> None:
    assert engine.places(short(tiny)) >= 1


def test_steps_of_long_epochs_are_reported_between_epochs(
    tiny: Experiment, tiny_tiles: TrainingTiles, tiny_folds: FoldTable, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(pace, "LONG_SECONDS", 0)
    monkeypatch.setattr(pace, "TOLD_SECONDS", math.inf)  # the last step of each epoch alone
    experiment, reports = short(tiny), []
    task = FoldTask(experiment, experiment.trainings[0], 0, tiny_folds)
    LocalEngine().train([task], tiny_tiles, RunDirectory(tmp_path), reports.append, print)
    assert [(type(one), one.epoch) for one in reports] == [
        (kind, epoch) for epoch in (1, 2) for kind in (StepProgress, Progress)
    ]


def test_chunks_are_written_by_their_models_and_come_back_once(
    engine: Engine, tiny: Experiment, tiny_tiles: TrainingTiles, expected: RunDirectory, tmp_path: Path
) -> None:
    experiment = short(tiny)
    work = Predicting(experiment, tiny_tiles.frame, tiny_tiles.images, (expected, RunDirectory(tmp_path)))
    models = [(CheckpointFolder(expected.stage("random", fold, "plateau")).best_path,) for fold in range(2)]
    places = [np.arange(0, 10), np.arange(10, 24)[::-1]]
    chunks = [
        Chunk(model, tiles, chunk_path(tmp_path / str(fold), number))
        for number, tiles in enumerate(places)
        for fold, model in enumerate(models)
    ]
    found = list(engine.predict(chunks, work, lambda line: None))
    assert sorted(map(id, found)) == sorted(map(id, chunks))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for fold, model in enumerate(models):
        one = Model(experiment, model, tiny_tiles.frame, torch.device("cpu"))
        for number, tiles in enumerate(places):
            answer = one.predict(tiny_tiles.images[tiles])
            records = np.load(chunk_path(tmp_path / str(fold), number))
            np.testing.assert_array_equal(records["mask"], answer.masks)
            np.testing.assert_array_equal(records["salt"], answer.salt)
    torch.set_num_threads(threads)
    assert len(StoredRecords(tmp_path / "0")[np.arange(10)]) == 10


@pytest.mark.alone
def test_a_run_is_applied_on_a_ray_as_in_this_process(
    ray_engine: Engine, undisturbed: Path, one_thread: None, tmp_path: Path
) -> None:
    write_survey(tmp_path / "other", 40, seed=9, tile_px=33)
    trained = load_run(undisturbed)
    for name, engine in (("here", LocalEngine()), ("there", ray_engine)):
        apply(trained, tmp_path / "other", RunDirectory(tmp_path / name), engine, Terminal(quiet=True))
    for name in ("submission.csv", "masks.zip", "summary.json"):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()


def square(number: int) -> int:
    if number % 10 == 7:
        raise ValueError(f"{number} is not for me")
    return number * number


def leak() -> None:
    raise LeakError("a hidden label shows")


def test_tasks_are_answered_by_number_and_may_fail(engine: Engine, tmp_path: Path) -> None:
    asked: list[int] = []

    def task(number: int) -> functools.partial:
        asked.append(number)
        return functools.partial(square, number)

    tasks = engine.tasks(task, RunDirectory(tmp_path), ONE_CORE)
    assert not tasks and list(tasks.answers(wait=True)) == []
    answers: dict[int, object] = {}
    for number in range(40):
        tasks.add(number)
        answers |= tasks.answers(wait=False)
    while tasks:
        answers |= tasks.answers(wait=True)
    assert sorted(asked) == sorted(answers) == list(range(40))
    for number, answer in answers.items():
        assert answer == (Failed(f"ValueError: {number} is not for me") if number % 10 == 7 else number**2)


def test_a_leak_ends_everything(engine: Engine, tmp_path: Path) -> None:
    tasks = engine.tasks(lambda number: leak, RunDirectory(tmp_path), ONE_CORE)
    tasks.add(0)
    with pytest.raises(LeakError, match="a hidden label shows"):
        while tasks:
            list(tasks.answers(wait=True))


def test_trials_end_as_the_study_says(
    engine: Engine, tiny: Experiment, tiny_tiles: TrainingTiles, tiny_folds: FoldTable, tmp_path: Path
) -> None:
    """The experiment's own values first; one value gives a loss that is no number, one cannot be used at all."""
    lr = Choice(name="lr", fields=("trainings.all.stages.all.lr",), values=(0.02, 1e30))
    tune = Tune(parameters=(lr,), trials=3, folds=(1,), sampler="random", pruner="none", max_concurrent=1)
    experiment, run = short(tiny).replace(tune=tune), RunDirectory(tmp_path)
    study = Study(experiment, run, study_folder(experiment, run, {}))
    events: list[str] = []
    view = TrialView(["lr"], 3, [], lambda view, event: events.append(event) if event else None, events.append)
    engine.search(study, SearchWork(experiment, {"random": tiny_folds}, run, ARGUS), tiny_tiles, view)
    assert not study.left and view.ended == 3
    for trial in study.ended:
        good = trial.params["lr"] == 0.02
        assert trial.state is (TrialState.COMPLETE if good else TrialState.FAIL)
        assert good or "the loss is" in trial.user_attrs["reason"]
        assert (run.trial(trial.number).stage("random", 1, "plateau") / "done.json").exists() == good
    assert study.ended[0].params == {"lr": 0.02} and {trial.state for trial in study.ended} > {TrialState.COMPLETE}
    assert sum(" begins: " in event for event in events) == 3
