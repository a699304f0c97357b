"""A search through the command line on a local Ray, disturbed until its end; and what it leaves behind and refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import optuna
import pandas as pd
import pytest
from browser import page_text
from curves import curves
from dashboard import Dashboard, followed
from moments import Moments
from optuna.trial import TrialState
from road import SECONDS, Road, downloaded, store_environment, wait_for, workers

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Choice, Experiment, IntRange, Resources, Tune
from salt_ray.experiment_file import load_experiment
from salt_ray.pipeline.local import LocalEngine
from salt_ray.pipeline.run import Run
from salt_ray.pipeline.search import search as run_search
from salt_ray.report.terminal import Terminal
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
THIRD_EPOCH = "*/trials/0000/*/fold-0/plateau/.epoch-00003.pt.*"


@pytest.fixture(scope="session")
def search(tiny: Experiment, survey: Path, ray_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Road:
    """Both folds of three epochs; one trial at a time, so that the same seed gives the same search."""
    (training,) = tiny.trainings
    stage = training.stages[0].replace(epochs=3)
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
    experiment = tiny.replace(
        name="search",
        trainings=(training.replace(stages=(stage,)),),
        tune=tune,
        resources=Resources(cpus_per_fold=1),  # other threads give other bytes
    )
    path = tmp_path_factory.mktemp("search") / "search.json"
    path.write_text(experiment.model_dump_json())
    return Road(survey, path, ray_directory)


@pytest.fixture(scope="session")
def finished(search: Road, survey: Path, own_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """The search that nobody disturbed, made without Ray."""
    run = RunDirectory(tmp_path_factory.mktemp("finished"))
    experiment = load_experiment(Path(search.options[3]))
    with Run(experiment, survey, run, Terminal(quiet=True)).held() as held:
        run_search(held, LocalEngine())
    return run


def told(study: optuna.Study) -> list[tuple]:
    return [
        (t.number, t.state, None if t.state is TrialState.FAIL else t.value, t.params, t.intermediate_values)
        for t in study.get_trials()
    ]


def histories(run: RunDirectory) -> dict[str, bytes]:
    return {str(path.relative_to(run.path)): path.read_bytes() for path in run.path.rglob("history.csv")}


# What a search leaves behind -----------------------------------------------------------------------------------------


def test_every_trial_trains_with_what_was_sampled_for_it(finished: RunDirectory) -> None:
    trials = load_study(finished).get_trials()
    assert len(trials) == TRIALS
    assert trials[0].params == {"lr": 0.02, "patience": 0}  # the experiment's own settings come first
    states = {t.state for t in trials}
    assert {TrialState.COMPLETE, TrialState.FAIL} <= states <= {TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED}
    for trial in trials:
        effective = load_experiment(finished.trial(trial.number).experiment)
        stage = effective.trainings[0].stages[0]
        assert (stage.lr, stage.schedule.patience) == (trial.params["lr"], trial.params["patience"])
        for path in finished.trial(trial.number).path.rglob("best.pt"):  # and it was trained with what it says
            state = read_checkpoint(path)
            assert state["inputs"]["stages"] == [stage.model_dump(mode="json")]
            assert state["history"][0]["lr"] == trial.params["lr"]
        if trial.state is TrialState.FAIL:
            assert trial.params["lr"] == 1e30 and "the loss is" in trial.user_attrs["reason"]
        if trial.state is TrialState.COMPLETE:
            ends = [json.loads(path.read_text()) for path in finished.trial(trial.number).path.rglob("done.json")]
            assert trial.value == pytest.approx(sum(end["best_score"] for end in ends) / 2)


def test_what_a_search_leaves_behind(search: Road, finished: RunDirectory, tmp_path: Path) -> None:
    best = load_study(finished).best_trial
    experiment = load_experiment(finished.best)
    assert experiment.name == "search-best"
    assert experiment.trainings[0].stages[0].lr == best.params["lr"]
    table = pd.read_csv(finished.study / "trials.csv")
    assert len(table) == TRIALS
    for picture in ("history", "slices", "curves"):
        assert (finished.study / f"{picture}.png").stat().st_size > 5000
    kept = {path.relative_to(finished.study / "trials").parts[0] for path in finished.path.rglob("*.pt")}
    assert kept == {f"{best.number:04d}"}
    search.here("train", tmp_path, "--experiment", str(finished.best))
    for fold in (0, 1):
        again = finished.trial(best.number).stage("random", fold, "plateau")
        assert (RunDirectory(tmp_path).stage("random", fold, "plateau") / "best.pt").read_bytes() == (
            again / "best.pt"
        ).read_bytes()


def test_the_same_command_again_does_nothing(search: Road, finished: RunDirectory) -> None:
    before = told(load_study(finished))
    output = search.here("tune", finished.path)
    assert f"{TRIALS} trials have already ended" in output and "Ray dashboard" not in output
    assert told(load_study(finished)) == before


def test_a_search_that_is_refused_stays_as_it_is(search: Road, finished: RunDirectory) -> None:
    before = finished.experiment.read_bytes()
    for command, setting in (("tune", "seed=9"), ("tune", "tune.sampler=gp"), ("train", "network.decoder.dropout=0.5")):
        output = search.refused(command, finished.path, "--set", setting)
        assert "made with different settings" in output and "Traceback" not in output
    assert finished.experiment.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--set", "tune=null"], "does not say what to search"),
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


# One search on a Ray, in the order of its life -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def moments(tmp_path_factory: pytest.TempPathFactory) -> Moments:
    return Moments(tmp_path_factory.mktemp("moments") / "hook")


@pytest.fixture(scope="module")
def begun(search: Road, moments: Moments, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """A search that is stopped in the last epoch of its first trial's first fold."""
    with followed(search, tmp_path_factory.mktemp("begun"), moments, THIRD_EPOCH, "tune") as shown:
        yield shown


