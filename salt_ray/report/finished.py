"""A scored run, with everything that its report needs."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from shlex import quote
from typing import Any

import pandas as pd

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment, Training
from salt_ray.decision import Decision, FoldDecisions
from salt_ray.errors import PROGRAM, RunError
from salt_ray.inference.ensemble import ModelPrediction
from salt_ray.inference.thresholds import Thresholds
from salt_ray.mosaic.table import MosaicTable
from salt_ray.postprocessing.corrections import Corrections
from salt_ray.record import chosen_folds
from salt_ray.report.judged import Judged, judge
from salt_ray.storage import StoragePath, parse_fields, readable
from salt_ray.survey.folds import FoldTable
from salt_ray.survey.prepared import PreparedSurvey

#: Required fields of scores.json and their types.
SCORES = {"folds": dict, "oof": (int, float), "oof_tiles": int, "trivial": dict, "rules": dict}


def load_scores(path: StoragePath) -> dict[str, Any]:
    """The content of ``scores.json``.

    Raises:
        RunError: it is damaged.
    """
    try:
        scores = parse_fields(path.read_bytes(), *SCORES)
        wrong = [name for name, kind in SCORES.items() if not isinstance(scores[name], kind)]
        if wrong:
            raise ValueError(f"{wrong[0]} = {str(scores[wrong[0]])[:60]!r}")
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is damaged ({error}): run score, then report again") from error
    return scores


def load_columns(path: StoragePath, columns: Mapping[str, type]) -> pd.DataFrame:
    """The columns of a CSV in a folder of results.

    Raises:
        RunError: it is missing or damaged.
    """
    with readable(path, path.parent):
        has_text = str in columns.values()  # a tile may be called NA
        table = pd.read_csv(io.BytesIO(path.read_bytes()), dtype=dict(columns), keep_default_na=not has_text)
        return table[list(columns)]


def check_finished(run: RunDirectory) -> None:
    """Check that a run can be reported, before anything else is read.

    Raises:
        RunError: there is no such run, it is not scored, or it contains runs over several seeds.
    """
    if run.scores.exists():
        return
    if run.seeds.exists():
        raise RunError(f"{run.path} contains a run for each seed: report one of them, such as {run.path}/seed-0")
    if run.study.exists():
        raise RunError(f"{run.path} contains a search but no scored run: use {PROGRAM} study {quote(str(run.path))}")
    if not run.experiment.exists():
        raise RunError(f"there is no run in {run.path}: pass one with --run-dir, or create it with pipeline")
    raise RunError(f"the run in {run.path} has no scores yet: run pipeline or score first")


@dataclass(frozen=True)
class FinishedRun:
    """A scored run, with everything that its report needs.

    Attributes:
        models: predictions by (training, fold).
        tables: fold tables by training.
        mosaics: the positions of tiles; None if the run needed no mosaics.
        scores: the content of ``scores.json``.
        project: the folder of the project's code.
        decisions: how predictions become masks.
        validation: how epochs were compared.
        thresholds: thresholds chosen on its labels; None if they were given.
    """

    run: RunDirectory
    experiment: Experiment
    prepared: PreparedSurvey
    models: Mapping[tuple[str, int], ModelPrediction]
    tables: Mapping[str, FoldTable]
    mosaics: MosaicTable | None
    corrections: Corrections
    scores: Mapping[str, Any]
    project: Path
    decisions: FoldDecisions
    validation: Decision
    thresholds: Thresholds | None = None

    @property
    def decision(self) -> Decision:
        """How predictions become masks for tiles that are in no fold."""
        return self.decisions.final

    @cached_property
    def folds(self) -> list[tuple[Training, int]]:
        """The folds that the run trains and predicts with."""
        return chosen_folds(self.run, self.experiment)

    @cached_property
    def judged(self) -> Judged:
        """The out-of-fold tiles.

        Raises:
            RunError: their score differs from ``scores.json``.
        """
        judged = judge(self.prepared, list(self.models.values()), self.decisions, self.mosaics)
        if len(judged.tiles) != self.scores["oof_tiles"] or abs(judged.score - self.scores["oof"]) > 1e-9:
            raise RunError(f"{self.run.scores} belongs to other predictions: run score, then report again")
        return judged

    def fold_name(self, training: str, fold: int) -> str:
        """As in ``scores.json``."""
        return f"{training}/{fold}" if len(self.tables) > 1 else str(fold)

    @cached_property
    def fold_of(self) -> dict[str, str]:
        """The folds that validate each tile, by its id."""
        names: dict[str, list[str]] = {}
        for training, table in self.tables.items():
            for tile, fold in zip(table.ids.tolist(), table.folds.tolist(), strict=True):
                names.setdefault(tile, []).append(self.fold_name(training, fold))
        return {tile: ", ".join(found) for tile, found in names.items()}
