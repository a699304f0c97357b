"""The life of one run: disturbed in every stage, in the middle of a write, it ends with the bytes of a quiet one.

The tests are in the order of the run's life. Each brings the run to its own moment, and leaves it to the next one.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import DEVNULL

import pytest
from moments import Moment, Moments
from road import SECONDS, Road, results, wait_for

from salt_ray.artifacts import RunDirectory
from salt_ray.training.checkpoint import read_checkpoint

pytestmark = pytest.mark.alone

LARGE = "size=200m"
FOLD = "*/fold-0"  # of which checkpoints are waited for; nobody disturbs the other one's training
IN_TRAINING = f"{FOLD}/plateau/.epoch-00003.pt.*"
BEFORE_THE_MARKER = "*/trainings/*/fold-0/cosine/.done.json.*"


class Disk:
    """A disk of its own for the run, where this user may mount one."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", LARGE, "salt-ray-test", place]
        self.mounted = not subprocess.run(mount, check=False, stderr=DEVNULL).returncode

    def remount(self, options: str) -> None:
        """Give it another size, or another right to write."""
        if not self.mounted:
            pytest.skip("no right to mount a disk")
        deadline = time.monotonic() + SECONDS  # processes of a run that ended may still have files open for writing
        while subprocess.run(["mount", "-o", f"remount,{options}", self.place], check=False, stderr=DEVNULL).returncode:
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def unmount(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "-l", self.place], check=True)


class Life:
    """One run and its command, which is begun again after every disturbance.

    Attributes:
        printed: by all of its commands that have ended.
    """

    def __init__(self, road: Road, run: Path, moments: Moments) -> None:
        self.road, self.run, self.printed = road, run, ""
        self._moments, self._stopped, self._pattern, self._quiet = moments, None, "", True
        self.process: subprocess.Popen | None = None

    def at(self, pattern: str) -> Moment:
        """The command goes on, or begins, until a file is written whose name matches; there it stops."""
        if self.process is not None and self._pattern == pattern:
            return self._stopped
        moment = self._moments.at(pattern)
        if self._stopped is not None:
            self._stopped.go_on()
        if self.process is None:
            self.process = self.road.start("pipeline", self.run, environment=self._moments.environment)
            self._quiet = True
        wait_for(lambda: moment.reached, self.process)
        self._stopped, self._pattern = moment, pattern
        return moment

    def go_on(self) -> None:
        self._stopped.go_on()

    def kill_worker(self) -> Moment:
        """Kill the process that is stopped; the command goes on until the same file is written again, by another."""
        torn, self._quiet = self._stopped, False
        torn.kill()
        again = self.at(torn.same)
        assert again.pid != torn.pid
        return again

    def end(self) -> tuple[int, str]:
        """The exit code of the command, and what it printed: never a traceback."""
        output, _ = self.process.communicate(timeout=SECONDS)
        code, self.process, self._stopped, self.printed = self.process.returncode, None, None, self.printed + output
        assert "Traceback" not in output, output
        for noise in ("WARNING", "(raylet)", "\x1b"):  # nor control characters in a pipe
            assert noise not in output or not self._quiet, output  # Ray has its say where workers are killed
        return code, output

    def kill(self) -> str:
        """Kill the command; Ray's processes, and with them the one that is stopped, end with it."""
        self.process.kill()
        code, output = self.end()
        assert code == -signal.SIGKILL, output
        return output


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    disk = Disk(tmp_path_factory.mktemp("life") / "disk")
    yield disk
    disk.unmount()


