"""``volume predict`` as who runs it sees it: how far it is, who else is at it, kills, a full disk, a cluster."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_run import write_run
from made_segy import grid_numbers, waves, write_segy
from moments import Moments
from road import ROOT, SECONDS, Road, wait_for

from salt_ray.artifacts import RunDirectory
from salt_ray.cluster import jobs
from salt_ray.config import Experiment, Resources
from salt_ray.pipeline.local import LocalEngine
from salt_ray.pipeline.slabs import SlabWork
from salt_ray.pipeline.trained import load_run
from salt_ray.pipeline.volumes import Asked, predict_volume
from salt_ray.report.status import Status, Step, run_status
from salt_ray.report.terminal import Terminal
from salt_ray.volume.copying import Copy
from salt_ray.volume.scan import open_volume
from salt_ray.volume.slabs import Slab

pytestmark = pytest.mark.usefixtures("one_thread")
INLINES, CROSSLINES, SAMPLES = 8, 40, 50
RESULTS = ("probability.sgy", "mask.sgy", "spread.sgy", "top.csv", "base.csv", "top.xyz", "bodies.csv")


@pytest.fixture(scope="module")
def run(tiny: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    labels = tiny.labels.replace(full_tiles="salt")
    experiment = tiny.replace(labels=labels, resources=Resources(cpus_per_fold=1))
    return write_run(tmp_path_factory.mktemp("run") / "a run", experiment)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "a.sgy"
    return write_segy(path, waves(INLINES * CROSSLINES, SAMPLES), grid_numbers(INLINES, CROSSLINES))


def predicted(run: Path, data: Path, to: Path, engine: Any = None, **asked: Any) -> dict[str, Any]:
    terminal = Terminal(quiet=True)
    return predict_volume(
        load_run(run), open_volume(data), RunDirectory(to), engine or LocalEngine(), terminal, Asked(**asked)
    )


@pytest.fixture(scope="module")
def whole(run: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What comes out where nobody disturbs it."""
    to = tmp_path_factory.mktemp("whole") / "to"
    predicted(run, data, to)
    return to


def same(to: Path, whole: Path) -> bool:
    return all((to / name).read_bytes() == (whole / name).read_bytes() for name in RESULTS)


def words(run: Path, data: Path, to: Path, *more: str) -> list[str]:
    return ["volume", "predict", str(run), "--data", str(data), "--to", str(to), *more]


class Watched(LocalEngine):
    """Looks at the folder after each slab, as somebody else would; may end after some."""

    def __init__(self, to: Path, end_after: int | None = None) -> None:
        self.to, self.end_after, self.seen = RunDirectory(to), end_after, list[Status]()

    def predict(self, pieces: Sequence[Slab], work: SlabWork, say: Any) -> Iterator[Slab]:
        for slab in super().predict(pieces, work, say):
            self.seen.append(run_status(self.to))
            if len(self.seen) == self.end_after:
                raise KeyboardInterrupt
            yield slab


def steps(status: Status) -> list[tuple[str, str, str]]:
    return [(step.name, step.state, step.detail) for step in status.steps]


# How far it is -------------------------------------------------------------------------------------------------------


def test_status_counts_slabs_while_they_come_and_tells_results_at_the_end(
    run: Path, data: Path, tmp_path: Path
) -> None:
    first = Watched(tmp_path, end_after=3)
    with pytest.raises(KeyboardInterrupt):
        predicted(run, data, tmp_path, first, direction="both", as_is=True)
    assert all(status.in_use and status.next == "a process is working on it" for status in first.seen)
    of_all = INLINES + 14  # 40 crosslines, three in a slab
    for count, status in enumerate(first.seen, start=1):
        (name, state, detail), write = steps(status)
        assert (name, state, write) == ("predict", "running", ("write", "waiting", ""))
        assert detail.startswith(f"{count} of {of_all} slabs, about ") and detail.endswith(" left")

    stopped = run_status(RunDirectory(tmp_path))
    assert not stopped.in_use and stopped.experiment == "a.sgy"
    assert steps(stopped) == [("predict", "begun", f"3 of {of_all} slabs"), ("write", "waiting", "")]
    assert stopped.steps[0].size > 3 * 2 * 4 * CROSSLINES * SAMPLES
    command = stopped.next.partition("launch.py ")[2].partition(", with the same options")[0]
    assert shlex.split(command) == words(run, data, tmp_path) and stopped.next.startswith("next: predict; ")

    summary = predicted(run, data, tmp_path, direction="both", as_is=True)
    done = run_status(RunDirectory(tmp_path))
    predict, write = done.steps
    assert (predict, done.next) == (Step("predict", "done", f"{of_all} slabs", None, None), "")
    assert write.state == "done" and write.size == sum((tmp_path / name).stat().st_size for name in summary["files"])
    assert write.detail.startswith("320 traces, ") and done.results == {"summary": summary}
    (tmp_path / "scores.json").write_text('{"iou": 0.5}')
    assert steps(run_status(RunDirectory(tmp_path)))[2] == ("score", "done", "IoU of salt 0.5000")


