"""Runs the command line on a survey of its own, and looks at what a run left behind."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
import pytest
import ray

from salt_ray.cli.main import EXIT_ERROR, main
from salt_ray.object_store import ObjectPath
from salt_ray.storage import StoragePath

ROOT = Path(__file__).parents[2]
SECONDS = 240
#: Commands that take an engine.
ENGINE = {"apply", "demo", "pipeline", "postprocess", "predict", "train", "tune"}


class Road:
    """Runs ``python launch.py`` on one survey and experiment."""

    def __init__(self, survey: Path, experiment: Path, ray_directory: Path) -> None:
        self.options = ["--data", str(survey), "--experiment", str(experiment)]
        self.environment = {**os.environ, "RAY_TMPDIR": str(ray_directory), "COLUMNS": "200"}
        self.environment.pop("RAY_ADDRESS", None)

    def start(
        self, command: str, run: StoragePath, *more: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "launch.py", command, *self.options, "--run-dir", str(run), *more],
            cwd=ROOT,
            env={**self.environment, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(
        self, command: str, run: StoragePath, *more: str, code: int = 0, environment: Mapping[str, str] | None = None
    ) -> str:
        """What the command printed; it must end with this exit code."""
        process = self.start(command, run, *more, environment=environment)
        output, _ = process.communicate(timeout=SECONDS)
        assert process.returncode == code, output
        return output

    def here(self, command: str, run: StoragePath, *more: str, code: int = 0) -> str:
        """What the command printed, all of whose work was done in this process; it must end with this exit code."""
        return self.here_alone(command, *self.options, "--run-dir", str(run), *more, code=code)

    def here_alone(self, *words: str, code: int = 0) -> str:
        """What the command with nothing but these words printed, as ``here``."""
        return self._in_this_process([*words, *(["--engine", "local"] if words[0] in ENGINE else [])], code)

    def refused(self, command: str, run: Path, *more: str) -> str:
        """What the command printed, in this process: it must end with exit code 1 before it joins a Ray."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ray, "init", lambda **options: pytest.fail("it connects to a Ray"))
            return self._in_this_process([command, *self.options, "--run-dir", str(run), *more], EXIT_ERROR)

    def _in_this_process(self, words: list[str], code: int) -> str:
        printed = io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
            pytest.raises(SystemExit) as exit,
        ):
            patch.setattr(sys, "argv", ["launch.py", *words])
            for name in ("RAY_TMPDIR", "COLUMNS"):
                patch.setenv(name, self.environment[name])
            patch.delenv("RAY_ADDRESS", raising=False)
            main()
        assert exit.value.code == code, printed.getvalue()
        return printed.getvalue()

    def run_alone(self, *words: str, code: int = 0, directory: Path = ROOT) -> str:
        """What ``python launch.py`` printed with nothing but these words, in a directory."""
        command = [sys.executable, str(ROOT / "launch.py"), *words]
        done = subprocess.run(
            command, cwd=directory, env=self.environment, capture_output=True, text=True, timeout=SECONDS
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr


def results(run: Path) -> dict[str, bytes]:
    """Every byte of a run that must not depend on how it came about.

    Ray's own book-keeping is none, nor is how long epochs took, nor what a killed process has left half written under a
    temporary name.
    """
    kept = ("folds", "trainings", "predictions", "mosaics", "postprocessing")
    files = [path for folder in kept for path in (run / folder).rglob("*") if path.is_file()]
    files = [path for path in files if path.suffix != ".tmp" and path.name != "times.csv"]
    files += [run / "submission.csv", run / "masks.zip", run / "scores.json"]
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(files)}


def store_environment() -> dict[str, str]:
    """How this process reaches its object store, for one that it starts."""
    return {name: value for name, value in os.environ.items() if name.startswith("AWS_")}


def downloaded(run: ObjectPath, to: Path) -> Path:
    """The same run on the disk."""
    for path in run.rglob("*"):
        if path.is_file():
            target = to / str(path).removeprefix(f"{run}/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return to


def wait_for(condition: Callable[[], bool], process: subprocess.Popen, seconds: float = SECONDS) -> None:
    """Wait until ``condition()`` holds while the process runs.

    Looking takes a fifth of a core at most, where it takes up to 50 ms: what is waited for needs the cores.
    """
    deadline = time.monotonic() + seconds
    while True:
        looked = time.monotonic()
        if condition():
            return
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(min(max(0.01, 4 * (time.monotonic() - looked)), 0.2))


def workers(ray_directory: Path, named: str = "RayTrainWorker") -> list[psutil.Process]:
    """The training workers of our own Ray: processes that Ray has titled so, started from our directory."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        title, environment = " ".join(process.info["cmdline"] or []), process.info["environ"] or {}
        if title.startswith("ray::") and named in title and environment.get("RAY_TMPDIR") == str(ray_directory):
            found.append(process)
    return found
