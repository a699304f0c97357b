"""Which rules earn their place: each is tried on labels that it cannot see (method section 6).

In every repeat a random share of the labelled tiles is hidden. A hidden tile takes the prediction of the models that
were not trained on it, and so does every tile around it that has no label: nothing in the mosaic then knows the hidden
label. The rule is applied, and the hidden tiles are scored before and after.

Letters: n tiles of a mosaic, R repeats, C candidates (sets of rules), L labelled tiles.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from salt_ray.config import Postprocessing, RuleName
from salt_ray.decision import Decision
from salt_ray.mosaic.predicted import PredictedMosaic, view
from salt_ray.mosaic.rules import RULES, apply_rules
from salt_ray.training.metrics import tile_scores


class LeakError(AssertionError):
    """A rule could see the label of a tile that it is scored on."""


def hidden_tiles(labelled: np.ndarray, settings: Postprocessing, seed: int) -> np.ndarray:
    """Which tiles are hidden in each repeat, bool (R, N): each time the same share of ``labelled``, bool (N,)."""
    random = np.random.default_rng([seed, 6])  # 6: not the stream of anything else
    candidates = np.flatnonzero(labelled)
    size = round(len(candidates) * settings.hidden_share)
    hidden = np.zeros((settings.repeats, len(labelled)), bool)
    for row in hidden:
        row[random.permutation(candidates)[:size]] = True
    return hidden


@dataclass(frozen=True)
class Trial:
    """What one mosaic says about each candidate.

    Attributes:
        scores: (1 + C, R) float64: summed scores of its hidden tiles, first as predicted, then after each candidate.
        tiles: (R,) int64: how many tiles were hidden.
    """

    scores: np.ndarray
    tiles: np.ndarray


def try_rules(
    mosaic: PredictedMosaic, hidden: np.ndarray, candidates: Sequence[Sequence[RuleName]], settings: Decision
) -> Trial:
    """Score a mosaic's hidden tiles without rules and after each candidate.

    Hidden tiles that different models may judge are tried one group after the other, the rest of the labels visible.

    Args:
        hidden: (R, n) bool, labelled tiles to hide in each repeat.

    Raises:
        LeakError: what the rules are given depends on a hidden label.
    """
    scores = np.zeros((1 + len(candidates), len(hidden)))
    groups, group_of = np.unique(mosaic.blind, axis=0, return_inverse=True)
    cache: dict[bytes, np.ndarray] = {}  # repeats often hide the same few tiles of a mosaic
    for repeat, chosen in enumerate(hidden):
        for group, models in enumerate(groups):
            now = chosen & (group_of.reshape(-1) == group)
            if not now.any():
                continue
            if now.tobytes() not in cache:
                cache[now.tobytes()] = _scores(mosaic, now, models, candidates, settings)
            scores[:, repeat] += cache[now.tobytes()]
    return Trial(scores, hidden.sum(axis=1))


def _scores(
    mosaic: PredictedMosaic,
    hidden: np.ndarray,
    models: np.ndarray,
    candidates: Sequence[Sequence[RuleName]],
    settings: Decision,
) -> np.ndarray:
    """Summed scores (1 + C,) of the hidden tiles."""
    seen = view(mosaic, hidden, models, settings)
    labels = mosaic.tiles.labels.copy()
    labels[hidden] = ~labels[hidden]
    relabelled = dataclasses.replace(mosaic, tiles=dataclasses.replace(mosaic.tiles, labels=labels))
    other = view(relabelled, hidden, models, settings)
    if not np.array_equal(seen.masks, other.masks) or (seen.labelled & hidden).any():
        raise LeakError(f"mosaic {mosaic.tiles.number}: a hidden label shows in what the rules are given")
    results = [seen.masks, *(apply_rules(seen, rules)[0] for rules in candidates)]
    truth = mosaic.tiles.labels[hidden]
    return np.array([tile_scores(truth, masks[hidden]).sum() for masks in results])


@dataclass(frozen=True)
class Evidence:
    """Before and after of one candidate, mean over the hidden tiles of a repeat.

    Attributes:
        before, after: mean over repeats.
        gain: mean over repeats of the difference.
        spread: its standard deviation over repeats.
    """

    before: float
    after: float
    gain: float
    spread: float

    @property
    def convincing(self) -> bool:
        """Whether the score rises by more than its spread."""
        return self.gain > self.spread


def weigh(trials: Sequence[Trial]) -> list[Evidence]:
    """What all mosaics together say about each candidate; nothing where no tile was hidden."""
    tiles = sum((trial.tiles for trial in trials), np.zeros(1, np.int64))
    if not np.all(tiles > 0):
        return []
    scores = sum((trial.scores for trial in trials), np.zeros((1, 1))) / tiles
    gains = scores[1:] - scores[0]
    before = float(scores[0].mean())
    return [
        Evidence(before, float(after.mean()), float(gain.mean()), float(gain.std(ddof=1)))
        for after, gain in zip(scores[1:], gains, strict=True)
    ]


def choose(alone: Mapping[RuleName, Evidence]) -> tuple[RuleName, ...]:
    """The rules that convince alone, in the order in which they are applied."""
    return tuple(name for name in RULES if name in alone and alone[name].convincing)


def report(
    alone: Mapping[RuleName, Evidence],
    together: Evidence | None,
    kept: Sequence[RuleName],
    settings: Postprocessing,
    tiles: int,
) -> dict[str, Any]:
    """``rules.json``: what was measured, on how much, and what was kept.

    Args:
        together: the kept rules, all applied; None where none is kept.
        tiles: hidden per repeat.
    """
    return {
        "rules": settings.rules,
        "kept": list(kept),
        "repeats": settings.repeats,
        "hidden_share": settings.hidden_share,
        "hidden_tiles_per_repeat": tiles,
        "alone": {name: dataclasses.asdict(evidence) | {"kept": name in kept} for name, evidence in alone.items()},
        "together": None if together is None else dataclasses.asdict(together),
    }
