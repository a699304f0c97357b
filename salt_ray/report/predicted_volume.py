"""The output of ``volume predict`` for its report: statistics and a few lines.

Only the lines shown are read, subsampled to the resolution of the page.

Letters: H samples, W traces of a line, each no more than ``MOST_PX``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from salt_ray.errors import RunError
from salt_ray.metric import UNLABELLED
from salt_ray.storage import load_fields
from salt_ray.survey.amplitudes import MIDDLE_GREY, GreyRange
from salt_ray.survey.window import Line
from salt_ray.volume.labels import LabelVolume, joined_traces
from salt_ray.volume.lines import along, line_at, numbered, numbers_on
from salt_ray.volume.problem import VolumeError
from salt_ray.volume.reading import Reading
from salt_ray.volume.sample_format import CODES, SampleFormat
from salt_ray.volume.scan import open_volume
from salt_ray.volume.slabs import fingerprint, read_values
from salt_ray.volume.volume import Volume

#: Largest edge of a subsampled line, and of the map of the top of salt.
MOST_PX = 512
BODIES = 10
_IEEE, _INT8 = 5, 8
_ROWS_AT_ONCE = 1 << 18  # rows of a table


@dataclass(frozen=True)
class Section:
    """A line to be shown.

    Attributes:
        line: its position.
        traces, depths: first and last trace number, and first and last z.
        greys: uint8 (H, W), amplitudes; None if the predicted file is not available.
        mask: bool (H, W), salt.
        spread: float32 (H, W).
        truth: int8 (H, W), 1 salt, 0 none, -1 not labelled; None without labels.
        live: bool (W,), traces with data.
    """

    line: Line
    traces: tuple[int, int]
    depths: tuple[float, float]
    greys: np.ndarray | None
    mask: np.ndarray
    spread: np.ndarray
    truth: np.ndarray | None
    live: np.ndarray


@dataclass(frozen=True)
class PredictedVolume:
    """The content of a results folder.

    Attributes:
        path: the folder.
        summary: ``summary.json``.
        scores: ``scores.json``; None if it was not scored.
        volume: the predicted file if already open; otherwise it is opened when needed.
        labels: the labels it was scored against; None if not available.
    """

    path: Path
    summary: Mapping[str, Any]
    scores: Mapping[str, Any] | None = None
    volume: Volume | None = None
    labels: LabelVolume | None = None

    @classmethod
    def load(cls, path: Path, volume: Volume | None = None, labels: LabelVolume | None = None) -> PredictedVolume:
        """Load a finished prediction.

        Raises:
            RunError: there is none.
        """
        if not (path / "done.json").exists():
            raise RunError(f"{path} contains no finished prediction: run volume predict first")
        summary = load_fields(path / "summary.json", path, "reading", "mask_threshold", "window", "files")
        scored = path / "scores.json"
        scores = load_fields(scored, scored, "iou", "lines", "depths") if scored.exists() else None
        return cls(path, summary, scores, volume, labels)

    @cached_property
    def lines(self) -> pd.DataFrame:
        """One row per line: direction, line, samples, salt, spread."""
        return pd.read_csv(self.path / "lines.csv")

    @cached_property
    def depths(self) -> pd.DataFrame:
        """One row per depth: z, samples, salt, spread."""
        return pd.read_csv(self.path / "depths.csv")

    @cached_property
    def bodies(self) -> pd.DataFrame:
        """The largest bodies."""
        return pd.read_csv(self.path / "bodies.csv", nrows=BODIES)

    @cached_property
    def mask(self) -> Volume:
        if "mask.npy" in self.summary["files"]:
            return open_volume(self.path / "mask.npy", Reading(line=self.summary["reading"]["line"]))
        return open_volume(self.path / "mask.sgy", Reading(format=_INT8, **self.summary["reading"]))

    @cached_property
    def spread(self) -> Volume:
        """The spread; reuses the mask's headers, as reading them takes a pass over the whole file."""
        if "spread.npy" in self.summary["files"]:
            return open_volume(self.path / "spread.npy", Reading(line=self.summary["reading"]["line"]))
        name, word = CODES[_IEEE]
        order = {"big": ">", "little": "<"}[self.mask.byte_order]
        own = SampleFormat(name, np.dtype(f"{order}{word}"))
        return replace(self.mask, traces=replace(self.mask.traces, path=self.path / "spread.sgy", format=own))

    @property
    def source(self) -> Path:
        """The predicted file: a file of traces, or a picture of a section."""
        return Path(self.summary.get("picture", self.summary["volume"]))

    @property
    def is_line(self) -> bool:
        """Whether it is a section: a 2D line, or one line of a volume."""
        return 1 in self.mask.geometry.traces.shape

    @property
    def models(self) -> int:
        """The number of models, over which the spread is computed."""
        return len(self.summary["models"])

    @property
    def directions(self) -> tuple[str, ...]:
        return ("inline", "crossline") if self.summary["direction"] == "both" else ("inline",)

    @cached_property
    def amplitudes(self) -> Volume | None:
        """The predicted file; None if it is missing or has changed."""
        if self.volume is not None:
            return self.volume
        codes = {name: code for code, (name, _) in CODES.items()}
        code = codes.get(self.summary["sample_format"])
        reading = Reading(format=code, **self.summary["reading"], fill=self.summary["fill"])
        try:
            volume = open_volume(Path(self.summary["volume"]), reading)
            return volume if fingerprint(volume) == self.summary["fingerprint"] else None
        except (VolumeError, OSError):
            return None

    @cached_property
    def _amplitude_traces(self) -> np.ndarray:
        """Trace numbers in the predicted file, int64 (I, X), for the traces of the results."""
        return joined_traces(self.mask, self.amplitudes)

    def line(self, direction: str, number: int) -> Line:
        """A line by its number."""
        geometry = self.mask.geometry
        axis = geometry.inlines if direction == "inline" else geometry.crosslines
        return line_at(geometry, direction, int(numbered(axis, [number])[0]))

    def section(self, line: Line) -> Section:
        """Read a line to be shown."""
        geometry = self.mask.geometry
        axis = geometry.crosslines if line.direction == "inline" else geometry.inlines
        present = np.flatnonzero(along(geometry.live, line))  # skip a corner without traces
        first, last = int(present[0]), int(present[-1])
        columns = slice(first, last + 1, -(-(last + 1 - first) // MOST_PX))
        samples = slice(None, None, -(-self.mask.traces.samples // MOST_PX))
        own = along(geometry.traces, line)[columns]
        spread = read_values(self.spread, own)
        greys, live = None, own >= 0
        if self.amplitudes is not None:
            values = read_values(self.amplitudes, along(self._amplitude_traces, line)[columns])
            live &= values.any(1)
            greys = GreyRange(*self.summary["amplitudes"]).greys(values)
            greys[~live] = MIDDLE_GREY
            greys = greys[:, samples].T
        truth = None
        if self.labels is not None:
            truth = self.labels.on(line)[samples, columns]
            truth[:, ~live] = UNLABELLED
        traces = numbers_on(axis)[[first, last]].tolist()
        start, interval = self.mask.start, self.mask.interval
        return Section(
            line=line,
            traces=(traces[0], traces[1]),
            depths=(start, start + (self.mask.traces.samples - 1) * interval),
            greys=greys,
            mask=read_values(self.mask, own)[:, samples].T > 0,
            spread=spread[:, samples].T,
            truth=truth,
            live=live,
        )

    def top_of_salt(self) -> np.ndarray:
        """Depth of the top of salt by inline and crossline, float64, NaN without salt; any trace of each cell."""
        geometry = self.mask.geometry
        rows, columns = (-(-n // -(-n // MOST_PX)) for n in geometry.traces.shape)
        top = np.full((rows, columns), np.nan)
        for few in pd.read_csv(self.path / "top.csv", usecols=["inline", "crossline", "z"], chunksize=_ROWS_AT_ONCE):
            row = numbered(geometry.inlines, few["inline"]) * rows // geometry.inlines.count
            column = numbered(geometry.crosslines, few["crossline"]) * columns // geometry.crosslines.count
            top[row, column] = few["z"]
        return top
