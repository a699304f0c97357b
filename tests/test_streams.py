"""Output that cannot be encoded, or that nobody reads any more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TALK = """
import sys
from pathlib import Path
from salt_ray.streams import make_output_safe
make_output_safe()
for _ in range(3):
    print("0.6 ± 0.1 … Größe", flush=True)
    print("0.6 ± 0.1 … Größe", file=sys.stderr)
Path(sys.argv[1]).touch()
"""


@pytest.mark.parametrize(
    ("encoding", "line"),
    [
        ("ascii", b"0.6 \\xb1 0.1 \\u2026 Gr\\xf6\\xdfe\n"),
        ("latin-1", "0.6 ± 0.1 \\u2026 Größe\n".encode("latin-1")),
        ("utf-8", "0.6 ± 0.1 … Größe\n".encode()),
    ],
)
@pytest.mark.parametrize("buffered", ["", "1"])
def test_what_an_encoding_lacks_is_escaped(encoding: str, line: bytes, buffered: str, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUNBUFFERED": buffered}
    done = subprocess.run(
        [sys.executable, "-c", TALK, str(tmp_path / "end")], cwd=ROOT, capture_output=True, env=environment, check=True
    )
    assert done.stdout == done.stderr == 3 * line


def pipe() -> tuple[int, int]:
    return os.pipe()


def terminal() -> tuple[int, int]:
    return os.openpty()


@pytest.mark.parametrize("open_", [pipe, terminal])
def test_a_command_goes_on_where_nobody_reads_it(open_, tmp_path: Path) -> None:
    reader, writer = open_()
    os.close(reader)
    process = subprocess.Popen(
        [sys.executable, "-c", TALK, str(tmp_path / "end")], cwd=ROOT, stdout=writer, stderr=writer
    )
    os.close(writer)
    assert process.wait() == 0 and (tmp_path / "end").exists()


def test_a_result_that_does_not_fit_on_the_disk_is_an_error(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", TALK, str(tmp_path / "end")], cwd=ROOT, stdout=full)
    assert done.returncode != 0 and not (tmp_path / "end").exists()
