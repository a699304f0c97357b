"""The parts of a report, in order.

Numbers are computed from a run's stored predictions with the code that scored it; nothing is chosen here.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from salt_ray.config import RuleName
from salt_ray.metric import salt_share, trivial_scores
from salt_ray.postprocessing.rules import RULES
from salt_ray.record import RunRecord
from salt_ray.report import charts, findings, gallery, inventory, provenance
from salt_ray.report.finished import FinishedRun, load_columns
from salt_ray.report.judged import MASK_THRESHOLDS, SALT_THRESHOLDS
from salt_ray.report.trials import clock
from salt_ray.report.verdicts import SCORE_TITLES, gain_text, in_words, method_text, thresholds_text
from salt_ray.storage import load_fields, readable
from salt_ray.training.hardware import trained_on
from salt_ray.training.models import fold_models, trained_stages
from salt_ray.training.times import training_seconds

#: Template data of a part, or the reason why it is missing.
Part = dict[str, Any] | str

GROUP_ROWS = 12  # in tables of mosaics and sections
DUPLICATE_ROWS, REMARKS = 10, 20  # shown; the rest are counted
HISTORY = {"loss": float, "validation_loss": float, "score": float, "lr": float}
RULE_TEXTS: Mapping[RuleName, str] = {
    "fill_holes": "fills holes in predicted masks",
    "join_labels": "connects the salt of two labelled tiles in a column through the tiles between them",
    "copy_down": "copies a labelled vertical mask down its column, to the next label",
    "copy_up": "copies it up to where the salt ends",
    "join_predictions": "connects predicted tiles in a column in the same way",
    "fill_corners": "fills a corner that salt of two neighbours touches",
    "empty_below_closed": "removes predictions below a label whose lower edge is all salt",
}


def answer(finished: FinishedRun) -> Part:
    """The run's score compared with trivial predictions, and its caveats."""
    scores, judged, prepared = finished.scores, finished.judged, finished.prepared
    corrected = finished.experiment.postprocessing.rules != "none"
    known = "test" if "test" in scores else "oof"  # the tiles with trivial scores in scores.json
    columns = []
    for name in (name for name in SCORE_TITLES if name in scores):
        if name == known:
            trivial = scores["trivial"]
        else:
            truth = judged.truth if name == "oof" else prepared.survey.masks[np.flatnonzero(prepared.held_out)]
            trivial = trivial_scores(judged.truth, truth)
        # Out-of-fold tiles carry labels, which the rules do not change.
        before = scores["rules"][name]["before"] if corrected and name != "oof" else None
        column = {"name": SCORE_TITLES[name], "tiles": scores[f"{name}_tiles"], "score": scores[name], "before": before}
        columns.append(column | trivial)
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
        "margin": findings.SIGMAS_95 * findings.standard_error(judged.scores, judged.neighbours),
        "gain": float(gains.mean()),
        "gain_margin": findings.SIGMAS_95 * findings.standard_error(gains, judged.neighbours),
        "seeds": _over_seeds(finished),
        "caveats": _caveats(finished),
    }


def _over_seeds(finished: FinishedRun) -> dict[str, Any] | None:
    """The out-of-fold score over seeds of this run; None if there is only one seed."""
    path = finished.run.path.parent / "seeds.json"
    if not finished.run.path.name.startswith("seed-") or not path.exists():
        return None
    found = load_fields(path, path, "scores")
    with readable(path, path):
        spread = found["scores"]["oof"]
        each, mean, sd = [float(value) for value in spread["each"]], float(spread["mean"]), float(spread["sd"])
    # If a seed was run again since, the file is outdated.
    return {"count": len(each), "mean": mean, "sd": sd} if finished.scores["oof"] in each else None


def _caveats(finished: FinishedRun) -> list[str]:
    """What makes scores too high, as far as it can be told from the run."""
    lines = [
        "Each fold's model is the checkpoint that scored best on its own validation tiles. Out-of-fold and per-fold "
        "scores are therefore slightly too high."
    ]
    if finished.mosaics is not None:
        for training, table in finished.tables.items():
            divided, several = findings.divided_mosaics(finished.mosaics, table)
            if divided:
                lines.append(
                    f"Training {training} divides {divided:,} of {several:,} mosaics between folds: models were "
                    "validated on neighbours of their training tiles. Folds of kind mosaic avoid that."
                )
    if finished.scores["rules"].get("alone"):
        lines.append(
            "Scores used to choose the mosaic rules are slightly too high; hold-out and test truth are not affected."
        )
    if "holdout" not in finished.scores and "test" not in finished.scores:
        lines.append("Without a hold-out or a known test truth, no score here is free of these effects.")
    return lines


