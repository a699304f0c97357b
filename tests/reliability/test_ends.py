"""A command that a signal ends: one message, a shell's exit code, no process left, and the same command goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from road import ROOT, SECONDS, Road, wait_for

from salt_ray.artifacts import RunDirectory
from salt_ray.training.checkpoint import CheckpointFolder

pytestmark = [pytest.mark.alone, pytest.mark.slow, pytest.mark.usefixtures("interruptible")]

LONG = {"epochs": "100000", "early_stopping": "null"}  # it trains until it is ended


def started(road: Road, run: Path) -> subprocess.Popen:
    """``train`` in a session of its own, as a terminal's."""
    words = [sys.executable, "launch.py", "train", *road.options, "--run-dir", str(run)]
    words += ["--set", "resources.compile=false"]
    words += [word for f, v in LONG.items() for word in ("--set", f"trainings.random.stages.plateau.{f}={v}")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(words, cwd=ROOT, env=road.environment, start_new_session=True, **pipes)


def newest_epoch(run: Path) -> int:
    return CheckpointFolder(RunDirectory(run).stage("random", 0, "plateau")).newest_epoch()


def test_it_is_ended_by_a_scheduler_and_by_a_closed_terminal(road: Road, tmp_path: Path) -> None:
    epoch = 0
    for number, to_all in ((signal.SIGTERM, False), (signal.SIGHUP, True)):
        process = started(road, tmp_path)
        wait_for(lambda before=epoch: newest_epoch(tmp_path) > before, process)
        session = [other for other in psutil.process_iter() if _session(other) == process.pid]
        assert len(session) > 5  # Ray's are among them
        (os.killpg if to_all else os.kill)(process.pid, number)
        _, message = process.communicate(timeout=SECONDS)
        epoch = newest_epoch(tmp_path)  # one more may have been saved since
        assert process.returncode == 128 + number
        assert message == f"interrupted: finished work is kept in {tmp_path}; run the same command again to resume\n"
        _, left = psutil.wait_procs(session, timeout=SECONDS)
        assert not left


def _session(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except ProcessLookupError:
        return None
