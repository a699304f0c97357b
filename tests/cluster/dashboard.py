"""Ray's dashboard while a command runs: its REST interface and its metrics."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moments import Moments
from road import SECONDS, Road, wait_for


@dataclass(frozen=True)
class Dashboard:
    """The dashboard of a command that goes on."""

    process: subprocess.Popen
    run: Path
    address: str
    token: str

    def get(self, path: str) -> Any:
        """What the REST interface answers; {} while it has nothing to tell."""
        request = urllib.request.Request(self.address + path, headers={"Authorization": f"Bearer {self.token}"})
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            assert error.code != 401, "the token is not accepted"
            return {}

    def train_runs(self) -> dict[str, str]:
        """The status of every run of Ray Train, by name."""
        return {run["name"]: run["status"] for run in self.get("/api/train/v2/runs/v1").get("train_runs", [])}

    def metrics(self) -> dict[str, dict[tuple[str, str, str, str, str], float]]:
        """Our metrics, by name and by run, trial, training, fold and stage."""
        (node,) = self.get("/nodes?view=summary")["data"]["summary"]
        port = node["raylet"]["metricsExportPort"]
        found: dict[str, dict] = {}
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=SECONDS) as answer:
            for line in answer.read().decode().splitlines():
                if match := re.fullmatch(r"ray_salt_ray_(\w+)\{(.*)\} (\S+)", line):
                    name, labels, value = match.groups()
                    tags = dict(re.findall(r'(\w+)="([^"]*)"', labels))
                    key = tuple(tags[tag] for tag in ("run", "trial", "training", "fold", "stage"))
                    found.setdefault(name, {})[key] = float(value)
        return found


@contextlib.contextmanager
def followed(road: Road, run: Path, moments: Moments, moment: str, *words: str) -> Iterator[Dashboard]:
    """Start a command and yield its dashboard once it is stopped at a moment; kill the command after it."""
    stopped = moments.at(moment)
    process = road.start(words[0], run, *words[1:], environment=moments.environment)
    try:
        said = []
        for line in process.stdout:
            said.append(line)
            if address := re.search(r"Ray dashboard: (http://\S+)", line):
                break
        assert process.poll() is None and address, "".join(said)
        token = os.environ.get("RAY_AUTH_TOKEN") or Path(road.environment["HOME"], ".ray", "auth_token").read_text()
        wait_for(lambda: stopped.reached, process)
        yield Dashboard(process, run, address[1], token.strip())
    finally:
        process.kill()  # Ray's processes end with their driver
        process.communicate()
