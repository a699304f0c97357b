"""A search on a real local Ray, through the command line: end to end, after being killed anywhere, and its failures."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState
from road import Road, downloaded, store_environment, wait_for, workers

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Choice, Experiment, IntRange, Tune
from salt_ray.experiment_file import load_experiment
from salt_ray.storage import storage_path
from salt_ray.training.checkpoint import read_checkpoint
from salt_ray.tuning.study import load_study

TRIALS = 5
TUNE_WORKER = "ImplicitFunc"  # Ray Tune's name for a function that it runs
STAGE = "trainings.all.stages.plateau"
PARAMETERS = (
    Choice(name="lr", fields=(f"{STAGE}.lr",), values=(0.02, 0.005, 1e30)),  # the last one gives NaN
    IntRange(name="patience", fields=(f"{STAGE}.schedule.patience",), low=0, high=3),
)


@pytest.fixture(scope="session")
def search(tiny: Experiment, survey: Path, ray_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Road:
    """Both folds of four epochs; one trial at a time, so that the same seed gives the same search."""
    (training,) = tiny.trainings
    stage = training.stages[0].replace(epochs=4)
    tune = Tune(
        parameters=PARAMETERS,
        trials=TRIALS,
        folds="all",
        sampler="random",
        pruner="median",
        startup_trials=1,
        grace_epochs=2,
        max_concurrent=1,
        kept_checkpoints=1,
    )
    experiment = tiny.replace(name="search", trainings=(training.replace(stages=(stage,)),), tune=tune)
    path = tmp_path_factory.mktemp("search") / "search.json"
    path.write_text(experiment.model_dump_json())
    return Road(survey, path, ray_directory)


@pytest.fixture(scope="session")
def finished(search: Road, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDirectory, str]:
    run = tmp_path_factory.mktemp("finished")
    return RunDirectory(run), search.run("tune", run)


def told(study: optuna.Study) -> list[tuple]:
    return [
        (t.number, t.state, None if t.state is TrialState.FAIL else t.value, t.params, t.intermediate_values)
        for t in study.get_trials()
    ]


def histories(run: RunDirectory) -> dict[str, bytes]:
    return {str(path.relative_to(run.path)): path.read_bytes() for path in run.path.rglob("history.csv")}


def test_a_search_from_end_to_end(finished: tuple[RunDirectory, str]) -> None:
    run, output = finished
    trials = load_study(run).get_trials()
    assert len(trials) == TRIALS
    assert trials[0].params == {"lr": 0.02, "patience": 0}  # the experiment's own settings come first
    states = {t.state for t in trials}
    assert {TrialState.COMPLETE, TrialState.FAIL} <= states <= {TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED}
    for trial in trials:
        effective = load_experiment(run.trial(trial.number).experiment)
        stage = effective.trainings[0].stages[0]
        assert (stage.lr, stage.schedule.patience) == (trial.params["lr"], trial.params["patience"])
        for path in run.trial(trial.number).path.rglob("best.pt"):  # and it was trained with what it says
            state = read_checkpoint(path)
            assert state["inputs"]["stages"] == [stage.model_dump(mode="json")]
            assert state["history"][0]["lr"] == trial.params["lr"]
        if trial.state is TrialState.FAIL:
            assert trial.params["lr"] == 1e30 and "the loss is" in trial.user_attrs["reason"]
            assert f"trial-{trial.number:04d} failed" in output
        if trial.state is TrialState.COMPLETE:
            ends = [json.loads(path.read_text()) for path in run.trial(trial.number).path.rglob("done.json")]
            assert trial.value == pytest.approx(sum(end["best_score"] for end in ends) / 2)
    for noise in ("Traceback", "WARNING", "(raylet)", "\x1b"):
        assert noise not in output
    assert output.index("Ray dashboard: http") < output.index("trial-0000 begins")


@pytest.mark.slow
def test_what_a_search_leaves_behind(search: Road, finished: tuple[RunDirectory, str], tmp_path: Path) -> None:
    run, output = finished
    best = load_study(run).best_trial
    experiment = load_experiment(run.best)
    assert experiment.name == "search-best"
    assert experiment.trainings[0].stages[0].lr == best.params["lr"]
    table = pd.read_csv(run.study / "trials.csv")
    assert len(table) == TRIALS
    for picture in ("history", "slices", "curves"):
        assert (run.study / f"{picture}.png").stat().st_size > 5000
    kept = {path.relative_to(run.study / "trials").parts[0] for path in run.path.rglob("*.pt")}
    assert kept == {f"{best.number:04d}"}
    shown = search.run_alone("study", str(run.path))
    last = output[output.index("own settings") :]
    assert last == shown[shown.index("own settings") :]
    trained = search.run("train", tmp_path, "--experiment", str(run.best))
    assert "2 folds to train" in trained
    for fold in (0, 1):
        again = run.trial(best.number).stage("random", fold, "plateau")
        assert (RunDirectory(tmp_path).stage("random", fold, "plateau") / "best.pt").read_bytes() == (
            again / "best.pt"
        ).read_bytes()


def test_the_same_command_again_does_nothing_and_more_trials_go_on(
    search: Road, finished: tuple[RunDirectory, str]
) -> None:
    run, _ = finished
    before = told(load_study(run))
    output = search.run("tune", run.path)
    assert f"{TRIALS} trials have ended already" in output and "Ray dashboard" not in output
    assert told(load_study(run)) == before


@pytest.mark.slow
def test_driver_worker_and_both_are_killed(
    search: Road, ray_directory: Path, finished: tuple[RunDirectory, str], tmp_path: Path
) -> None:
    run = RunDirectory(tmp_path)

    def epoch(trial: int, fold: int, number: int) -> Path:
        return run.trial(trial).stage("random", fold, "plateau") / f"epoch-{number:05d}.pt"

    process = search.start("tune", tmp_path)
    wait_for(epoch(0, 0, 2).exists, process)
    process.kill()
    process.communicate()

    process = search.start("tune", tmp_path)
    wait_for(epoch(0, 1, 1).exists, process)
    victims = workers(ray_directory, TUNE_WORKER)
    assert victims
    for victim in victims:
        victim.kill()
    wait_for(lambda: len(load_study(run).get_trials()) > 1, process)
    process.kill()
    for victim in workers(ray_directory, TUNE_WORKER):
        victim.kill()
    lines, _ = process.communicate()
    assert "trial-0000: its worker was lost and goes on from its checkpoint" in lines

    output = search.run("tune", tmp_path)
    assert told(load_study(run)) == told(load_study(finished[0]))
    assert histories(run) == histories(finished[0])
    assert run.best.read_bytes() == finished[0].best.read_bytes()
    assert "trial-0000 begins" not in output  # what had ended was not run again


@pytest.mark.slow
def test_a_search_in_an_object_store_is_killed_and_ends_the_same(
    search: Road, finished: tuple[RunDirectory, str], bucket: str, tmp_path: Path
) -> None:
    run = RunDirectory(storage_path(f"{bucket}/{tmp_path.name}"))
    for trial, fold in ((0, 1), (2, 0)):
        process = search.start("tune", run.path, environment=store_environment())
        stage = run.trial(trial).stage("random", fold, "plateau")
        wait_for(lambda stage=stage: any(stage.glob("epoch-*.pt")), process)
        process.kill()
        process.communicate()
    output = search.run("tune", run.path, environment=store_environment())
    assert "trial-0000 begins" not in output
    assert told(load_study(run)) == told(load_study(finished[0]))
    here = RunDirectory(downloaded(run.path, tmp_path / "run"))
    assert histories(here) == histories(finished[0])
    assert here.best.read_bytes() == finished[0].best.read_bytes()
    assert list(here.tensorboard.rglob("events*"))


@pytest.mark.slow
def test_two_trials_at_once_are_killed_and_something_is_in_the_way(search: Road, tmp_path: Path) -> None:
    """A file where a trial's folder has to be: that is no trial's fault, and no trial is lost by it."""
    run = RunDirectory(tmp_path)
    options = ["--trials", "4", "--set", "tune.max_concurrent=2", "--set", "tune.folds=[0]"]
    options += ["--set", "tune.parameters.lr.values=[0.02, 0.005]", "--set", f"{STAGE}.early_stopping=null"]
    options += ["--set", f"{STAGE}.epochs=60"]  # long enough for two to be seen at once

    process = search.start("tune", tmp_path, *options)
    begun = [run.trial(number).stage("random", 0, "plateau") for number in (0, 1)]
    wait_for(lambda: all(list(path.glob("epoch-*.pt")) for path in begun), process)
    process.kill()
    process.communicate()

    obstacle = run.trial(2).path / "trainings"
    obstacle.parent.mkdir(parents=True)
    obstacle.touch()
    output = search.run("tune", tmp_path, *options, code=1)
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert "trial-0002" in line and str(obstacle) in line and "the same command goes on with the search" in line
    assert "Traceback" not in output
    assert all(trial.state is not TrialState.FAIL for trial in load_study(run).get_trials())

    obstacle.unlink()
    search.run("tune", tmp_path, *options)
    trials = load_study(run).get_trials()
    assert [trial.number for trial in trials] == [0, 1, 2, 3]
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    for path in tmp_path.rglob("history.csv"):
        assert pd.read_csv(path)["epoch"].is_unique


def test_a_search_that_is_refused_stays_as_it_is(search: Road, finished: tuple[RunDirectory, str]) -> None:
    run, _ = finished
    before = run.experiment.read_bytes()
    for command, setting in (("tune", "seed=9"), ("tune", "tune.sampler=gp"), ("train", "network.dropout=0.5")):
        output = search.refused(command, run.path, "--set", setting)
        assert "made with other settings" in output and "Traceback" not in output
    assert run.experiment.read_bytes() == before


KILL_TRIAL = '''
"""Loaded by every Python process: whoever writes a checkpoint of trial 1 dies."""
import os, signal
from pathlib import Path

whole = os.fsync

def deadly(handle):
    name = Path(os.readlink(f"/proc/self/fd/{handle}")) if isinstance(handle, int) else Path()
    if "study/trials/0001/trainings" in str(name) and ".pt" in name.name:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(handle)

os.fsync = deadly
'''


@pytest.mark.slow
def test_a_trial_that_keeps_dying_is_failed_and_the_search_goes_on(search: Road, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(KILL_TRIAL)
    run = tmp_path / "run"
    sets = ["--set", "resources.max_failures=1", "--set", "tune.folds=[0]", "--trials", "3"]
    sets += ["--set", "tune.parameters.lr.values=[0.02, 0.005]"]
    output = search.run("tune", run, *sets, environment={"PYTHONPATH": str(tmp_path)})
    trials = load_study(RunDirectory(run)).get_trials()
    assert [t.state for t in trials][:2] == [TrialState.COMPLETE, TrialState.FAIL]
    assert trials[2].state in (TrialState.COMPLETE, TrialState.PRUNED)
    assert "its worker failed for good" in trials[1].user_attrs["reason"]
    assert "trial-0001: its worker was lost and goes on from its checkpoint" in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--set", "tune=null"], "says not what to search"),
        (["--set", "tune.parameters.patience.high=0"], "low = 0 is not below high = 0"),
        (["--set", "tune.folds=[7]"], "random has no fold 7"),
        (["--set", "network.encoder=resnet19"], "resnet19"),
        (["--data", "/nonexistent"], "/nonexistent"),
    ],
)
def test_what_a_person_can_put_right_is_one_sentence(
    search: Road, tmp_path: Path, options: list[str], words: str
) -> None:
    output = search.refused("tune", tmp_path, *options)
    assert "Traceback" not in output and "Ray dashboard" not in output
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert words in line


def test_without_data_and_arguments_a_person_is_told_what_to_do(search: Road, tmp_path: Path) -> None:
    output = search.run_alone("tune", code=1, directory=tmp_path)
    assert output.startswith("error: data: there is no such folder")
    assert "--data DIR" in output and "launch.py demo" in output
