"""The choices made after training, in words: thresholds, and the evidence for mosaic rules.

In older versions, ``rules.json`` has the spread of the gain over repeats with different hidden labels, and no test.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from salt_ray.inference.thresholds import MIN_CLUSTERS, Thresholds

#: Titles of the scores in ``scores.json`` other than those of folds.
SCORE_TITLES = {"oof": "out of fold", "holdout": "hold-out", "test": "test truth"}


def thresholds_text(thresholds: Thresholds) -> str:
    """The thresholds in use, and the gain from choosing them."""
    given, gain = thresholds.given.thresholds, thresholds.gain
    if gain is None:
        return f"thresholds stay as given ({given}): choosing them needs the predictions of two folds"
    scores = (
        f"{gain.first:.4f} before, {gain.second:.4f} with each fold's thresholds chosen on the others: "
        f"{gain.difference:+.4f}, 95 % interval {gain.low:+.4f} to {gain.high:+.4f} ({gain.clusters:,} groups "
        "of neighbours)"
    )
    if thresholds.adopted:
        return f"thresholds chosen: {thresholds.final.thresholds} instead of {given}; out of fold {scores}"
    why = "no gain was shown" if gain.clusters >= MIN_CLUSTERS else f"{MIN_CLUSTERS} groups of neighbours are needed"
    return f"thresholds stay as given ({given}), {why}; out of fold {scores}"


def gain_text(evidence: Mapping[str, Any]) -> str:
    """The gain on hidden labels with its 95 % interval, or with its spread."""
    gain = f"{evidence['gain']:+.4f}"
    if "spread" in evidence:
        return f"{gain} ± {evidence['spread']:.4f}"
    low, high = evidence["interval"]
    return f"{gain} ({low:+.4f} … {high:+.4f})"


class RuleInWords(NamedTuple):
    """The evidence for a single rule; a dash if not measured.

    Attributes:
        gain: gain on hidden labels, as in ``gain_text``.
        chance: probability of such a gain from a rule without effect.
        changed: number of hidden tiles changed, and of their mosaics.
        kept: "yes", or the reason why not.
        test: gain on the test truth, not used for choosing.
    """

    gain: str
    chance: str
    changed: str
    kept: str
    test: str


def in_words(name: str, rules: Mapping[str, Any]) -> RuleInWords:
    """One rule of ``rules.json``."""
    evidence, after = rules["alone"].get(name), rules.get("test_of_each", {}).get(name)
    test = "–" if after is None else f"{after - rules['test']['before']:+.4f}"
    if evidence is None:
        return RuleInWords("not tried", "–", "–", "yes" if name in rules["kept"] else "no", test)
    chance = evidence.get("p")
    return RuleInWords(
        gain_text(evidence),
        "–" if chance is None else "< 0.001" if chance < 0.001 else f"{chance:.3f}",
        f"{evidence['tiles']:,} in {evidence['mosaics']:,}" if "tiles" in evidence else "–",
        "yes" if evidence["kept"] else evidence.get("reason", "no"),
        test,
    )


def method_text(rules: Mapping[str, Any]) -> str:
    """How the rules were chosen."""
    if not rules["alone"]:
        if rules["rules"] == "evidence":
            return (
                "There is no evidence for any rule: it requires mosaics of three or more tiles with labels, and "
                "two folds."
            )
        return "The rules were set in the experiment (postprocessing.rules), not chosen by evidence."
    if "repeats" in rules:
        return (
            f"Each rule was tried on {rules['hidden_tiles_per_repeat']:,} labels hidden from it, "
            f"{rules['repeats']} times. It was kept if the score rose by more than its spread, "
            "the criterion of an older version."
        )
    return (
        f"Each of {rules['hidden_tiles']:,} labels in {rules['hidden_mosaics']:,} mosaics was hidden once. A rule is "
        "kept if it changed hidden tiles in ten or more mosaics and its gain would be chance in at most 5 % of surveys "
        "(p, adjusted for the number of rules)."
    )
