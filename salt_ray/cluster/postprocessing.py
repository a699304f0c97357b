"""Mosaic post-processing as Ray tasks, for every mosaic as soon as its tiles are predicted.

Where many mosaics wait, a task takes several of them. The tasks take CPUs only, so that they run beside inference on
GPUs. Where rules are chosen by evidence, every mosaic with labels first tries them on hidden ones; when all have
answered, the rules that convinced are applied.
"""

from __future__ import annotations

import json
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from salt_ray.cluster.session import ClusterError, asked_for, may_grow, slots  # isort: skip (sets Ray's environment)
import numpy as np
import ray

from salt_ray.artifacts import Folder
from salt_ray.config import Experiment, Resources, RuleName
from salt_ray.decision import Decision
from salt_ray.inference.ensemble import ModelPrediction
from salt_ray.mosaic.corrections import CorrectedMosaic, correct, gather, save_changes
from salt_ray.mosaic.draw import draw_mosaic, write_png
from salt_ray.mosaic.predicted import MosaicTiles, PredictedMosaic, positions
from salt_ray.mosaic.rules import MIN_TILES, RULES
from salt_ray.mosaic.selection import Evidence, LeakError, Trial, choose, hidden_tiles, report, try_rules, weigh
from salt_ray.mosaic.table import MosaicTable
from salt_ray.report.sheets import picture_path, write_sheets
from salt_ray.storage import StoragePath, write_atomically
from salt_ray.survey.prepared import PreparedSurvey

TASKS_PER_CPU = 2  # in flight: enough that no CPU waits for the driver, few enough that memory does not fill
#: Mosaics of one task at most. A task costs 5 ms of the driver's core and of its worker's, as much as a small mosaic.
MOSAICS_PER_TASK = 16
ONE_CPU = {"CPU": 1.0}


class PostprocessingFailed(ClusterError):
    """Mosaics that keep their masks as predicted, because their task failed."""


@dataclass(frozen=True)
class Failed:
    """In place of a mosaic's answer, why there is none."""

    reason: str


@ray.remote(num_cpus=1, max_retries=3)
def try_in_mosaics(
    mosaics: Sequence[tuple[MosaicTiles, Sequence[ModelPrediction], np.ndarray]],
    candidates: Sequence[Sequence[RuleName]],
    settings: Decision,
) -> list[Trial | Failed]:
    """``try_rules`` on a worker, with the ``hidden`` tiles of each mosaic."""

    def attempt(tiles: MosaicTiles, models: Sequence[ModelPrediction], hidden: np.ndarray) -> Trial:
        return try_rules(PredictedMosaic.gather(tiles, models), hidden, candidates, settings)

    return _one_by_one(attempt, mosaics)


@ray.remote(num_cpus=1, max_retries=3)
def correct_mosaics(
    mosaics: Sequence[tuple[MosaicTiles, Sequence[ModelPrediction], StoragePath]],
    rules: Sequence[RuleName],
    settings: Decision,
) -> list[CorrectedMosaic | Failed]:
    """``correct`` on a worker, which also draws each mosaic, to its own path."""

    def attempt(tiles: MosaicTiles, models: Sequence[ModelPrediction], picture: StoragePath) -> CorrectedMosaic:
        corrected = correct(PredictedMosaic.gather(tiles, models), rules, settings)
        before, after = corrected.before, corrected.after
        write_png(picture, draw_mosaic(tiles.rows, tiles.cols, tiles.images, tiles.labelled, before, after))
        return corrected

    return _one_by_one(attempt, mosaics)


def _one_by_one(attempt: Callable[..., Any], mosaics: Sequence[tuple]) -> list:
    """One mosaic that fails, for whatever reason, leaves the others of its task alone; but a leak ends everything."""
    answers = []
    for mosaic in mosaics:
        try:
            answers.append(attempt(*mosaic))
        except LeakError:
            raise
        except Exception as error:
            answers.append(Failed(traceback.format_exception_only(error)[-1].strip()))
    return answers


