"""What MLflow and Weights & Biases are told of a run: everything once, and no training ends by them."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from offline import points, records
from optuna.trial import TrialState
from rich.console import Console

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Choice, Experiment, Resources, Tune
from salt_ray.errors import RunError
from salt_ray.object_store import ObjectPath
from salt_ray.pipeline import steps
from salt_ray.pipeline.local import LocalEngine
from salt_ray.pipeline.run import Run
from salt_ray.pipeline.search import search
from salt_ray.report.terminal import Terminal
from salt_ray.tracking.tracker import Epoch
from salt_ray.tracking.tracking import RUN, Mirror, Tracking, flat, joined
from salt_ray.tracking.wandb import wandb_mode
from salt_ray.training.progress import Progress

STAGE = [("random", 0, ["plateau"])]
SERIES = "random-fold-0/plateau"


def progress(epoch: int, score: float = 0.5) -> Progress:
    return Progress("random", 0, "plateau", epoch, 9, 0.25, 0.75, score, 0.875, 0.0625, 128.0, 60.0, 1000.0 + epoch)


def write_history(run: RunDirectory, epochs: int) -> None:
    folder = run.stage("random", 0, "plateau")
    folder.mkdir(parents=True)
    rows = [
        {"epoch": n, "loss": 0.25, "validation_loss": 0.75, "score": 0.5 - n / 100, "lr": 0.0625}
        for n in range(1, epochs + 1)
    ]
    pd.DataFrame(rows).to_csv(folder / "history.csv", index=False)


class Memory:
    """A tracker that keeps what it is told, and fails while it is ``away``."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.away = False

    def _answer(self, run: str) -> dict[str, Any]:
        if self.away:
            raise ConnectionError("the server is gone\nand has a second line")
        return self.runs[run]

    def begin(self, run: str | None, name: str, parent: str | None, parameters: Mapping[str, str]) -> str:
        run = run or f"id-{len(self.runs)}"
        self.runs.setdefault(run, {"parent": parent, "name": name, "points": [], "values": [], "files": []})
        self._answer(run)["parameters"] = dict(parameters)
        return run

    def epochs(self, run: str, series: str, epochs: Sequence[Epoch], before: int) -> None:
        self._answer(run)["points"] += [(series, epoch.number, dict(epoch.values)) for epoch in epochs]

    def values(self, run: str, values: Mapping[str, float], step: int) -> None:
        self._answer(run)["values"].append((step, dict(values)))

    def file(self, run: str, path: Path, kind: str) -> None:
        self._answer(run)["files"].append((kind, path.read_text()))

    def end(self, run: str, state: str) -> None:
        self._answer(run)["state"] = state

    def close(self) -> None:
        """Nothing waits."""

    def numbers(self, run: str = "id-0", series: str = SERIES) -> list[int]:
        return [number for name, number, _ in self.runs[run]["points"] if name == series]


@pytest.fixture
def memories(monkeypatch: pytest.MonkeyPatch) -> dict[str, Memory]:
    """In the place of both libraries."""
    memories = {"mlflow": Memory(), "wandb": Memory()}
    monkeypatch.setattr(Mirror, "tracker", property(lambda mirror: memories[mirror.name]))
    monkeypatch.setattr(Mirror, "check", lambda mirror: None)
    return memories


@pytest.fixture
def track(tiny: Experiment, tmp_path: Path) -> Callable[..., tuple[Tracking, list[str]]]:
    def new(*names: str) -> tuple[Tracking, list[str]]:
        """A command's trackers of one run, and what it says of them."""
        lines: list[str] = []
        experiment = tiny.replace(tracking=("tensorboard", *names))
        return Tracking(RunDirectory(tmp_path / "run"), experiment, lines.append), lines

    return new