def test_time_left_is_that_of_the_process_that_is_at_it(run: Path, data: Path, tmp_path: Path) -> None:
    """A night between two of them does not count."""
    with pytest.raises(KeyboardInterrupt):
        predicted(run, data, tmp_path, Watched(tmp_path, end_after=4))
    for path in (tmp_path / "slabs").rglob("*"):
        os.utime(path, (10**9, 10**9))
    again = Watched(tmp_path)
    predicted(run, data, tmp_path, again)
    assert [steps(status)[0][2].partition(",")[0] for status in again.seen] == [f"{n} of 8 slabs" for n in range(5, 9)]
    assert re.search(r"about \d+:\d\d left$", steps(again.seen[0])[0][2])  # less than an hour
    assert [steps(status)[1][1] for status in again.seen] == ["waiting"] * 3 + ["running"]


def test_status_of_a_folder_is_said_and_reads_as_json(road: Road, run: Path, whole: Path) -> None:
    assert "320 traces" in road.here_alone("status", str(whole))
    read = json.loads(road.here_alone("status", str(whole), "--json"))
    assert [step["state"] for step in read["steps"]] == ["done", "done"] and read["results"]["summary"]["bodies"] > 0


def test_damage_is_named(run: Path, data: Path, tmp_path: Path, road: Road) -> None:
    (tmp_path / "inputs.json").write_text('{"lines_at_once": {"inline": 1}}')
    refused = road.here_alone("status", str(tmp_path), code=1)
    assert "inputs.json is damaged" in refused and "run volume predict to regenerate it" in refused


# Who else is at it ---------------------------------------------------------------------------------------------------


def test_a_second_process_is_refused(road: Road, run: Path, data: Path, tmp_path: Path) -> None:
    with RunDirectory(tmp_path).lock():
        output = road.here_alone(*words(run, data, tmp_path, "--engine", "local"), code=1)
    assert f"error: another process is using {tmp_path}: wait for it, or change --to\n" in output
    assert not (tmp_path / "inputs.json").exists()


