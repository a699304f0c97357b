"""A command line as a job of a cluster runs it: on the head node, and from elsewhere."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
from head import write_project

from salt_ray.cluster.command import Command, take_option
from salt_ray.cluster.session import ClusterError

SECRETS = ("RAY_AUTH_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = write_project(tmp_path_factory.mktemp("command") / "project", "")
    for place in ("runs/tune/best.json", "ideas/one.py", "ideas/two.py", "ideas/tiles.csv"):
        (project / place).parent.mkdir(parents=True, exist_ok=True)
        (project / place).write_text("")
    return project


def elsewhere(project: Path, *arguments: str, said: list[str] | None = None) -> Command:
    return Command.elsewhere(project, arguments, [].append if said is None else said.append)


def test_on_the_head_node_it_keeps_its_folder_and_its_python(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder := tmp_path / "a b").mkdir()
    monkeypatch.chdir(folder)
    arguments = ["tune", "--data", "tiles", "--experiment", "own.py", "--set", "name=a b"]
    command = Command.here(project, arguments)
    assert command.entrypoint.startswith(f"cd '{folder}' || exit 127; exec ")
    assert shlex.split(command.entrypoint)[-9:] == [sys.executable, str(project / "launch.py"), *arguments]
    assert command.arguments == arguments and "salt_ray/section.py" in command.files


def test_no_secret_travels_and_a_place_of_objects_does(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "hunter2")
    places = {"AWS_ENDPOINT_URL": "http://127.0.0.1:5000", "AWS_REGION": "eu-west-1"}
    own = {"SALT_RAY_CACHE": "/c", "SALT_RAY_RUNS": "/r", "SALT_RAY_DATA": "/d"}
    for name, value in {**places, **own, "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5"}.items():
        monkeypatch.setenv(name, value)
    here, there = Command.here(project, ["train"]), elsewhere(project, "train")
    assert places.items() <= here.environment.items() and places.items() <= there.environment.items()
    assert own.items() <= here.environment.items() and not own.keys() & there.environment.keys()
    assert there.environment["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] == "0.5"
    assert "hunter2" not in str(here) + str(there)


def test_from_elsewhere_it_runs_the_clusters_python_in_the_package(project: Path) -> None:
    command = elsewhere(project, "train", "--run-dir", "a b")
    assert command.entrypoint == "exec python launch.py train --run-dir 'a b'"


@pytest.mark.parametrize("form", ["{}/experiments/demo.py", "experiments/demo.py", "./ideas/../experiments/demo.py"])
def test_an_experiment_of_the_project_keeps_its_place(
    form: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    command = elsewhere(project, "train", f"--experiment={form.format(project)}", "--set", "seed=1")
    assert command.arguments == ["train", "--set", "seed=1", "--experiment", "experiments/demo.py"]


def test_an_experiment_travels_from_where_code_does_not(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project / "ideas")
    json = elsewhere(project, "train", "--experiment", "../runs/tune/best.json")
    assert json.arguments == ["train", "--experiment", "runs/tune/best.json"]
    assert [place for place in json.files if place.startswith("runs")] == ["runs/tune/best.json"]
    python = elsewhere(project, "train", "--experiment", "one.py")
    assert python.arguments == ["train", "--experiment", "ideas/one.py"]
    assert {place for place in python.files if place.startswith("ideas")} == {"ideas/one.py", "ideas/two.py"}


def test_an_experiment_from_outside_travels_alone(project: Path, tmp_path: Path) -> None:
    for name in ("demo.py", "other.py"):
        (tmp_path / name).write_text("")
    command = elsewhere(project, "train", "--experiment", str(tmp_path / "demo.py"))
    assert command.arguments == ["train", "--experiment", "outside/demo.py"]
    assert command.files["outside/demo.py"] == tmp_path / "demo.py" != command.files["experiments/demo.py"]
    assert "outside/other.py" not in command.files


def test_an_object_is_there_as_it_is_here(project: Path) -> None:
    arguments = [
        "train",
        "--experiment",
        "s3://runs/tune/best.json",
        "--data",
        "s3://tiles",
        "--run-dir",
        "s3://runs/x",
    ]
    assert elsewhere(project, *arguments).arguments == arguments


def test_tiles_are_named_as_the_cluster_sees_them(project: Path) -> None:
    with pytest.raises(ClusterError, match=r"--data tiles.*absolute path.*SALT_RAY_DATA"):
        elsewhere(project, "train", "--data", "tiles")
    assert elsewhere(project, "train", "--data", "/mnt/tiles").arguments == ["train", "--data", "/mnt/tiles"]


def test_files_of_settings_that_stay_here_are_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    fields = ["holdout=ideas/tiles.csv", "seed=1", "tune.folds=" + 300 * "[", "network.encoder=./experiments/demo.py"]
    said: list[str] = []
    elsewhere(project, "train", *(word for field in fields for word in ("--set", field)), said=said)
    (line,) = said
    assert line.startswith("ideas/tiles.csv (holdout) is not uploaded")


def test_options_are_taken_in_both_forms() -> None:
    words = ["tune", "--address", "h:1", "--set", "a=b", "--address=h:2", "--run-dir", "x"]
    assert take_option(words, "--address") == (["tune", "--set", "a=b", "--run-dir", "x"], ["h:1", "h:2"])
