"""Caches that many processes want at once are built by one of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

BUILD = """
import sys
from pathlib import Path
from salt_ray.experiment_file import load_experiment
from salt_ray.survey.prepared import prepare_survey
from salt_ray.survey.tiles import load_survey

sys.stdin.read()  # all begin together
survey = load_survey(Path(sys.argv[1]), report=print)
prepared = prepare_survey(survey, load_experiment(Path(sys.argv[2])), report=print)
print(survey.key, int(prepared.images.sum()), int(prepared.masks.sum()))
"""


def test_four_processes_build_a_cache_once(survey: Path, experiment_file: Path, tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", BUILD, str(survey), str(experiment_file)],
            env={**os.environ, "SALT_RAY_CACHE": str(tmp_path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in processes:
        process.stdin.close()
    outputs = [process.stdout.read() for process in processes]
    assert [process.wait() for process in processes] == [0] * 4
    lines = [line for output in outputs for line in output.splitlines()]
    assert sum(line.startswith("reading and checking the tiles") for line in lines) == 1
    assert sum(line.startswith("padding ") for line in lines) == 1
    assert len({output.splitlines()[-1] for output in outputs}) == 1
    assert not list(tmp_path.rglob("*.tmp"))
