"""How good a run is: per fold, out of fold, on the hold-out and on a known test truth, beside the trivial answers.

Letters: L labelled tiles, S tile edge in px.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pandas as pd

from salt_ray.decision import Decision, FoldDecisions
from salt_ray.errors import RunError
from salt_ray.inference.ensemble import ModelPrediction, decided_masks, judged_tiles
from salt_ray.metric import UNLABELLED, has_label, labelled_share, salt_share, score, tile_scores, trivial_scores
from salt_ray.survey.coding import salt_masks
from salt_ray.survey.decoding import decode_files, decode_mask
from salt_ray.survey.folds import FoldTable
from salt_ray.survey.meaning import AS_FOUND, Meaning
from salt_ray.survey.memory import Memory
from salt_ray.survey.prepared import PreparedSurvey
from salt_ray.survey.problems import Problem, shown
from salt_ray.survey.source import truth_files


def run_scores(
    prepared: PreparedSurvey,
    models: Mapping[tuple[str, int], ModelPrediction],
    tables: Mapping[str, FoldTable],
    decisions: FoldDecisions,
    test_truth: np.ndarray | None,
    correct: Callable[[np.ndarray, np.ndarray], np.ndarray] = lambda positions, masks: masks,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Every score of a run: means of the models that may judge a tile, thresholds, and rules where no label is seen.

    Args:
        models: predictions by (training, fold).
        tables: fold tables by training.
        decisions: how the tiles of the survey become masks.
        test_truth: (U, S, S) masks of the unlabelled tiles where they are known, bool or int8 as ``metric`` has them;
            tiles without a labelled pixel are not judged.
        correct: gives the masks (n, S, S) of tiles at positions (n,) after post-processing.

    Returns:
        ``folds`` (per fold; by "training/fold" when there are several trainings), ``oof``, ``oof_tiles``, ``trivial``
        (on the test truth where it is known, else on the out-of-fold tiles; None where there is no such answer), and
        ``test``, ``holdout`` with their ``_tiles`` where there are such tiles: after post-processing. ``rules`` has
        their ``before`` and ``after``. Folds and ``oof`` are before it: it copies from the labels that they judge by.
        And a table with a row for each judged tile: ``id``, ``set`` ("oof", "holdout", "test"), ``score``, and
        ``salt``, the share of the tile's labelled pixels that is salt; where not all pixels are labelled a column
        ``labelled`` too, the share that is.

    Raises:
        RunError: the test truth's masks are of another size than the tiles.
    """
    truth = prepared.survey.masks
    if test_truth is not None and test_truth.shape[1:] != truth.shape[1:]:
        sizes = [f"{masks.shape[2]} x {masks.shape[1]} px" for masks in (test_truth, truth)]
        raise RunError(
            f"the masks of the test truth are {sizes[0]}, the tiles {sizes[1]}: "
            "restore truth/masks beside the tiles, or remove it"
        )
    tiles = judged_tiles(list(models.values()), prepared.trainable)
    oof = _judged_masks(list(models.values()), tiles, decisions)
    scores: dict[str, Any] = {"folds": {}}
    for (training, fold), model in models.items():
        validation = np.sort(tables[training].split(fold, prepared.survey.ids[: len(truth)])[1])
        name = f"{training}/{fold}" if len(tables) > 1 else str(fold)
        scores["folds"][name] = score(truth[validation], _judged_masks([model], validation, decisions))
    scores["oof"], scores["oof_tiles"] = score(truth[tiles], oof), len(tiles)
    each = [_each_tile(prepared, "oof", tiles, truth[tiles], oof)]
    held_out, unlabelled = np.flatnonzero(prepared.held_out), prepared.unlabelled
    if test_truth is not None:
        known = has_label(test_truth)
        unlabelled, test_truth = unlabelled[known], test_truth[known]
    unseen = {"holdout": (held_out, truth[held_out]), "test": (unlabelled, test_truth)}
    scores["rules"] = {}
    for name, (positions, known) in unseen.items():
        if known is not None and len(known):
            before = survey_masks(prepared, models.values(), positions, decisions.final)
            corrected = correct(positions, before)
            after = score(known, corrected)
            scores[name], scores[f"{name}_tiles"] = after, len(positions)
            scores["rules"][name] = {"before": score(known, before), "after": after}
            each.append(_each_tile(prepared, name, positions, known, corrected))
    trivial = trivial_scores(truth[tiles], test_truth if "test" in scores else truth[tiles])
    scores["trivial"] = {name: None if math.isnan(value) else value for name, value in trivial.items()}
    table = pd.concat(each, ignore_index=True)
    return scores, table.drop(columns="labelled") if (table["labelled"] == 1).all() else table


