"""Which rules earn their place: a test over mosaics of what each did to hidden labels (method section 6).

Letters: M mosaics with hidden tiles, C candidates (sets of rules).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from salt_ray.config import Postprocessing, RuleName
from salt_ray.inference.resampling import drawn_sums
from salt_ray.postprocessing.rules import RULES
from salt_ray.postprocessing.selection import HiddenScores

LEVEL = 0.05  # chance that any rule is kept that gains nothing
MIN_MOSAICS = 10  # mosaics in which a hidden tile must have changed
RESAMPLES = 2000
TENTHS = 10  # a tile's score is a number of tenths, so sums of them are exact as integers


@dataclass(frozen=True)
class Evidence:
    """What one candidate does to hidden labels.

    Attributes:
        before, after: mean score of the hidden tiles.
        gain: the difference.
        interval: 95 % of the bootstrap over mosaics.
        p: chance of such a gain where there is none, adjusted for the number of candidates; None with fewer than
            ``MIN_MOSAICS`` mosaics.
        mosaics: in which it changed a hidden tile.
        tiles: hidden tiles that it changed.
    """

    before: float
    after: float
    gain: float
    interval: tuple[float, float]
    p: float | None
    mosaics: int
    tiles: int

    @property
    def convincing(self) -> bool:
        return self.p is not None and self.p <= LEVEL

    @property
    def reason(self) -> str:
        """Why it is not kept."""
        if self.p is None:
            return "too little evidence"
        return "gain not shown" if not self.convincing else "not with the others"


def weigh(scores: Sequence[HiddenScores], seed: int) -> list[Evidence]:
    """What all mosaics together say about each candidate; nothing where no tile was hidden.

    Args:
        seed: of the bootstrap.
    """
    if not scores:
        return []
    tiles = np.array([one.tiles for one in scores])
    before = np.array([one.before for one in scores])
    gains = np.rint(TENTHS * np.array([one.after - one.before for one in scores])).astype(np.int64)  # (M, C)
    changed = np.array([one.changed for one in scores])
    mosaics = np.count_nonzero(changed, axis=0)
    score = float(before.sum() / tiles.sum())
    means = gains.sum(axis=0) / TENTHS / tiles.sum()
    intervals = _intervals(gains, tiles, seed)
    tested = np.flatnonzero(mosaics >= MIN_MOSAICS)
    chances = dict(zip(tested.tolist(), _holm([_chance(gains[:, c], score) for c in tested]), strict=True))
    return [
        Evidence(score, score + gain, gain, intervals[c], chances.get(c), int(mosaics[c]), int(changed[:, c].sum()))
        for c, gain in enumerate(means.tolist())
    ]


def _chance(gains: np.ndarray, score: float) -> float:
    """Chance of so large a sum if each mosaic's gain could as well be a loss (exact sign-flip test, one-sided).

    One loss of an average tile's whole score is added to what was seen. A rule that gains a little nearly always and
    rarely spoils a tile can be worthless though none of the few tiles that it changed was spoilt.

    Args:
        gains: (M,) int64, tenths.
        score: mean of the hidden tiles before.
    """
    seen = np.append(gains, -round(TENTHS * score))
    steps = np.abs(seen[seen != 0])
    reach = int(steps.sum())
    chances = np.zeros(2 * reach + 1)  # of the sums -reach … reach
    chances[reach] = 1
    for step in steps.tolist():
        half, chances = chances / 2, np.zeros_like(chances)
        chances[step:] += half[:-step]
        chances[:-step] += half[step:]
    return float(chances[reach + int(seen.sum()) :].sum())


def _holm(chances: Sequence[float]) -> list[float]:
    """Adjusted so that the chance of any wrong one among them is below the level (Holm 1979)."""
    order = np.argsort(chances, kind="stable")
    adjusted = np.empty(len(chances))
    steps = np.arange(len(chances), 0, -1) * np.asarray(chances, float)[order]
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted.tolist()


def _intervals(gains: np.ndarray, tiles: np.ndarray, seed: int) -> list[tuple[float, float]]:
    """95 % intervals of the mean gain over tiles, for (M, C) gains: mosaics drawn with replacement (percentiles)."""
    random = np.random.default_rng([seed, 7])  # 7: not the stream of anything else
    drawn = drawn_sums(np.column_stack([gains, tiles]), RESAMPLES, random)
    low, high = np.quantile(drawn[:, :-1] / TENTHS / drawn[:, -1:], [0.025, 0.975], axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def choose(alone: Mapping[RuleName, Evidence]) -> tuple[RuleName, ...]:
    """The rules that convince alone, in the order in which they are applied."""
    return tuple(name for name in RULES if name in alone and alone[name].convincing)


def settle(alone: Mapping[RuleName, Evidence], together: Evidence) -> tuple[tuple[RuleName, ...], Evidence]:
    """The chosen rules and what they do together; where that does not convince, the one of them that gains most."""
    chosen = choose(alone)
    if together.convincing:
        return chosen, together
    best = max(chosen, key=lambda name: alone[name].gain)
    return (best,), alone[best]


def report(
    alone: Mapping[RuleName, Evidence],
    together: Evidence | None,
    kept: Sequence[RuleName],
    settings: Postprocessing,
    scores: Sequence[HiddenScores] = (),
) -> dict[str, Any]:
    """``rules.json``: what was measured, on how much, and what was kept.

    Args:
        together: the kept rules, all applied; None where none is kept.
        scores: of the mosaics with hidden tiles.
    """
    return {
        "rules": settings.rules,
        "kept": list(kept),
        "hidden_tiles": sum(one.tiles for one in scores),
        "hidden_mosaics": len(scores),
        "alone": {
            name: _fields(evidence) | {"kept": name in kept, "reason": None if name in kept else evidence.reason}
            for name, evidence in alone.items()
        },
        "together": None if together is None else _fields(together),
    }


def _fields(evidence: Evidence) -> dict[str, Any]:
    return dataclasses.asdict(evidence) | {"interval": list(evidence.interval)}