def learning(finished: FinishedRun) -> Part:
    """The learning curves of every training."""
    trainings = []
    for training in finished.experiment.trainings:
        histories = {
            (f"fold {fold}", stage.name): finished.run.stage(training.name, fold, stage.name) / "history.csv"
            for its, fold in finished.folds
            if its is training
            for stage in training.stages
        }
        stages = {key: load_columns(path, HISTORY) for key, path in histories.items()}
        table = pd.concat(stages, names=["fold", "stage"]).reset_index(["fold", "stage"])
        table["epoch"] = table.groupby("fold").cumcount() + 1
        trainings.append({"name": training.name, "charts": charts.learning_curves(training.name, table)})
    return {
        "trainings": trainings,
        "validation": finished.validation.text,
        "prediction": finished.decision.text,
        "same": finished.validation == finished.decision,
    }


def where(finished: FinishedRun) -> Part:
    """The score by content, depth, fold, section and mosaic of a tile."""
    judged, survey = finished.judged, finished.prepared.survey
    coverage, depth = findings.by_coverage(judged), findings.by_depth(judged, survey.depths)
    part: dict[str, Any] = {
        "outcomes": findings.by_outcome(judged),
        "coverage": coverage,
        "coverage_chart": charts.group_bars(
            "coverage", "Score by share of salt", coverage, judged.score,
            "Thin slivers are hard: a few pixels decide whether a threshold is passed.",
        ),
        "folds": _fold_rows(finished),
        "depth": "The survey has no depths for its tiles.",
        "sections": "The survey's tiles are not in section folders.",
        "mosaics": "The run assembled no mosaics.",
    }  # fmt: skip
    if depth:
        caption = "Parts with equal numbers of tiles. A trend means that shallow and deep tiles differ in difficulty."
        chart = charts.group_bars("depth", "Score by depth", depth, judged.score, caption)
        part["depth"] = {"rows": depth, "chart": chart}
    if survey.sections is not None:
        part["sections"] = _losing_most(findings.by_section(judged, survey.sections))
    if finished.mosaics is not None:
        part["mosaics"] = "No labelled tile is in a mosaic."
        each, sides = findings.by_mosaic(judged, survey.ids, finished.mosaics)
        if each:
            part["mosaics"] = {"sides": sides, "chart": charts.mosaic_dots(each, judged.score)} | _losing_most(each)
    return part


def _losing_most(groups: Sequence[findings.Group]) -> dict[str, Any]:
    return {"all": len(groups), "rows": sorted(groups, key=lambda group: -group.lost)[:GROUP_ROWS]}


def _fold_rows(finished: FinishedRun) -> list[dict[str, Any]]:
    rows = []
    masks = finished.prepared.survey.masks
    ids = finished.prepared.survey.ids[: len(masks)]
    for training, fold in finished.folds:
        _, own = finished.tables[training.name].split(fold, ids)
        name = finished.fold_name(training.name, fold)
        stages = trained_stages(finished.run, training, fold)
        (model,) = fold_models(finished.run, training, fold, finished.experiment.prediction.models)
        seconds = training_seconds(stages)
        rows.append(
            {
                "name": name,
                "tiles": len(own),
                "score": finished.scores["folds"][name],
                "empty": float((salt_share(masks[np.sort(own)]) == 0).mean()),
                "epochs": " + ".join(str(stage.marker["epochs"]) for stage in stages),
                "best": f"{model.stage}, {model.when}",
                "time": None if seconds is None else clock(seconds),
            }
        )
    return rows


def trust(finished: FinishedRun) -> Part:
    """Calibration, and whether the models know when they are wrong."""
    found = findings.calibration(finished.judged)
    return {
        "found": found,
        "charts": charts.reliability(found) if found else [],
        "doubt": findings.by_doubt(finished.judged),
    }


def thresholds(finished: FinishedRun) -> Part:
    """The score over both thresholds, and how they were chosen, if they were."""
    judged, decision = finished.judged, finished.decision
    curves = (
        ("mask threshold", MASK_THRESHOLDS, judged.mask_curve, decision.mask_threshold),
        ("salt threshold", SALT_THRESHOLDS, judged.salt_curve, decision.salt_threshold),
    )
    return {
        "charts": [charts.threshold_curve(*curve, judged.score) for curve in curves],
        "chosen": finished.thresholds,
        "text": thresholds_text(finished.thresholds) if finished.thresholds else None,
    }


def tiles(finished: FinishedRun) -> Part:
    """Pictures of tiles."""
    judged, seed = finished.judged, finished.experiment.seed
    coin = "Probabilities closest to 0.5."
    sample = f"Typical tiles: a random sample with the experiment's seed {seed}."
    groups = (
        ("The worst", gallery.worst(judged), "Lowest score first; ties by number of wrong pixels."),
        ("The most uncertain", gallery.most_uncertain(judged), coin),
        ("Random sample", gallery.random_sample(judged, seed), sample),
    )
    return {
        "groups": [
            {"title": title, "note": note, "cards": [gallery.tile_card(finished, place) for place in places.tolist()]}
            for title, places, note in groups
        ]
    }


