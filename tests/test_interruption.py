"""Signals that end a command: in order, once, with a shell's exit code. Each in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("interruptible")

ROOT = Path(__file__).parents[1]
# Waits to be ended; what it unwinds is printed, and may take for ever.
WAIT = """
import sys, time
from salt_ray import interruption
interruption.GRACE_SECONDS = float(sys.argv[1])
with interruption.Interruption() as ended:
    try:
        print("ready", flush=True)
        while True:
            time.sleep(60)
    except KeyboardInterrupt:
        print("unwinding", flush=True)
        if sys.argv[2] == "hangs":
            while True:
                time.sleep(60)
        sys.exit(ended.exit_code)
"""


def started(grace: float = 60, unwinding: str = "ends", before: tuple[str, ...] = ()) -> subprocess.Popen:
    process = subprocess.Popen(
        [*before, sys.executable, "-c", WAIT, str(grace), unwinding],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_is_unwound_and_tells_the_shell_which_it_was(number: str, code: int) -> None:
    process = started()
    process.send_signal(signal.Signals[number])
    assert (process.communicate()[0], process.returncode) == ("unwinding\n", code)


def test_a_second_signal_ends_at_once() -> None:
    process = started(unwinding="hangs")
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "unwinding\n"
    process.send_signal(signal.SIGHUP)
    assert process.wait() == 143


def test_an_end_that_hangs_has_an_end() -> None:
    process = started(grace=0.1, unwinding="hangs")
    process.send_signal(signal.SIGTERM)
    assert "run the same command again to resume" in process.communicate()[1] and process.returncode == 143


def test_what_was_ignored_stays_ignored() -> None:
    process = started(before=("env", "--ignore-signal=HUP"))  # as under nohup
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143
