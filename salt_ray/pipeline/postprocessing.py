"""Mosaic post-processing, which handles each mosaic as soon as its tiles are predicted.

If rules are chosen by evidence, every mosaic with labels first tries them on hidden labels. Rules with enough evidence
are then applied.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from salt_ray.artifacts import Folder, RunDirectory
from salt_ray.config import Experiment, RuleName
from salt_ray.decision import Decision, FoldDecisions
from salt_ray.errors import SaltRayError
from salt_ray.inference.ensemble import ModelPrediction, judged_tiles
from salt_ray.mosaic.table import MosaicTable
from salt_ray.pipeline.engine import Engine, Failed
from salt_ray.postprocessing.corrections import CorrectedMosaic, Corrections, correct, save_changes
from salt_ray.postprocessing.draw import draw_mosaic, encode_png
from salt_ray.postprocessing.evidence import Evidence, choose, report, settle, weigh
from salt_ray.postprocessing.predicted import MosaicTiles, PredictedMosaic, positions
from salt_ray.postprocessing.rules import MIN_TILES, RULES
from salt_ray.postprocessing.selection import HiddenScores, hidden_groups, try_rules
from salt_ray.storage import StoragePath, write_atomically
from salt_ray.survey.prepared import PreparedSurvey


class PostprocessingFailed(SaltRayError):
    """Some mosaics keep their predicted masks, because their task failed."""


def try_mosaic(
    tiles: MosaicTiles,
    models: Sequence[ModelPrediction],
    groups: np.ndarray,
    candidates: Sequence[Sequence[RuleName]],
    decisions: FoldDecisions,
) -> HiddenScores:
    """``try_rules`` on a mosaic's stored predictions, with the ``groups`` and ``decisions`` of its tiles."""
    return try_rules(PredictedMosaic.gather(tiles, models), groups, candidates, decisions)


def correct_mosaic(
    tiles: MosaicTiles,
    models: Sequence[ModelPrediction],
    rules: Sequence[RuleName],
    decision: Decision,
    picture: StoragePath,
) -> CorrectedMosaic:
    """``correct`` on a mosaic's stored predictions; also draws the mosaic."""
    corrected = correct(PredictedMosaic.gather(tiles, models), rules, decision)
    write_atomically(picture, encode_png(draw_mosaic(tiles, corrected.before, corrected.after)))
    return corrected