def rules(finished: FinishedRun) -> Part:
    """The changes made by post-processing, and the evidence for its rules."""
    if finished.experiment.postprocessing.rules == "none":
        return "Masks are not post-processed: postprocessing.rules is none."
    if finished.mosaics is None or not finished.mosaics.count:
        return "No tile has a neighbour, so there are no mosaics to correct."
    evidence = finished.scores["rules"]
    folder = finished.run.postprocessing
    changes = load_columns(folder / "changes.csv", {"id": str, "rule": str, "added": int, "removed": int})
    sums = {"tiles": ("id", "nunique"), "added": ("added", "sum"), "removed": ("removed", "sum")}
    changed = changes.groupby("rule").agg(**sums).reindex(list(RULES), fill_value=0)
    rows = [
        {"name": name, "text": RULE_TEXTS[name], "hidden": in_words(name, evidence)} | counts
        for name, counts in changed.to_dict("index").items()
    ]
    marker = load_fields(folder / "done.json", folder, "failed")
    return {
        "evidence": evidence,
        "method": method_text(evidence),
        "together": gain_text(evidence["together"]) if evidence["together"] else None,
        "rows": rows,
        "cards": [gallery.mosaic_card(finished, number) for number in gallery.changed_mosaics(finished)],
        "count": finished.mosaics.count,
        "changed": len(finished.corrections.tiles),
        "failed": len(marker["failed"]),
    }


def search(finished: FinishedRun) -> Part:
    """The results of a search in the same run directory."""
    if not (finished.run.study / "study.db").exists():
        return "There is no search in this run directory (see launch.py tune)."
    from salt_ray.report.figures import draw_study
    from salt_ray.report.study import compared_settings
    from salt_ray.tuning.results import summarize
    from salt_ray.tuning.study import load_study

    study = load_study(finished.run)
    summary = summarize(study)
    pictures = [
        {"source": gallery.data_url(picture, "png"), "alt": _study_alt(name, summary), "caption": STUDY_CAPTIONS[name]}
        for name, picture in draw_study(study).items()
    ]
    return {"summary": summary, "rows": compared_settings(study, summary), "pictures": pictures}


STUDY_CAPTIONS = {
    "history": "All trials in order, and the best so far; a flat line means that the search has converged.",
    "importances": "How much each parameter contributes to being among the best.",
    "slices": "Scores by value, one panel per parameter.",
    "curves": "Learning curves of trials, and where pruning stopped them.",
}


def _study_alt(name: str, summary: Any) -> str:
    if name == "importances":
        shares = ", ".join(f"{parameter} {share:.0%}" for parameter, share in summary.importances.items())
        return f"Bars of the parameters' importances: {shares}."
    what = {"history": "Values of the trials", "slices": "Values over each parameter", "curves": "Scores over epochs"}
    best = f"; the best is trial {summary.best.number} with {summary.best.value:.4f}" if summary.best else ""
    states = ", ".join(f"{count} {state}" for state, count in summary.counts.items() if count)
    return f"{what[name]} ({states}){best}."


def data(finished: FinishedRun) -> Part:
    """Unusual features of the survey."""
    survey = finished.prepared.survey
    same = inventory.duplicates(survey, finished.tables)
    depths = survey.depths[np.isfinite(survey.depths)]
    return {
        "counts": inventory.counts(survey, finished.prepared.held_out),
        "tile_px": survey.tile_px,
        "depths": (float(depths.min()), float(depths.max())) if len(depths) else None,
        "same": same,
        "groups": same.groups[:DUPLICATE_ROWS],
        "remarks": survey.remarks[:REMARKS],
        "more_remarks": max(0, len(survey.remarks) - REMARKS),
        "key": survey.key,
    }


def origin(finished: FinishedRun) -> Part:
    """What is needed to reproduce the run."""
    return {
        "chosen": RunRecord.load(finished.run.record).folds or (),
        "skip_bad": any(line.startswith("left out: ") for line in finished.prepared.survey.remarks),
        "json": json.dumps(finished.experiment.model_dump(mode="json"), indent=2),
        "versions": provenance.versions(),
        "commit": provenance.commit(finished.project),
        "machine": provenance.machine(),
        "trained_on": _trained_on(finished),
    }


def _trained_on(finished: FinishedRun) -> dict[str, list[str]]:
    """Folds by the devices that trained them; empty for old runs, which did not record them."""
    folds: dict[str, list[str]] = {}
    for training, fold in finished.folds:
        names = trained_on(finished.run.fold(training.name, fold))
        if names:
            folds.setdefault(", then ".join(names), []).append(finished.fold_name(training.name, fold))
    return folds
