"""Weights & Biases: a salt-ray experiment is a project there, a run a run, and a trial a run of its group."""

from __future__ import annotations

import netrc
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlparse

from salt_ray.tracking.tracker import Epoch, State

SECONDS = 20.0  # to begin a run
FINISH_SECONDS = 60.0  # to send what is left at its end
EXIT_CODES: Mapping[State, int] = {"finished": 0, "failed": 1, "killed": 255}


def wandb_mode() -> str:
    """``WANDB_MODE``, or where that is not set: online where somebody is logged in, else offline."""
    if mode := os.environ.get("WANDB_MODE"):
        return mode
    host = urlparse(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname
    try:
        known = netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        known = False
    return "online" if os.environ.get("WANDB_API_KEY") or known else "offline"


class WandbTracker:
    """Writes to the server where somebody is logged in, else to files that ``wandb sync`` uploads.

    Args:
        folder: for the files, on a disk; None: a temporary one.
        experiment: what the project is called where ``WANDB_PROJECT`` is not set.
    """

    package = "wandb"
    server = "WANDB_API_KEY"

    @staticmethod
    def online() -> bool:
        """Whether runs go to the server."""
        return wandb_mode() == "online"

    def __init__(self, folder: Path | None, experiment: str) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        self._temporary = TemporaryDirectory(prefix="salt-ray-") if folder is None else None
        self._folder = Path(self._temporary.name) if self._temporary else folder
        self._folder.mkdir(parents=True, exist_ok=True)
        self._project = os.environ.get("WANDB_PROJECT") or experiment
        self._runs: dict[str, Any] = {}
        self._series: set[tuple[str, str]] = set()

    def begin(self, run: str | None, name: str, parent: str | None, parameters: Mapping[str, str]) -> str:
        import wandb  # seconds, and an optional extra

        run = run or secrets.token_hex(8)
        self._runs[run] = wandb.init(
            project=self._project,
            id=run,
            resume="allow",
            name=name,
            group=parent or run,
            job_type="trial" if parent else "run",
            dir=str(self._folder),
            mode=wandb_mode(),
            reinit="create_new",  # several trials at once
            config=dict(parameters),
            allow_val_change=True,
            settings=wandb.Settings(
                console="off",
                silent=True,
                disable_git=True,
                save_code=False,
                x_disable_stats=True,  # of the driver's machine, which does not train
                init_timeout=SECONDS,
                finish_timeout=FINISH_SECONDS,
                finish_timeout_raises=True,
            ),
        )
        return run

    def epochs(self, run: str, series: str, epochs: Sequence[Epoch], before: int) -> None:
        # Its own step is one for all series, and only rises, also from one command to the next, which it cannot know
        # offline. So each series has its epochs as its axis.
        if (run, series) not in self._series:
            self._series.add((run, series))
            self._runs[run].define_metric(f"{series}/*", step_metric=f"{series}/epoch")
        for step, epoch in enumerate(epochs, before):
            values = {"epoch": epoch.number, **epoch.values}
            self._runs[run].log({f"{series}/{name}": value for name, value in values.items()}, step=step, commit=True)

    def values(self, run: str, values: Mapping[str, float], step: int) -> None:
        self._runs[run].summary.update(dict(values))

    def file(self, run: str, path: Path, kind: str) -> None:
        import wandb

        artifact = wandb.Artifact(f"{kind}-{run}", type=kind)
        artifact.add_file(str(path), name=path.name)
        self._runs[run].log_artifact(artifact)

    def end(self, run: str, state: State) -> None:
        self._runs.pop(run).finish(exit_code=EXIT_CODES[state])

    def close(self) -> None:
        if self._temporary is not None:
            self._temporary.cleanup()