def test_on_a_cluster_the_command_goes_on_there_as_a_job(
    road: Road, run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(jobs, "run_as_job", lambda address, arguments, say: asked.append((address, arguments)) or 7)
    command = words(run, data, tmp_path / "to", "--address", "head:6379")
    road.here_alone(*command, code=7)
    assert asked == [("head:6379", command)] and not (tmp_path / "to").exists()


def test_a_jobs_log_shows_the_progress(road: Road, run: Path, data: Path, tmp_path: Path) -> None:
    """A log is no terminal: it gets lines."""
    output = road.here_alone(*words(run, data, tmp_path, "--engine", "local")).splitlines()
    windows = 2 * INLINES * 2 * 3  # folds, lines, along samples and traces
    assert any(line.startswith(f"predicting  {windows}/{windows} windows") for line in output)
    assert any(line.startswith(f"writing  {INLINES}/{INLINES} inlines") for line in output)


# A full disk ---------------------------------------------------------------------------------------------------------


def full(*arguments: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("where", ["slabs", "results"])
def test_a_full_disk_is_one_message_and_the_same_command_goes_on(
    where: str, road: Road, run: Path, data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, save = words(run, data, tmp_path, "--engine", "local", "--quiet"), np.save

    def save_three(file: Any, array: np.ndarray) -> None:
        if len(list(tmp_path.rglob("0*.npy"))) == 3:
            file.write(b"half of it")
            full()
        save(file, array)

    with monkeypatch.context() as patch:
        if where == "slabs":
            patch.setattr(np, "save", save_three)
        else:
            patch.setattr(Copy, "write", full)
        output = road.here_alone(*command, code=1)
    assert output.startswith(f"error: No space left on device ({tmp_path}/") and output.count("\n") == 1
    assert output.endswith(": make room there, then run the same command again to resume\n")
    kept = sorted(tmp_path.rglob("0*.npy"))
    assert len(kept) == (3 if where == "slabs" else INLINES)
    assert not list(tmp_path.rglob("*.tmp")) and not any((tmp_path / name).exists() for name in RESULTS)
    written = [path.stat().st_mtime_ns for path in kept]
    again = Watched(tmp_path)
    predicted(run, data, tmp_path, again)
    assert len(again.seen) == INLINES - len(kept) and len(written) == len(kept) and same(tmp_path, whole)


# Kills and signals ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def moments(tmp_path_factory: pytest.TempPathFactory) -> Moments:
    return Moments(tmp_path_factory.mktemp("moments") / "hook")


@contextlib.contextmanager
def started(road: Road, moments: Moments, command: Sequence[str]) -> Iterator[subprocess.Popen]:
    """A command that ends with the block at the latest."""
    process = subprocess.Popen(
        [sys.executable, "launch.py", *command],
        cwd=ROOT,
        env=road.environment | moments.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.alone
def test_kills_at_random_slabs_leave_the_bytes_of_an_undisturbed_one(
    road: Road, moments: Moments, run: Path, data: Path, whole: Path, tmp_path: Path
) -> None:
    """Three kills, each with half of a slab written, and one while results are."""
    slabs = sorted(random.Random(1).sample(range(INLINES), 3))
    for place in (*(f"slabs/inline/.{number:05d}.npy" for number in slabs), ".mask.sgy"):
        moment = moments.at(f"{tmp_path}/{place}.*")
        with started(road, moments, words(run, data, tmp_path, "--engine", "local")) as process:
            wait_for(lambda moment=moment: moment.reached, process)
            moment.kill()
            process.wait(SECONDS)
        assert process.returncode == -signal.SIGKILL and not (tmp_path / "mask.sgy").exists()
    assert [step.state for step in run_status(RunDirectory(tmp_path)).steps] == ["done", "waiting"]
    assert len(list((tmp_path / "slabs").rglob("0*.npy"))) == INLINES
    predicted(run, data, tmp_path)
    assert same(tmp_path, whole)


@pytest.mark.alone
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_one_message(
    number: signal.Signals,
    road: Road,
    moments: Moments,
    run: Path,
    data: Path,
    tmp_path: Path,
    interruptible: None,
) -> None:
    moment = moments.at(f"{tmp_path}/slabs/inline/.00002.npy.*")
    with started(road, moments, words(run, data, tmp_path, "--engine", "local", "--quiet")) as process:
        wait_for(lambda: moment.reached, process)
        process.send_signal(number)
        output = process.stdout.read()
        process.wait(SECONDS)
    assert process.returncode == 128 + number
    assert output == f"interrupted: finished work is kept in {tmp_path}; run the same command again to resume\n"
    assert sorted(path.name for path in (tmp_path / "slabs" / "inline").iterdir()) == ["00000.npy", "00001.npy"]
    assert run_status(RunDirectory(tmp_path)).in_use is False


@pytest.mark.alone
def test_a_worker_that_is_killed_while_it_predicts_changes_no_byte(
    road: Road, moments: Moments, run: Path, data: Path, whole: Path, tmp_path: Path
) -> None:
    moment = moments.at(f"{tmp_path}/slabs/inline/.00003.npy.*")
    with started(road, moments, words(run, data, tmp_path)) as process:
        wait_for(lambda: moment.reached, process)
        assert moment.pid != process.pid
        moment.kill()
        output = process.stdout.read()
        process.wait(SECONDS)
    assert process.returncode == 0 and "a prediction worker was lost; another one takes over its" in output, output
    assert same(tmp_path, whole)