@pytest.fixture(scope="module")
def life(road: Road, disk: Disk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    life = Life(road, disk.place / "run", Moments(tmp_path_factory.mktemp("moments") / "hook"))
    yield life
    if life.process is not None:
        life.process.kill()
        life.process.communicate()


def newest(run: Path, stage: str) -> Path:
    return max(RunDirectory(run).stage("random", 0, stage).glob("epoch-*.pt"))


def files_of(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """Every file with the time of its last change."""
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_a_worker_killed_in_the_write_of_a_checkpoint_goes_on(
    life: Life, recovered: Callable[[str, float], None]
) -> None:
    torn = life.at(f"{FOLD}/plateau/.epoch-00002.pt.*")
    command, killed = life.process, time.monotonic()
    life.kill_worker()
    recovered("a training worker was killed: to the end of the same epoch", time.monotonic() - killed)
    life.at(IN_TRAINING)
    assert life.process is command and not torn.file.exists()
    assert newest(life.run, "plateau").name == "epoch-00002.pt"


def test_of_two_commands_on_one_run_the_second_is_refused(life: Life) -> None:
    life.at(IN_TRAINING)
    message = life.road.refused("pipeline", life.run)
    assert f"error: another process is using {life.run}: wait for it, or change --run-dir" in message
    assert life.process.poll() is None


@pytest.mark.usefixtures("interruptible")
def test_interrupted_it_says_that_the_same_command_goes_on(life: Life) -> None:
    life.at(IN_TRAINING)
    life.process.send_signal(signal.SIGINT)
    code, output = life.end()
    assert code == 130
    assert f"interrupted: finished work is kept in {life.run}; run the same command again to resume" in output
    assert "random-fold-0: its worker was lost and resumes from its checkpoint" in output
    assert "random-fold-1: its worker" not in output  # the other fold noticed nothing


def test_a_truncated_checkpoint_is_passed_over(life: Life) -> None:
    damaged = newest(life.run, "plateau")
    content = damaged.read_bytes()
    damaged.write_bytes(content[: random.Random(1).randrange(len(content))])
    life.at(IN_TRAINING)  # the lock has died with its owner
    assert len(read_checkpoint(damaged)["history"]) == 2  # trained again, from the one before it


def test_a_full_disk_is_one_sentence_and_damages_nothing(life: Life, disk: Disk) -> None:
    life.at(IN_TRAINING)
    disk.remount(f"size={shutil.disk_usage(disk.place).used}")
    life.go_on()
    code, output = life.end()
    disk.remount(LARGE)
    assert code == 1
    assert "plateau/epoch-00002.pt is damaged; resuming from the one before it" in output
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert "No space left on device" in line and "the same command" in line
    wholes = list((life.run / "trainings").rglob("*.pt"))
    assert len(wholes) > 2
    for path in wholes:
        read_checkpoint(path)
    assert not list((life.run / "trainings").rglob("*.tmp"))


def test_a_read_only_disk_is_one_sentence_and_nothing_is_written(life: Life, disk: Disk) -> None:
    disk.remount("ro")
    before = files_of(life.run)
    message = life.road.refused("pipeline", life.run)
    assert f"error: cannot write to {life.run}" in message and "--run-dir" in message and "Traceback" not in message
    assert files_of(life.run) == before
    disk.remount("rw")


def test_killed_between_the_last_epoch_and_its_marker(life: Life) -> None:
    life.at(BEFORE_THE_MARKER)
    life.kill()
    stage = RunDirectory(life.run).stage("random", 0, "cosine")
    assert newest(life.run, "cosine").name == "epoch-00002.pt" and not (stage / "done.json").exists()


@pytest.fixture(scope="module")
def finished_fold(life: Life) -> dict[Path, tuple[int, bytes]]:
    """The other fold's files, once it is trained: no later command writes them."""
    done = RunDirectory(life.run).stage("random", 1, "cosine") / "done.json"
    if not done.exists():
        life.at(BEFORE_THE_MARKER)
        wait_for(done.exists, life.process)
        life.kill()
    return files_of(done.parents[1])


def test_a_flipped_bit_is_noticed_and_killed_in_prediction_it_goes_on(
    life: Life, finished_fold: dict[Path, tuple[int, bytes]]
) -> None:
    """A worker is killed, another one predicts its tiles, then the command is killed."""
    damaged, moment = newest(life.run, "cosine"), random.Random(2)
    content = bytearray(damaged.read_bytes())
    content[moment.randrange(len(content))] ^= 1 << moment.randrange(8)
    damaged.write_bytes(content)
    life.at("*/predictions/*/chunks/.*.npy.*")
    life.kill_worker()
    output = life.kill()
    assert "cosine/epoch-00002.pt is damaged; resuming from the one before it" in output
    assert "1 of 2 folds are already trained" in output


def test_killed_in_post_processing(life: Life, finished_fold: dict[Path, tuple[int, bytes]]) -> None:
    """First a worker, in the picture of a mosaic, which another one draws; then the command."""
    life.at("*/postprocessing/pictures/.*.png.*")
    life.kill_worker()
    assert "2 of 2 folds are already trained" in life.kill()


@pytest.mark.parametrize("file", ["submission.csv", "scores.json"])
def test_killed_while_it_writes_its_results(file: str, life: Life) -> None:
    torn = life.at(f"*/run/.{file}.*")
    assert torn.pid == life.process.pid
    os.truncate(torn.file, torn.file.stat().st_size // 2)
    life.kill()
    assert not (life.run / file).exists()


def test_it_ends_with_the_bytes_of_a_run_that_nobody_disturbed(
    life: Life, undisturbed: Path, finished_fold: dict[Path, tuple[int, bytes]]
) -> None:
    output = life.road.run("pipeline", life.run)
    assert "2 of 2 models have already predicted" in output and "masks are already post-processed" in output
    assert "Ray dashboard" not in output and "Ray dashboard: http" in life.printed
    assert results(life.run) == results(undisturbed)
    assert files_of(RunDirectory(life.run).stage("random", 1, "cosine").parent) == finished_fold
    assert "tiles/s" in life.printed


def test_it_holds_no_token(life: Life) -> None:
    """Nor does what its commands printed; the user's token, since they ran with the user's home."""
    token = os.environ.get("RAY_AUTH_TOKEN") or (Path.home() / ".ray" / "auth_token").read_text().strip()
    assert token not in life.printed
    for path in life.run.rglob("*"):
        assert not path.is_file() or token.encode() not in path.read_bytes(), path
