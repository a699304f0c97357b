"""Curves of a fold for TensorBoard: one event file a stage and start, one record an epoch.

The records are written one by one in this thread, because ``flush`` of tensorboardX's ``SummaryWriter`` does not wait
for its queue: a killed worker would lose the last epochs.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from salt_ray.storage import StoragePath, write_atomically
from salt_ray.training.progress import Progress

SCALARS = ("score", "best_score", "loss", "validation_loss", "lr", "tiles_per_second")


class EpochLog:
    """Writes the curves of one fold below ``directory``; nothing of a result depends on them.

    Every stage is a run of its own in TensorBoard (``DIRECTORY/STAGE``) with tags such as ``STAGE/score``, so that the
    same stage of all folds and trials is in one chart. An epoch that is written again after a restart replaces the
    earlier one and all after it.
    """

    def __init__(self, directory: StoragePath) -> None:
        self._directory = directory
        # An object cannot grow: of an object store the files are here, and are uploaded as they grow.
        self._here = None if isinstance(directory, Path) else TemporaryDirectory(prefix="salt-ray-")
        self._stage: str | None = None
        self._writer: Any = None

    def write(self, progress: Progress) -> None:
        """Add an epoch, so that it survives the end of this process."""
        from tensorboardX.proto.event_pb2 import Event  # here, because only workers write
        from tensorboardX.proto.summary_pb2 import Summary

        if progress.stage != self._stage:
            self._begin(progress.stage, progress.epoch)
        known = {name: getattr(progress, name) for name in SCALARS if not math.isnan(getattr(progress, name))}
        values = [Summary.Value(tag=f"{progress.stage}/{name}", simple_value=value) for name, value in known.items()]
        self._writer.write_event(Event(wall_time=progress.time, step=progress.epoch, summary=Summary(value=values)))
        self._writer.flush()
        if self._here is not None:
            write_atomically(self._directory / progress.stage / self._file.name, self._file.read_bytes())

    def _begin(self, stage: str, step: int) -> None:
        """Open a new file for a stage; readers forget what earlier files say of ``step`` and later ones."""
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self.close()
        folder = (self._directory if self._here is None else Path(self._here.name)) / stage
        folder.mkdir(parents=True, exist_ok=True)
        # Readers take files in the order of their names, which begin with the time in seconds: too coarse for restarts.
        suffix = f".{time.time_ns()}"
        self._writer = EventsWriter(str(folder / "events"), suffix)
        (self._file,) = folder.glob(f"*{suffix}")
        start = SessionLog(status=SessionLog.START)
        self._writer.write_event(Event(wall_time=time.time(), step=step, session_log=start))
        self._stage = stage

    def close(self) -> None:
        """Close the file; ``write`` opens another one."""
        if self._writer is not None:
            self._writer.close()
        self._writer, self._stage = None, None
