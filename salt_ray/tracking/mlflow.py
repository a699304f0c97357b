"""MLflow: a salt-ray experiment is an experiment there, a run a run, and a trial a run nested in it.

MLflow's client is used, with the ids of runs: its fluent functions keep one active run for the whole process.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from salt_ray.tracking.tracker import Epoch, State

#: What MLflow's REST interface takes at once.
METRICS_AT_ONCE, PARAMETERS_AT_ONCE = 1000, 100
STATES: Mapping[State, str] = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}
#: By default MLflow tries for minutes, while the driver waits; and it tells its makers how it is used.
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


class MlflowTracker:
    """Writes to ``MLFLOW_TRACKING_URI``, or where that is not set to a database in ``folder``.

    Args:
        folder: on a disk; None: there is none, and the server is set.
        experiment: what MLflow's experiment is called where ``MLFLOW_EXPERIMENT_NAME`` is not set.
    """

    package = "mlflow-skinny"
    server = "MLFLOW_TRACKING_URI to a server"

    @staticmethod
    def online() -> bool:
        """Whether ``MLFLOW_TRACKING_URI`` names the place to write to."""
        return bool(os.environ.get("MLFLOW_TRACKING_URI"))

    def __init__(self, folder: Path | None, experiment: str) -> None:
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient  # seconds, and an optional extra

        for library in ("mlflow", "alembic"):  # a new database is several lines; its import sets them too
            logging.getLogger(library).setLevel(logging.WARNING)
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME") or experiment
        uri, artifacts = os.environ.get("MLFLOW_TRACKING_URI"), None
        if not uri:
            folder.mkdir(parents=True, exist_ok=True)
            database, artifacts = folder / "mlflow.db", (folder / "mlflow-artifacts").as_uri()
            if not database.exists():  # made in seconds; of half a one MLflow would never make a whole one
                new = folder / ".mlflow.db"
                new.unlink(missing_ok=True)
                MlflowClient(f"sqlite:///{new}").get_experiment_by_name(experiment)
                new.replace(database)
            uri = f"sqlite:///{database}"
        self._client = MlflowClient(uri)
        known = self._client.get_experiment_by_name(experiment)
        self._experiment = known.experiment_id if known else self._client.create_experiment(experiment, artifacts)

    def begin(self, run: str | None, name: str, parent: str | None, parameters: Mapping[str, str]) -> str:
        from mlflow.entities import Param

        if run is None:
            tags = {} if parent is None else {"mlflow.parentRunId": parent}
            run = self._client.create_run(self._experiment, run_name=name, tags=tags).info.run_id
        else:
            self._client.update_run(run, status="RUNNING")
        there = self._client.get_run(run).data.params  # MLflow's parameters can never change
        new = [Param(name, value) for name, value in parameters.items() if name not in there]
        for some in _parts(new, PARAMETERS_AT_ONCE):
            self._client.log_batch(run, params=some)
        return run

    def epochs(self, run: str, series: str, epochs: Sequence[Epoch], before: int) -> None:
        self._log(
            run,
            [
                (f"{series}/{name}", value, epoch.time, epoch.number)
                for epoch in epochs
                for name, value in epoch.values.items()
            ],
        )

    def values(self, run: str, values: Mapping[str, float], step: int) -> None:
        self._log(run, [(name, value, time.time(), step) for name, value in values.items()])

    def _log(self, run: str, metrics: Sequence[tuple[str, float, float, int]]) -> None:
        from mlflow.entities import Metric

        made = [Metric(name, value, int(1000 * seconds), step) for name, value, seconds, step in metrics]
        for some in _parts(made, METRICS_AT_ONCE):
            self._client.log_batch(run, metrics=some)

    def file(self, run: str, path: Path, kind: str) -> None:
        self._client.log_artifact(run, str(path))

    def end(self, run: str, state: State) -> None:
        self._client.set_terminated(run, STATES[state])

    def close(self) -> None:
        """Everything is sent at once."""


def _parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]
