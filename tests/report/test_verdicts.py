"""What was chosen, in words: thresholds, and the evidence for rules of every version of ``rules.json``."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from salt_ray.decision import ARGUS
from salt_ray.inference.paired import Difference
from salt_ray.inference.thresholds import Thresholds
from salt_ray.report.terminal import Terminal
from salt_ray.report.verdicts import gain_text, in_words, method_text, thresholds_text

TODAY = {
    "rules": "evidence",
    "kept": ["copy_down"],
    "hidden_tiles": 836,
    "hidden_mosaics": 301,
    "alone": {
        "copy_down": {
            "before": 0.5,
            "after": 0.52,
            "gain": 0.02,
            "interval": [0.01, 0.03],
            "p": 0.0004,
            "mosaics": 40,
            "tiles": 50,
            "kept": True,
            "reason": None,
        },
        "copy_up": {
            "before": 0.5,
            "after": 0.501,
            "gain": 0.001,
            "interval": [0, 0.002],
            "p": None,
            "mosaics": 3,
            "tiles": 3,
            "kept": False,
            "reason": "too little evidence",
        },
    },
    "together": None,
}
#: As versions up to 40f033d wrote it.
OLD = {
    "rules": "evidence",
    "kept": ["empty_below_closed"],
    "repeats": 10,
    "hidden_share": 0.25,
    "hidden_tiles_per_repeat": 146,
    "alone": {
        "copy_up": {"before": 0.623, "after": 0.624, "gain": 0.0003, "spread": 0.0004, "kept": False},
        "empty_below_closed": {"before": 0.623, "after": 0.633, "gain": 0.0103, "spread": 0.0058, "kept": True},
    },
    "together": {"before": 0.623, "after": 0.633, "gain": 0.0103, "spread": 0.0058},
}


def test_a_rule_is_shown_with_what_was_measured() -> None:
    assert in_words("copy_down", TODAY) == ("+0.0200 (+0.0100 … +0.0300)", "< 0.001", "50 in 40", "yes", "–")
    assert in_words("copy_up", TODAY) == ("+0.0010 (+0.0000 … +0.0020)", "–", "3 in 3", "too little evidence", "–")
    assert in_words("fill_holes", {"alone": {}, "kept": ["fill_holes"]}) == ("not tried", "–", "–", "yes", "–")
    tested = TODAY | {"test": {"before": 0.5, "after": 0.52}, "test_of_each": {"copy_down": 0.52, "fill_holes": 0.49}}
    assert in_words("copy_down", tested).test == "+0.0200" and in_words("fill_holes", tested).test == "-0.0100"


def test_a_run_of_an_older_version_is_shown_with_its_spread() -> None:
    assert in_words("copy_up", OLD) == ("+0.0003 ± 0.0004", "–", "–", "no", "–")
    assert in_words("empty_below_closed", OLD) == ("+0.0103 ± 0.0058", "–", "–", "yes", "–")
    assert gain_text(OLD["together"]) == "+0.0103 ± 0.0058"
    assert "146 labels" in method_text(OLD) and "10 times" in method_text(OLD)
    stream = io.StringIO()
    scores = {"folds": {}, "oof": 0.5, "oof_tiles": 1, "trivial": {"all_empty": 0.3, "best_constant": 0.1}}
    Terminal(Console(file=stream, width=160)).scores(scores | {"rules": OLD})
    (row,) = [line for line in stream.getvalue().splitlines() if "empty_below_closed" in line]
    assert "+0.0103 ± 0.0058" in row and "yes" in row


def test_how_rules_were_chosen_is_said() -> None:
    assert "836 labels in 301 mosaics" in method_text(TODAY)
    assert "set in the experiment" in method_text({"rules": "argus", "alone": {}})
    assert "no evidence" in method_text({"rules": "evidence", "alone": {}})


def test_the_line_at_the_end_counts_reasons() -> None:
    stream = io.StringIO()
    shown = Terminal(Console(file=stream, width=160))
    shown.rules(TODAY, Path("post"))
    shown.rules(OLD, Path("post"))
    assert stream.getvalue().splitlines() == [
        "mosaic rules kept: copy_down of 2 tried on hidden labels (1 too little evidence); pictures and changes: post",
        "mosaic rules kept: empty_below_closed of 2 tried on hidden labels (1 no); pictures and changes: post",
    ]


def test_thresholds_are_told_with_what_speaks_for_them() -> None:
    final, words = ARGUS.replace(mask_threshold=0.35), "mask threshold 0.5, salt threshold 0.5"

    def text(clusters: int, low: float) -> str:
        gain = Difference(90, clusters, 0.5, 0.512, low, 0.02, 30, 40, 20)
        chosen = Thresholds(given=ARGUS, final=ARGUS, folds={}, gain=gain)
        return thresholds_text(chosen.model_copy(update={"final": final if chosen.adopted else ARGUS}))

    scores = "0.5000 before, 0.5120 with each fold's thresholds chosen on the others: +0.0120, 95 % interval"
    assert text(40, 0.004) == (
        f"thresholds chosen: mask threshold 0.35, salt threshold 0.5 instead of {words}; out of fold {scores} "
        "+0.0040 to +0.0200 (40 groups of neighbours)"
    )
    assert text(40, -0.004).startswith(
        f"thresholds stay as given ({words}), no gain was shown; out of fold {scores} -0.004"
    )
    assert text(9, 0.004).startswith(
        f"thresholds stay as given ({words}), 10 groups of neighbours are needed; out of fold"
    )
    alone = thresholds_text(Thresholds(given=ARGUS, final=ARGUS, folds={}, gain=None))
    assert alone == f"thresholds stay as given ({words}): choosing them needs the predictions of two folds"