@pytest.mark.alone
@pytest.mark.slow
def test_a_trials_actor_says_its_number_and_its_values(begun: Dashboard) -> None:
    actors = begun.get("/logical/actors")["data"]["actors"].values()
    assert "trial-0000 lr=0.02 patience=0" in {actor["reprName"] for actor in actors}


@pytest.mark.alone
@pytest.mark.slow
def test_metrics_are_told_by_trial(begun: Dashboard) -> None:
    expected = {("search", "trial-0000", "random", "0", "plateau")}
    wait_for(lambda: set(begun.metrics().get("score", ())) == expected, begun.process)
    assert set(begun.metrics()) == {"score", "best_score", "loss", "lr", "tiles_per_second"}


@pytest.mark.alone
@pytest.mark.slow
def test_tensorboard_follows_every_epoch_of_a_trial(begun: Dashboard) -> None:
    points = curves(begun.run / "tensorboard" / "trial-0000" / "random-fold-0" / "plateau")["plateau/score"]
    assert [step for step, _ in points] == [1, 2]


@pytest.mark.alone
@pytest.mark.soak
@pytest.mark.browser
def test_a_person_finds_the_trial(begun: Dashboard, tmp_path: Path) -> None:
    """On the page of actors, by its values."""
    picture = tmp_path / "actors.png"
    text = page_text(f"{begun.address}/#/actors", begun.token, "trial-0000 lr=0.02", SECONDS, picture)
    assert "ALIVE" in text
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.alone
@pytest.mark.slow
def test_driver_and_worker_are_killed_and_something_is_in_the_way(
    search: Road, begun: Dashboard, moments: Moments, finished: RunDirectory
) -> None:
    """The search ends as one that nobody disturbed; in between a file is where a trial's folder has to be.

    That is no trial's fault, and no trial is lost by it.
    """
    run = RunDirectory(begun.run)
    begun.process.kill()
    begun.process.wait()

    obstacle = run.trial(1).path / "trainings"
    obstacle.parent.mkdir(parents=True)
    obstacle.touch()
    torn = moments.at("*/trials/0000/*/fold-1/plateau/.epoch-00002.pt.*")
    process = search.start("tune", run.path, environment=moments.environment)
    wait_for(lambda: torn.reached, process)
    torn.kill()
    output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 1 and "Traceback" not in output
    assert "trial-0000: its worker was lost and resumes from its checkpoint" in output
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert "trial-0001" in line and str(obstacle) in line and "run the same command again to resume the search" in line
    assert [trial.state for trial in load_study(run).get_trials()] == [TrialState.COMPLETE, TrialState.RUNNING]

    obstacle.unlink()
    output = search.run("tune", run.path)
    assert "trial-0000 begins" not in output  # what had ended was not run again
    assert output.index("Ray dashboard: http") < output.index("trial-0001 begins")
    for trial in load_study(run).get_trials(states=(TrialState.FAIL,)):
        assert f"trial-{trial.number:04d} failed" in output
    for noise in ("Traceback", "WARNING", "(raylet)", "\x1b"):
        assert noise not in output
    assert told(load_study(run)) == told(load_study(finished))
    assert histories(run) == histories(finished)
    assert run.best.read_bytes() == finished.best.read_bytes()
    shown = search.run_alone("study", str(run.path))
    assert output[output.index("own settings") :] == shown[shown.index("own settings") :]


@pytest.mark.alone
@pytest.mark.soak
def test_a_search_in_an_object_store_is_killed_and_ends_the_same(
    search: Road, finished: RunDirectory, bucket: str, tmp_path: Path
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
    assert told(load_study(run)) == told(load_study(finished))
    here = RunDirectory(downloaded(run.path, tmp_path / "run"))
    assert histories(here) == histories(finished)
    assert here.best.read_bytes() == finished.best.read_bytes()
    assert list(here.tensorboard.rglob("events*"))


@pytest.mark.alone
@pytest.mark.soak
def test_two_trials_at_once_are_killed(search: Road, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    options = ["--trials", "4", "--set", "tune.max_concurrent=2", "--set", "tune.folds=[0]"]
    options += ["--set", "tune.parameters.lr.values=[0.02, 0.005]", "--set", f"{STAGE}.early_stopping=null"]
    options += ["--set", f"{STAGE}.epochs=60"]  # long enough for two to be seen at once

    process = search.start("tune", tmp_path, *options)
    both = [run.trial(number).stage("random", 0, "plateau") for number in (0, 1)]
    wait_for(lambda: all(list(path.glob("epoch-*.pt")) for path in both), process)
    assert len(workers(Path(search.environment["RAY_TMPDIR"]), TUNE_WORKER)) == 2
    process.kill()
    process.communicate()

    search.run("tune", tmp_path, *options)
    trials = load_study(run).get_trials()
    assert [trial.number for trial in trials] == [0, 1, 2, 3]
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    for path in tmp_path.rglob("history.csv"):
        assert pd.read_csv(path)["epoch"].is_unique
