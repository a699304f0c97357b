"""What each rule does to labels that it cannot see (method section 6).

Every labelled tile is hidden once, together with those of its group. A hidden tile takes the prediction of the models
that were not trained on it, and so does every tile around it that has no label: nothing in the mosaic then knows the
hidden label. The rule is applied, and the hidden tiles are scored before and after.

Letters: N tiles of the survey, n of a mosaic, C candidates (sets of rules).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from salt_ray.config import RuleName
from salt_ray.decision import Decision, FoldDecisions
from salt_ray.metric import tile_scores
from salt_ray.postprocessing.predicted import PredictedMosaic, view
from salt_ray.postprocessing.rules import apply_rules
from salt_ray.postprocessing.seen import SeenMosaic

#: Groups of a mosaic's labels: three quarters stay visible around a hidden tile, which is near to what a tile without a
#: label has.
GROUPS = 4


class LeakError(AssertionError):
    """A rule could see the label of a tile that it is scored on."""


def hidden_groups(mosaics: np.ndarray, judged: np.ndarray, seed: int) -> np.ndarray:
    """The group in which each tile is hidden, (N,) int64: 0 … GROUPS - 1 within its mosaic; -1 for tiles never hidden.

    Args:
        mosaics: (N,) int64, the mosaic of each tile; any number where it has none.
        judged: (N,) bool, the tiles whose labels are hidden.
        seed: nothing else decides who is hidden with whom, least of all the folds.
    """
    draw = np.random.default_rng([seed, 6]).random(len(judged))  # 6: not the stream of anything else
    groups = np.full(len(judged), -1)
    tiles = np.flatnonzero(judged)
    tiles = tiles[np.lexsort((draw[tiles], mosaics[tiles]))]
    sizes = np.unique(mosaics[tiles], return_counts=True)[1]
    groups[tiles] = (np.arange(len(tiles)) - np.repeat(np.cumsum(sizes) - sizes, sizes)) % GROUPS
    return groups


@dataclass(frozen=True)
class HiddenScores:
    """What one mosaic says about each candidate.

    Attributes:
        tiles: how many were hidden.
        before: their summed score as predicted.
        after: (C,) float64, their summed score after each candidate.
        changed: (C,) int64, how many of them each candidate changed.
    """

    tiles: int
    before: float
    after: np.ndarray
    changed: np.ndarray


def try_rules(
    mosaic: PredictedMosaic, groups: np.ndarray, candidates: Sequence[Sequence[RuleName]], decisions: FoldDecisions
) -> HiddenScores:
    """Score a mosaic's hidden tiles without rules and after each candidate.

    Tiles of a group that different models may judge are hidden one after the other. What decides a hidden tile decides
    the tiles around it too: their own decision may have been chosen by the hidden label.

    Args:
        groups: (n,) int64 of ``hidden_groups``.
        decisions: of the mosaic's n tiles (``FoldDecisions.part``).

    Raises:
        LeakError: what the rules are given depends on a hidden label.
    """
    hidden = np.flatnonzero(groups >= 0)
    deciders, decided_by = [], np.zeros(len(groups), np.int64)
    for decision, places in decisions.divide(np.arange(len(groups))):
        decided_by[places] = len(deciders)
        deciders.append(decision)
    kinds = np.column_stack([groups, decided_by, mosaic.blind])[hidden]
    passes, pass_of = np.unique(kinds, axis=0, return_inverse=True)
    before, after, changed = 0.0, np.zeros(len(candidates)), np.zeros(len(candidates), np.int64)
    for number, (_, decider, *models) in enumerate(passes):
        now = np.zeros(len(groups), bool)
        now[hidden[pass_of.reshape(-1) == number]] = True
        seen = _without_labels(mosaic, now, np.array(models, bool), deciders[decider])
        truth = mosaic.tiles.labels[now]
        before += tile_scores(truth, seen.masks[now]).sum()
        for candidate, rules in enumerate(candidates):
            masks = apply_rules(seen, rules)[0][now]
            after[candidate] += tile_scores(truth, masks).sum()
            changed[candidate] += np.count_nonzero((masks != seen.masks[now]).any(axis=(1, 2)))
    return HiddenScores(len(hidden), float(before), after, changed)


def _without_labels(mosaic: PredictedMosaic, hidden: np.ndarray, models: np.ndarray, decision: Decision) -> SeenMosaic:
    """``view``, of which nothing may change when the hidden labels are inverted."""
    seen = view(mosaic, hidden, models, decision)
    labels = mosaic.tiles.labels.copy()
    labels[hidden] = ~labels[hidden]
    inverted = dataclasses.replace(mosaic, tiles=dataclasses.replace(mosaic.tiles, labels=labels))
    other = view(inverted, hidden, models, decision)
    if not np.array_equal(seen.masks, other.masks) or (seen.labelled & hidden).any():
        raise LeakError(f"mosaic {mosaic.tiles.number}: a hidden label shows in what the rules are given")
    return seen
