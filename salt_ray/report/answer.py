"""The first part of a report: how good the run is, beside the answers that look at no image, and what flatters it."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np

from salt_ray.metric import trivial_scores
from salt_ray.report import findings
from salt_ray.report.finished import FinishedRun
from salt_ray.report.part import Part
from salt_ray.storage import load_fields, readable


def answer(finished: FinishedRun) -> Part:
    """How good the run is, beside the answers that look at no image."""
    scores, judged = finished.scores, finished.judged
    survey = finished.prepared.survey
    columns = [{"name": "out of fold", "tiles": scores["oof_tiles"], "score": scores["oof"]}]
    # Where a test truth is known, scores.json has the trivial answers on it, else on the out-of-fold tiles.
    known = scores["trivial"]
    columns[0] |= known if "test" not in scores else trivial_scores(judged.truth, judged.truth)
    if "holdout" in scores:
        held_out = np.asarray(survey.masks[np.flatnonzero(finished.prepared.held_out)])
        column = {"name": "hold-out", "tiles": scores["holdout_tiles"], "score": scores["holdout"]}
        columns.append(column | trivial_scores(judged.truth, held_out))
    if "test" in scores:
        columns.append({"name": "test truth", "tiles": scores["test_tiles"], "score": scores["test"]} | known)
    corrected = finished.experiment.postprocessing.rules != "none"
    for column in columns:  # out-of-fold tiles carry labels, which the rules do not change
        measured = {"hold-out": "holdout", "test truth": "test"}.get(column["name"])
        column["before"] = scores["rules"][measured]["before"] if corrected and measured else None
    folds = list(scores["folds"].values())
    gains = judged.scores - judged.empty_scores
    return {
        "columns": columns,
        "corrected": corrected and len(columns) > 1,
        "low": min(folds),
        "high": max(folds),
        "folds": len(folds),
        "mean": statistics.fmean(folds),
        "sd": statistics.stdev(folds) if len(folds) > 1 else None,
        "margin": findings.SIGMAS_95 * findings.standard_error(judged.scores),
        "gain": float(gains.mean()),
        "gain_margin": findings.SIGMAS_95 * findings.standard_error(gains),
        "seeds": _over_seeds(finished),
        "caveats": _caveats(finished),
    }


def _over_seeds(finished: FinishedRun) -> dict[str, Any] | None:
    """The out-of-fold score of the runs that differ from this one in their seed only; None where there are none."""
    path = finished.run.path.parent / "seeds.json"
    if not finished.run.path.name.startswith("seed-") or not path.exists():
        return None
    found = load_fields(path, path, "scores")
    with readable(path, path):
        spread = found["scores"]["oof"]
        each, mean, sd = [float(value) for value in spread["each"]], float(spread["mean"]), float(spread["sd"])
    # Where a seed was run anew since, the file is of other runs.
    return {"count": len(each), "mean": mean, "sd": sd} if finished.scores["oof"] in each else None


def _caveats(finished: FinishedRun) -> list[str]:
    """What flatters the figures, as far as the run itself tells."""
    lines = [
        "Each fold's model is the checkpoint that scored best on the tiles it is judged by here: out of fold and per "
        "fold the figures are a little too high."
    ]
    if finished.mosaics is not None:
        for training, table in finished.tables.items():
            divided, several = findings.divided_mosaics(finished.mosaics, table)
            if divided:
                lines.append(
                    f"Training {training} divides {divided:,} of {several:,} mosaics between folds: a model was "
                    "trained on neighbours of tiles that judge it. Folds of kind mosaic avoid that."
                )
    if finished.scores["rules"].get("alone"):
        lines.append("The figures that chose the mosaic rules flatter them: hold-out and test truth do not.")
    if "holdout" not in finished.scores and "test" not in finished.scores:
        lines.append("There is neither a hold-out nor a known test truth: nothing here is free of these effects.")
    return lines