class Postprocessing:
    """Tracks predictions as they arrive, and gives complete mosaics to an engine.

    Args:
        table: the mosaics.
        models: all models' predictions, accessible to every worker; may be incomplete.
        missing: (N,) int64, number of models that have yet to predict each tile of the survey.
        decisions: how predictions become masks.
        folder: output folder; complete once it has its marker.
        run: contains the models' predictions and the folder.
    """

    def __init__(
        self,
        experiment: Experiment,
        prepared: PreparedSurvey,
        table: MosaicTable,
        models: Sequence[ModelPrediction],
        missing: np.ndarray,
        decisions: FoldDecisions,
        folder: Folder,
        run: RunDirectory,
        engine: Engine,
    ) -> None:
        self._experiment, self._prepared, self._table = experiment, prepared, table
        self._models, self._decisions, self._folder = models, decisions, folder
        tiles = positions(table.ids, prepared.survey.ids)
        self._mosaic_of = np.full(len(missing), -1)
        self._mosaic_of[tiles] = table.mosaics
        self._missing = np.bincount(table.mosaics, missing[tiles], table.count).astype(np.int64)
        self._tasks = engine.tasks(self._task, run, experiment.resources)
        self._corrected: dict[int, CorrectedMosaic] = {}
        self._failures: dict[int, str] = {}

        settings, seen = experiment.postprocessing, prepared.seen_by_rules[tiles]
        self._sizes = np.bincount(table.mosaics, seen, table.count)
        large = tiles[seen & (self._sizes[table.mosaics] >= MIN_TILES)]
        judged = np.isin(np.arange(len(missing)), np.intersect1d(large, judged_tiles(models, prepared.trainable)))
        self._groups = hidden_groups(self._mosaic_of, judged, experiment.seed)
        self._alone: dict[RuleName, Evidence] = {}
        self._together: Evidence | None = None
        self._scores: dict[int, HiddenScores] = {}
        self._untried: set[int] = set()  # mosaics whose hidden tiles must be scored before rules can be chosen
        self._rules: tuple[RuleName, ...] | None = {"argus": tuple(RULES), "none": (), "evidence": None}.get(
            settings.rules, settings.rules
        )
        if self._rules is None:
            self._untried = set(self._mosaic_of[judged].tolist())
            self._candidates: list[tuple[RuleName, ...]] = [(name,) for name in RULES]
            if not self._untried or len(models) < 2:
                self._rules, self._untried = (), set()
        self._begin(range(table.count))

    def arrived(self, tiles: np.ndarray) -> None:
        """One model has predicted the tiles at these positions."""
        mosaics = self._mosaic_of[tiles]
        mosaics = mosaics[mosaics >= 0]
        self._missing -= np.bincount(mosaics, minlength=self._table.count)
        self._begin(np.unique(mosaics).tolist())
        self._collect(wait=False)

    def finish(self) -> dict[str, Any]:
        """Wait for the remaining tasks and write the results; the marker lists failed mosaics.

        Returns:
            The content of ``rules.json``.
        """
        from salt_ray.report.sheets import write_sheets  # imports matplotlib, which tasks do not need

        while self._tasks:
            self._collect(wait=True)
        mosaics = [self._corrected[number] for number in sorted(self._corrected)]
        path = self._folder.path
        Corrections.join((mosaic.corrections for mosaic in mosaics), self._prepared.frame.tile_px).save(path)
        save_changes(path / "changes.csv", mosaics, self._prepared.survey.ids)
        rules = report(
            self._alone, self._together, self._rules, self._experiment.postprocessing, list(self._scores.values())
        )
        write_atomically(path / "rules.json", json.dumps(rules, indent=1))
        write_sheets(path, mosaics, self._prepared.survey.ids)
        self._folder.finish(failed={str(number): reason for number, reason in sorted(self._failures.items())})
        return rules

    def _begin(self, numbers: Iterable[int]) -> None:
        """Start the next task of complete mosaics, if it is known."""
        for number in numbers:
            is_next = self._rules is not None or number in self._untried
            is_complete = self._sizes[number] > 0 and self._missing[number] == 0
            if is_next and is_complete and number not in self._failures:
                self._tasks.add(number)

    def _task(self, number: int) -> Callable[[], HiddenScores | CorrectedMosaic]:
        """The next task of a complete mosaic: to try rules while they are being chosen, else to apply them."""
        tiles = MosaicTiles.gather(number, self._table, self._prepared)
        models = [model.part(tiles.tiles) for model in self._models]
        if self._rules is None:
            groups, decisions = self._groups[tiles.tiles], self._decisions.part(tiles.tiles)
            return functools.partial(try_mosaic, tiles, models, groups, self._candidates, decisions)
        picture = self._folder.path / "pictures" / f"mosaic-{number:04d}.png"
        return functools.partial(correct_mosaic, tiles, models, self._rules, self._decisions.final, picture)

    def _collect(self, wait: bool) -> None:
        """Process available answers."""
        for number, answer in self._tasks.answers(wait):
            if isinstance(answer, Failed):
                self._failures[number] = answer.reason
            elif isinstance(answer, HiddenScores):
                self._scores[number] = answer
            else:
                self._corrected[number] = answer
            if self._rules is None:
                self._untried.discard(number)
                if not self._untried:
                    self._decide()

    def _decide(self) -> None:
        """Decide after all mosaics have answered: first on each rule, then on the kept rules together."""
        evidence = weigh([self._scores[number] for number in sorted(self._scores)], self._experiment.seed)
        if not evidence:  # all mosaics with hidden labels have failed
            self._rules = ()
        elif not self._alone:
            self._alone = dict(zip(RULES, evidence, strict=True))
            chosen = choose(self._alone)
            if len(chosen) > 1:
                self._candidates, self._untried = [chosen], set(self._scores)
                self._scores = {}
            else:
                self._rules, self._together = chosen, self._alone[chosen[0]] if chosen else None
        else:
            (together,) = evidence
            self._rules, self._together = settle(self._alone, together)
        self._begin(range(self._table.count))