def test_every_epoch_is_sent_once_whatever_is_trained_again(
    track: Callable, memories: dict[str, Memory], tmp_path: Path
) -> None:
    """A command ends after epoch 3; the next goes on from the checkpoint of epoch 2, and never hears of epoch 5."""
    memory = memories["mlflow"]
    for epochs in ((1, 2, 3), (2, 3, 4, 6)):
        with track("mlflow")[0] as tracking:
            for epoch in epochs:
                tracking.progress(progress(epoch))
    assert memory.numbers() == [1, 2, 3, 4, 6]
    write_history(RunDirectory(tmp_path / "run"), 7)
    for _ in range(2):
        with track("mlflow")[0] as tracking:
            tracking.stages(STAGE)
    assert memory.numbers() == [1, 2, 3, 4, 6, 5, 7]
    assert list(memory.runs) == ["id-0"] and memory.runs["id-0"]["state"] == "finished"
    assert memory.runs["id-0"]["points"][-1][2] == {
        "score": pytest.approx(0.43), "best_score": 0.49, "loss": 0.25, "validation_loss": 0.75, "lr": 0.0625
    }  # fmt: skip


def test_a_tracker_that_fails_is_left_out_with_one_line_and_gets_the_rest_later(
    track: Callable, memories: dict[str, Memory], tmp_path: Path
) -> None:
    gone, other = memories["mlflow"], memories["wandb"]
    tracking, lines = track("mlflow", "wandb")
    with tracking:
        tracking.progress(progress(1))
        gone.away = True
        for epoch in (2, 3):
            tracking.progress(progress(epoch))
        tracking.scores({"oof": 0.5})
    assert gone.numbers() == [1] and other.numbers() == [1, 2, 3] and other.runs["id-0"]["state"] == "finished"
    (line,) = lines
    assert line.startswith("mlflow cannot be written to (the server is gone): the run goes on without it")
    gone.away = False
    write_history(RunDirectory(tmp_path / "run"), 3)
    tracking, lines = track("mlflow", "wandb")
    with tracking:
        tracking.stages(STAGE)
        tracking.scores({"oof": 0.5})
    assert lines == [] and gone.numbers() == other.numbers() == [1, 2, 3] and len(gone.runs) == 1
    assert gone.runs["id-0"]["values"] == other.runs["id-0"]["values"] == [(0, {"scores/oof": 0.5})]


def test_scores_that_change_replace_earlier_ones(track: Callable, memories: dict[str, Memory]) -> None:
    for scores in ({"oof": 0.5}, {"oof": 0.5}, {"oof": 0.625}):
        with track("wandb")[0] as tracking:
            tracking.scores(scores)
    assert memories["wandb"].runs["id-0"]["values"] == [(0, {"scores/oof": 0.5}), (1, {"scores/oof": 0.625})]


def test_trials_are_runs_of_their_own_below_the_runs(track: Callable, memories: dict[str, Memory]) -> None:
    memory = memories["mlflow"]
    study = optuna.create_study(direction="maximize")
    study.add_trial(optuna.create_trial(value=0.5, params={"lr": 0.1}, distributions=DISTRIBUTIONS))
    study.add_trial(optuna.create_trial(state=TrialState.PRUNED, params={"lr": 0.2}, distributions=DISTRIBUTIONS))
    complete, pruned = study.trials
    with pytest.raises(KeyboardInterrupt), track("mlflow")[0] as tracking:
        tracking.trial_begins(0, complete.params)
        tracking.progress(progress(1), 0)
        raise KeyboardInterrupt
    assert [run["state"] for run in memory.runs.values()] == ["killed", "killed"]
    for _ in range(2):  # the second time there is nothing new
        with track("mlflow")[0] as tracking:
            tracking.trial_ends(complete, STAGE)
            tracking.trial_ends(pruned, STAGE)  # it ended while nobody was told
    parent, first, second = memory.runs.values()
    assert (parent["name"], first["name"], second["name"]) == ("run", "run/trial-0000", "run/trial-0001")
    assert first["parent"] == second["parent"] == "id-0" and parent["parent"] is None
    assert first["parameters"] == {"lr": "0.1"} and second["parameters"] == {"lr": "0.2"}
    assert first["values"] == [(0, {"value": 0.5})] and second["values"] == []
    assert (parent["state"], first["state"], second["state"]) == ("finished", "finished", "killed")
    assert memory.numbers("id-1") == [1]


DISTRIBUTIONS = {"lr": optuna.distributions.FloatDistribution(0.01, 1)}


def test_a_missing_package_is_said_before_anything_begins(
    tiny: Experiment, survey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "mlflow" else found(name))
    run = Run(tiny.replace(tracking=("mlflow",)), survey, RunDirectory(tmp_path / "run"), Terminal(quiet=True))
    with pytest.raises(RunError, match="mlflow, which is not installed: pip install mlflow-skinny"), run.held():
        pytest.fail("it began")
    assert not (tmp_path / "run" / "experiment.json").exists()


