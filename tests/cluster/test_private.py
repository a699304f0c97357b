"""Parts of Ray that are no public API: in one file, each with its reason, and there in the Ray that is installed."""

from __future__ import annotations

import ast
import inspect
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from salt_ray.cluster import private

import ray  # isort: skip
from ray.tune.experiment import Trial  # isort: skip
from ray.tune.execution.tune_controller import TuneController  # isort: skip

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "salt_ray").rglob("*.py"))


def is_private(name: str) -> bool:
    return name == "__mixins__" or (name.startswith("_") and not name.startswith("__"))


def own_names() -> set[str]:
    """What the project's code defines itself: functions, classes, variables, attributes, parameters."""
    found = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.attr if isinstance(node, ast.Attribute) else node.id)
    return found - {"__mixins__"}


OWN = own_names()


def private_names(path: Path) -> set[str]:
    """Private modules of Ray and Optuna that a file imports, and private attributes that are not the project's own."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None)
            names = [f"{module}.{alias.name}" if module else alias.name for alias in node.names]
            theirs = [name for name in names if name.split(".")[0] in ("ray", "optuna")]
            found |= {name for name in theirs if "._" in name or ".generated" in name}
        elif isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in OWN:
            found.add(node.attr)
    return found


#: Those that could reach into Ray, Tune or Optuna.
THEIRS = [path for path in FILES if re.search(r"^\s*(import|from) (ray|optuna)\b", path.read_text(), re.MULTILINE)]


@pytest.mark.parametrize("path", THEIRS, ids=lambda path: str(path.relative_to(ROOT)))
def test_there_are_no_others(path: Path) -> None:
    allowed = {"study.py": {"_trial_id"}}.get(path.name, set())  # of Optuna: to go on with a trial that was running
    if path.name != "private.py":
        assert private_names(path) <= allowed


def test_the_rule_would_notice() -> None:
    found = private_names(ROOT / "salt_ray" / "cluster" / "private.py")
    assert {"ray._private.state.state", "_set_trial_status", "__mixins__", "_private"} <= found


def test_each_says_why() -> None:
    functions = [
        each for _, each in inspect.getmembers(private, inspect.isfunction) if each.__module__ == private.__name__
    ]
    assert len(functions) == 11 and all(len(each.__doc__.split()) > 8 for each in functions)


def test_folder_and_address_of_a_local_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert private.local_folder() == str(tmp_path) and private.own_address() is None
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("10.0.0.1:6379\n")
    assert private.own_address() == "10.0.0.1:6379"


def test_the_driver_of_a_job_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(private.RAY_JOB_CONFIG_JSON_ENV_VAR, raising=False)
    assert not private.is_driver_of_a_job()
    monkeypatch.setenv(private.RAY_JOB_CONFIG_JSON_ENV_VAR, "{}")
    assert private.is_driver_of_a_job()


def test_a_token_is_used_where_nothing_else_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    private.use_token_of_this_node()
    assert os.environ["RAY_AUTH_MODE"] == "disabled"


def test_the_call_comes_just_before_the_driver_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    came: list[str] = []
    connect = lambda *args, **options: came.append("connects")  # noqa: E731
    monkeypatch.setattr(ray._private.worker, "connect", connect)
    with private.before_driver_connects(lambda: came.append("called")):
        ray._private.worker.connect()
    assert came == ["called", "connects"] and ray._private.worker.connect is connect
    assert "connect(" in inspect.getsource(ray._private.worker.init)


def test_trials_wait_and_begin() -> None:
    assert {Trial.PAUSED, Trial.PENDING} == {"PAUSED", "PENDING"} and hasattr(TuneController, "_set_trial_status")
    trial = SimpleNamespace(status="ERROR")
    controller = SimpleNamespace(_set_trial_status=lambda trial, status: setattr(trial, "status", status))
    private.put_by(controller, trial)
    assert trial.status == Trial.PAUSED
    private.let_begin(controller, trial)
    assert trial.status == Trial.PENDING


def test_a_mixin_reaches_the_actors_of_a_function() -> None:
    from ray.tune.trainable.util import with_parameters  # what Tune does with a function that has one

    class Mixin:
        pass

    def function(config: dict, more: int) -> None:
        pass

    assert with_parameters(private.with_mixin(function, Mixin), more=1).__mixins__ == (Mixin,)


def test_the_coordinator_is_there() -> None:
    from ray.data._internal.cluster_autoscaler import default_autoscaling_coordinator as module

    assert callable(module.get_or_create_autoscaling_coordinator)
    text = inspect.getsource(module)
    assert "def request_resources(" in text and "def cancel_request(" in text and "expire_after_s" in text