def _judged_masks(models: Sequence[ModelPrediction], tiles: np.ndarray, decisions: FoldDecisions) -> np.ndarray:
    """``decided_masks`` of labelled tiles, (n, S, S) bool: each by thresholds that its fold had no part in."""
    parts = [(places, decided_masks(models, tiles[places], decision)) for decision, places in decisions.divide(tiles)]
    masks = np.empty((len(tiles), *parts[0][1].shape[1:]), bool)
    for places, decided in parts:
        masks[places] = decided
    return masks


def _each_tile(
    prepared: PreparedSurvey, name: str, positions: np.ndarray, truth: np.ndarray, masks: np.ndarray
) -> pd.DataFrame:
    """The tiles at (n,) positions with their scores."""
    tiles = {"id": prepared.survey.ids[positions], "set": name, "score": tile_scores(truth, masks)}
    return pd.DataFrame(tiles | {"salt": salt_share(truth), "labelled": labelled_share(truth)})


@dataclass(frozen=True)
class Spread:
    """One score over several seeds; ``sd`` is that of the sample (n - 1)."""

    each: tuple[float, ...]

    @property
    def mean(self) -> float:
        return fmean(self.each)

    @property
    def sd(self) -> float:
        return stdev(self.each)

    def as_json(self) -> dict[str, Any]:
        return {"mean": self.mean, "sd": self.sd, "each": list(self.each)}


def spreads(runs: Sequence[Mapping[str, Any]]) -> dict[str, Spread]:
    """The scores of at least two runs that differ in their seed (``run_scores`` of each), one spread a score."""
    rows = [named_scores(scores) for scores in runs]
    return {name: Spread(tuple(row[name] for row in rows)) for name in rows[0]}


def named_scores(scores: Mapping[str, Any]) -> dict[str, float]:
    """The scores of a run (``run_scores``) by name: each fold, then out of fold, the hold-out and the test truth."""
    folds = {f"fold {name}": value for name, value in scores["folds"].items()}
    return folds | {name: scores[name] for name in ("oof", "holdout", "test") if name in scores}


def survey_masks(
    prepared: PreparedSurvey, models: Sequence[ModelPrediction], positions: np.ndarray, decision: Decision
) -> np.ndarray:
    """Final masks (n, S, S) bool of the tiles at ``positions``; those of one colour are empty, not predicted."""
    edge = prepared.frame.tile_px
    masks = np.zeros((len(positions), edge, edge), bool)
    predicted = ~prepared.survey.constant[positions]
    if predicted.any():
        masks[predicted] = decided_masks(list(models), positions[predicted], decision)
    return masks


def read_test_truth(directory: Path, ids: np.ndarray, meaning: Meaning = AS_FOUND) -> np.ndarray | None:
    """(U, S, S) masks in ``truth/masks`` where a survey has them (a synthetic one does), or None.

    Bool, or int8 where pixels are not labelled (``survey.Survey``); here some tiles may have no labelled pixel at all.

    Raises:
        RunError: one is missing, cannot be read, or is of another size than the others; or it is not known what their
            values mean, or what a pixel is.
    """
    folder = directory / "truth" / "masks"
    if not folder.is_dir() or not len(ids):
        return None
    files = truth_files(directory, ids)
    missing = [str(tile) for tile in ids if tile not in files]
    if missing:
        raise RunError(f"{folder} lacks {len(missing)} masks (first: {missing[0]}.png): restore or remove it")
    problems: list[Problem] = []
    masks = decode_files(files, partial(decode_mask, None), Memory(), str(folder), problems)
    if problems:
        first = f"{problems[0].file} {shown(problems[0].what)}"
        raise RunError(
            f"{len(problems)} masks of the test truth cannot be read (first: {first}): restore them, or remove {folder}"
        )
    usual, _ = Counter(mask.shape for mask in masks.values()).most_common(1)[0]
    for tile, mask in masks.items():
        if mask.shape != usual:
            height, width = mask.shape
            raise RunError(
                f"{files[tile].place} is {width} x {height} px, the other masks there {usual[1]} x {usual[0]}: "
                f"restore it, or remove {folder}"
            )
    truth, _ = salt_masks(files, masks, meaning, problems, "truth/masks")
    if problems:
        raise RunError(str(problems[0]))
    nothing = np.full(usual, UNLABELLED, np.int8)
    return np.stack([truth.get(str(tile), nothing) for tile in ids])