def test_a_run_in_an_object_store_needs_a_server(tiny: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    for name in ("MLFLOW_TRACKING_URI", "WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", "/nowhere")
    for name, remedy in (("mlflow", "MLFLOW_TRACKING_URI"), ("wandb", "WANDB_API_KEY")):
        mirror = Mirror(name, RunDirectory(ObjectPath("s3://bucket/run")), tiny)
        with pytest.raises(RunError, match=f"set {remedy}"):
            mirror.check()
        monkeypatch.setenv(remedy, "http://somewhere")
        mirror.check()


def test_weights_and_biases_is_offline_unless_somebody_is_logged_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert wandb_mode() == "offline"
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    assert wandb_mode() == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_mode() == "disabled"


def test_parameters_are_named_as_on_the_command_line(tiny: Experiment) -> None:
    parameters = flat(tiny.replace(name="tiny"))
    assert parameters["name"] == "tiny" and parameters["trainings.random.stages.plateau.lr"] == "0.02"
    assert parameters["network.encoder"] == tiny.network.encoder
    assert not any(name.startswith(("tune", "tracking")) for name in parameters)


def test_rows_of_numbers_grow_together() -> None:
    assert joined([], [3, 1, 2]) == [[1, 3]]
    assert joined([[1, 3], [6, 6]], [8, 5]) == [[1, 3], [5, 6], [8, 8]]
    assert joined([[1, 3], [5, 6]], [4]) == [[1, 6]]


def test_a_training_tells_what_its_history_says(
    tiny: Experiment, survey: Path, tmp_path: Path, memories: dict[str, Memory], one_thread: None
) -> None:
    """Of both folds, by the driver; without TensorBoard's files, because it is not named; and once."""
    (training,) = tiny.trainings
    stage = training.stages[0].replace(epochs=2, early_stopping=None)
    experiment = tiny.replace(
        trainings=(training.replace(stages=(stage,)),), resources=Resources(cpus_per_fold=1), tracking=("mlflow",)
    )
    for _ in range(2):
        run = Run(experiment, survey, RunDirectory(tmp_path), Terminal(Console(quiet=True)))
        with run.held():
            steps.prepare(run)
            steps.train(run, LocalEngine())
    told = memories["mlflow"].runs["id-0"]["points"]
    assert [(series, number) for series, number, _ in told] == [
        (f"random-fold-{fold}/plateau", epoch) for fold in (0, 1) for epoch in (1, 2)
    ]
    for fold in (0, 1):
        history = pd.read_csv(tmp_path / "trainings" / "random" / f"fold-{fold}" / "plateau" / "history.csv")
        values = [values for series, _, values in told if series == f"random-fold-{fold}/plateau"]
        for name in ("score", "loss", "validation_loss", "lr"):
            assert [each[name] for each in values] == pytest.approx(list(history[name]))
    assert not (tmp_path / "tensorboard").exists()


def test_mlflow_keeps_runs_below_the_run_directory(
    track: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    report = tmp_path / "report.html"
    (tmp_path / "run" / "tracking").mkdir(parents=True)
    (tmp_path / "run" / "tracking" / ".mlflow.db").write_bytes(b"half a database, of a command that was killed")
    for epochs, text in (((1, 2), "first"), ((2, 3), "second")):
        report.write_text(text)
        with track("mlflow")[0] as tracking:
            tracking.trial_begins(0, {"lr": 0.1})
            for epoch in epochs:
                tracking.progress(progress(epoch, epoch / 10))
                tracking.progress(progress(epoch, epoch / 20), trial=0)
            tracking.scores({"fold 0": 0.5, "oof": 0.5})
            tracking.file(report, "report")
    folder = tmp_path / "run" / "tracking"
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    (experiment,) = [one for one in client.search_experiments() if one.name == "tiny"]
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"run", "run/trial-0000"}
    run, trial = runs["run"], runs["run/trial-0000"]
    assert trial.data.tags["mlflow.parentRunId"] == run.info.run_id and trial.data.params == {"lr": "0.1"}
    assert (run.info.status, trial.info.status) == ("FINISHED", "KILLED")
    for found, scale in ((run, 10), (trial, 20)):
        history = client.get_metric_history(found.info.run_id, f"{SERIES}/score")
        expected = [(epoch, epoch / scale, 1000 * (1000 + epoch)) for epoch in (1, 2, 3)]
        assert sorted((point.step, point.value, point.timestamp) for point in history) == expected
    assert run.data.params["trainings.random.stages.plateau.lr"] == "0.02"
    assert run.data.metrics["scores/oof"] == 0.5
    (artifact,) = client.list_artifacts(run.info.run_id)
    assert Path(client.download_artifacts(run.info.run_id, artifact.path)).read_text() == "second"


def test_mlflow_follows_its_own_setting_and_a_server_that_is_gone_ends_nothing(
    track: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    with socket.socket() as unused:  # bound and not listening: it refuses at once
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{unused.getsockname()[1]}")
        tracking, lines = track("mlflow")
        with tracking:
            for epoch in (1, 2):
                tracking.progress(progress(epoch))
    assert len(lines) == 1 and lines[0].startswith("mlflow cannot be written to (")
    assert [path.name for path in (tmp_path / "run" / "tracking").iterdir()] == ["mlflow.json"]


def test_weights_and_biases_keeps_runs_below_the_run_directory(
    track: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    report = tmp_path / "report.html"
    report.write_text("a report")
    for epochs in ((1, 2), (2, 3)):
        with track("wandb")[0] as tracking:
            tracking.trial_begins(0, {"lr": 0.1})
            for epoch in epochs:
                tracking.progress(progress(epoch, epoch / 10))
                tracking.progress(progress(epoch, epoch / 20), trial=0)
            tracking.scores({"oof": 0.5})
            tracking.file(report, "report")
    noted = Mirror("wandb", RunDirectory(tmp_path / "run"), track()[0]._experiment).noted["runs"]
    for unit, scale in ((RUN, 10), ("trial-0000", 20)):
        files = sorted((tmp_path / "run" / "tracking" / "wandb").glob(f"offline-run-*/run-{noted[unit]}.wandb"))
        assert len(files) == 2  # a file each time, of one run
        told = [point for file in files for point in points(file)]
        assert [point["_step"] for point in told] == [0, 1, 2]
        assert [(point[f"{SERIES}/epoch"], point[f"{SERIES}/score"]) for point in told] == [
            (epoch, pytest.approx(epoch / scale)) for epoch in (1, 2, 3)
        ]
    begun = [record.run for record in records(files[0]) if record.HasField("run")]
    assert begun[0].run_group == noted[RUN] and begun[0].display_name == "run/trial-0000"
    assert any(item.key == "lr" and item.value_json == '"0.1"' for item in begun[0].config.update)


def test_a_search_tells_of_every_trial(
    tiny: Experiment, survey: Path, tmp_path: Path, memories: dict[str, Memory], one_thread: None
) -> None:
    """One that gives a loss that is no number is failed; a search that is done tells nothing twice."""
    (training,) = tiny.trainings
    stage = training.stages[0].replace(epochs=2, early_stopping=None)
    lr = Choice(name="lr", fields=("trainings.all.stages.all.lr",), values=(0.02, 1e30))
    experiment = tiny.replace(
        trainings=(training.replace(stages=(stage,)),),
        resources=Resources(cpus_per_fold=1),
        tune=Tune(parameters=(lr,), trials=3, folds=(1,), sampler="qmc", pruner="none", max_concurrent=1),
        tracking=("mlflow",),
    )
    for _ in range(2):
        with Run(experiment, survey, RunDirectory(tmp_path), Terminal(Console(quiet=True))).held() as run:
            search(run, LocalEngine())
    parent, *trials = memories["mlflow"].runs.values()
    assert parent["parent"] is None and parent["state"] == "finished" and len(trials) == 3
    for trial in trials:
        good = trial["parameters"] == {"lr": "0.02"}
        assert trial["parent"] == "id-0" and trial["state"] == ("finished" if good else "failed")
        assert [number for _, number, _ in trial["points"]] == ([1, 2] if good else [])
        assert [list(values) for _, values in trial["values"]] == ([["value"]] if good else [])
    assert {trial["state"] for trial in trials} == {"finished", "failed"}