class _Calls:
    """Remote calls of which a few are in flight at a time; the others wait, so that their data need no memory.

    Where the cluster may grow none waits in Ray's queue: that would start a machine, with GPUs if it is of that kind.

    Args:
        submit: begins the call for some mosaics, by number, that gives a list of their answers.
        beside: what the prediction workers take that these calls run beside.
    """

    def __init__(self, submit: Callable[[list[int]], ray.ObjectRef], beside: Resources) -> None:
        self._submit = submit
        self._grows = may_grow(ONE_CPU)
        self._worker = asked_for(beside)
        self._waiting: deque[int] = deque()
        self._suspects: deque[int] = deque()  # one of those that were together in a call brought it down
        self._flying: dict[ray.ObjectRef, list[int]] = {}

    def add(self, number: int) -> None:
        self._waiting.append(number)

    def __bool__(self) -> bool:
        return bool(self._waiting or self._suspects or self._flying)

    def answers(self, timeout: float | None) -> Iterator[tuple[int, Any]]:
        """Those that have come, each the answer or the RayError in its place, by number.

        Args:
            timeout: 0 while tiles are predicted; None waits for at least one.
        """
        limit = self._limit(predicting=timeout is not None)
        self._fill(limit)
        if not self._flying:
            return
        if timeout is None:
            ray.wait(list(self._flying))
        finished, _ = ray.wait(list(self._flying), num_returns=len(self._flying), timeout=0)
        for reference in finished:
            numbers = self._flying.pop(reference)
            try:
                answers = ray.get(reference)
            except ray.exceptions.RayError as error:
                if len(numbers) > 1 and not _is_leak(error):
                    self._suspects.extend(numbers)
                    continue
                answers = [error] * len(numbers)
            yield from zip(numbers, answers, strict=True)
        self._fill(limit)

    def _limit(self, predicting: bool) -> int:
        """How many may be in flight now: nodes come and go."""
        cpus = slots(ONE_CPU)
        if not self._grows:
            return TASKS_PER_CPU * max(1, cpus)
        if predicting:  # the workers hold theirs, or are about to
            return cpus - slots(self._worker) * int(self._worker["CPU"])
        return max(1, cpus)  # without a node one of them asks for it

    def _fill(self, limit: int) -> None:
        while (self._suspects or self._waiting) and len(self._flying) < limit:
            if self._suspects:
                numbers = [self._suspects.popleft()]
            else:  # fewer and fewer, so that all workers end at nearly the same time
                count = min(MOSAICS_PER_TASK, max(1, len(self._waiting) // (2 * limit)))
                numbers = [self._waiting.popleft() for _ in range(count)]
            self._flying[self._submit(numbers)] = numbers


def _is_leak(error: ray.exceptions.RayError) -> bool:
    return isinstance(getattr(error, "cause", None), LeakError)


class Postprocessing:
    """Follows predictions as they arrive, and keeps free CPUs busy with the mosaics that are complete.

    Args:
        table: the mosaics.
        models: all models' predictions, in a place that every worker sees; they may still be growing.
        missing: (N,) int64: how many models have yet to predict each tile of the survey.
        folder: where the results go; whole once it has its marker.
        decision: makes masks of the predictions.
    """

    def __init__(
        self,
        experiment: Experiment,
        prepared: PreparedSurvey,
        table: MosaicTable,
        models: Sequence[ModelPrediction],
        missing: np.ndarray,
        folder: Folder,
        decision: Decision,
    ) -> None:
        self._experiment, self._prepared, self._table = experiment, prepared, table
        self._decision = decision
        self._models, self._folder = models, folder
        self._members = list(table.members())
        tiles = positions(table.ids, prepared.survey.ids)
        self._mosaic_of = np.full(len(missing), -1)
        self._mosaic_of[tiles] = table.mosaics
        self._missing = np.bincount(table.mosaics, missing[tiles], table.count).astype(np.int64)
        self._calls = _Calls(self._submit, experiment.resources)
        self._corrected: dict[int, CorrectedMosaic] = {}
        self._failures: dict[int, str] = {}

        settings = experiment.postprocessing
        large = tiles[np.bincount(table.mosaics, minlength=table.count)[table.mosaics] >= MIN_TILES]
        judged = np.isin(np.arange(len(missing)), np.intersect1d(large, prepared.trainable))
        self._hidden = hidden_tiles(judged, settings, experiment.seed)
        self._alone: dict[RuleName, Evidence] = {}
        self._together: Evidence | None = None
        self._trials: dict[int, Trial] = {}
        self._held: list[int] = []  # complete, but the rules are not known yet
        self._untried: set[int] = set()
        self._rules: tuple[RuleName, ...] | None = {"seed": tuple(RULES), "none": (), "evidence": None}.get(
            settings.rules, settings.rules
        )
        if self._rules is None:
            self._untried = set(np.unique(self._mosaic_of[self._hidden.any(axis=0)]).tolist())
            self._candidates: list[tuple[RuleName, ...]] = [(name,) for name in RULES]
            if not self._untried:
                self._rules = ()
        for number in np.flatnonzero(self._missing == 0).tolist():
            self._begin(number)

    def arrived(self, tiles: np.ndarray) -> None:
        """One model has predicted the tiles at these positions."""
        mosaics = self._mosaic_of[tiles]
        mosaics = mosaics[mosaics >= 0]
        self._missing -= np.bincount(mosaics, minlength=self._table.count)
        for number in np.unique(mosaics).tolist():
            if self._missing[number] == 0:
                self._begin(number)
        self._collect(timeout=0)

    def finish(self) -> dict[str, Any]:
        """Wait for what is left and write the results; the marker names mosaics that failed.

        Returns:
            The content of ``rules.json``.
        """
        while self._calls:
            self._collect(timeout=None)
        mosaics = [self._corrected[number] for number in sorted(self._corrected)]
        path = self._folder.path
        gather(mosaics, self._prepared.frame.tile_px).save(path)
        save_changes(path / "changes.csv", mosaics, self._prepared.survey.ids)
        rules = report(
            self._alone,
            self._together,
            self._rules,
            self._experiment.postprocessing,
            int(self._hidden[0].sum()) if self._alone else 0,
        )
        write_atomically(path / "rules.json", json.dumps(rules, indent=1))
        write_sheets(path, mosaics, self._prepared.survey.ids)
        self._folder.finish(failed={str(number): reason for number, reason in sorted(self._failures.items())})
        return rules

    def _begin(self, number: int) -> None:
        """Give a complete mosaic its next task."""
        if self._rules is not None or number in self._untried:
            self._calls.add(number)
        else:
            self._held.append(number)

    def _submit(self, numbers: list[int]) -> ray.ObjectRef:
        """Send mosaics that are complete to a worker. While rules are tried no mosaic waits for anything else."""
        settings = self._decision
        mosaics = [(tiles, [model.part(tiles.tiles) for model in self._models]) for tiles in map(self._tiles, numbers)]
        if self._rules is None:
            hidden = [(*mosaic, self._hidden[:, mosaic[0].tiles]) for mosaic in mosaics]
            return try_in_mosaics.remote(hidden, self._candidates, settings)
        drawn = [(*mosaic, picture_path(self._folder.path, mosaic[0].number)) for mosaic in mosaics]
        return correct_mosaics.remote(drawn, self._rules, settings)

    def _collect(self, timeout: float | None) -> None:
        """Take in what has been answered, and go on from there."""
        for number, answer in self._calls.answers(timeout):
            if isinstance(answer, ray.exceptions.RayError):
                if _is_leak(answer):
                    raise answer
                self._failures[number] = str(answer).strip().splitlines()[-1]
            elif isinstance(answer, Failed):
                self._failures[number] = answer.reason
            elif isinstance(answer, Trial):
                self._trials[number] = answer
                self._held.append(number)
            else:
                self._corrected[number] = answer
            if self._rules is None:
                self._untried.discard(number)
                if not self._untried:
                    self._decide()

    def _decide(self) -> None:
        """All trials of a round have answered: first those of each rule alone, then those of the kept ones together."""
        evidence = weigh([self._trials[number] for number in sorted(self._trials)])
        if not self._alone:
            self._alone = dict(zip(RULES, evidence, strict=bool(evidence)))
            kept = choose(self._alone)
            if len(kept) > 1:
                self._candidates, self._untried = [kept], set(self._trials)
                self._trials = {}
            else:
                self._rules, self._together = kept, self._alone[kept[0]] if kept else None
        elif not evidence:  # the mosaics that hid labels have failed
            self._rules = ()
        else:
            (self._together,) = evidence
            (self._rules,) = self._candidates
            if not self._together.convincing:  # they undo each other's gains: keep the best one
                best = max(self._alone, key=lambda name: self._alone[name].gain)
                self._rules, self._together = (best,), self._alone[best]
        held, self._held = self._held, []
        for number in held:
            self._begin(number)

    def _tiles(self, number: int) -> MosaicTiles:
        return MosaicTiles.gather(number, self._members[number], self._table, self._prepared)
