"""The parts of a report after its answer, in their order.

Numbers come from a run's stored predictions through the classes that scored it; nothing is chosen here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from salt_ray.config import RuleName
from salt_ray.postprocessing.rules import RULES
from salt_ray.report import charts, findings, gallery, inventory, provenance
from salt_ray.report.finished import FinishedRun, load_columns
from salt_ray.report.judged import MASK_THRESHOLDS, SALT_THRESHOLDS
from salt_ray.report.part import Absent, Part
from salt_ray.report.trials import clock, short
from salt_ray.report.verdicts import gain_text, in_words, method_text
from salt_ray.storage import load_fields
from salt_ray.training.hardware import trained_on
from salt_ray.training.models import fold_models, trained_stages
from salt_ray.training.times import training_seconds

MOSAIC_ROWS, SECTION_ROWS = 12, 12  # of the tables of mosaics and of sections
DUPLICATE_ROWS, REMARKS = 10, 20  # shown; the rest is counted
HISTORY = {"loss": float, "validation_loss": float, "score": float, "lr": float}
RULE_TEXTS: Mapping[RuleName, str] = {
    "fill_holes": "fills holes in predicted masks",
    "join_labels": "joins the salt of two labelled tiles of a column through the tiles between them",
    "copy_down": "copies a labelled vertical mask down its column, until another label",
    "copy_up": "copies it up to where the salt ends",
    "join_predictions": "joins predicted tiles of a column as it joins labels",
    "fill_corners": "fills a corner that salt of two neighbours reaches",
    "empty_below_closed": "empties predictions below a label whose lower edge is all salt",
}


def learning(finished: FinishedRun) -> Part:
    """The learning curves of every training."""
    trainings = []
    for training in finished.experiment.trainings:
        curves = [_curve(finished, training.name, fold) for fold in range(training.folds.count)]
        trainings.append({"name": training.name, "charts": charts.learning_curves(training.name, curves)})
    return {
        "trainings": trainings,
        "validation": finished.validation.text,
        "prediction": finished.decision.text,
        "same": finished.validation == finished.decision,
    }


def _curve(finished: FinishedRun, training: str, fold: int) -> charts.FoldCurve:
    tables, ends = [], []
    (stages,) = (one.stages for one in finished.experiment.trainings if one.name == training)
    for stage in stages:
        path = finished.run.stage(training, fold, stage.name) / "history.csv"
        tables.append(load_columns(path, HISTORY))
        ends.append((stage.name, sum(map(len, tables))))
    whole = pd.concat(tables)
    values = {name: whole[name].to_numpy() for name in HISTORY}
    return charts.FoldCurve(f"fold {fold}", values, ends)


def where(finished: FinishedRun) -> Part:
    """The score by what a tile holds, how deep it lies, which fold judges it, and where in a section it lies."""
    judged, survey = finished.judged, finished.prepared.survey
    overall = judged.score
    coverage, depth = findings.by_coverage(judged), findings.by_depth(judged, survey.depths)
    part: dict[str, Any] = {
        "outcomes": findings.by_outcome(judged),
        "coverage": coverage,
        "coverage_chart": charts.group_bars(
            "coverage", "Score by share of salt", coverage, overall,
            "Thin slivers are hard: a few pixels decide every threshold.",
        ),
        "folds": _fold_rows(finished),
        "depth": Absent("The survey has no depths for its tiles."),
        "sections": Absent("The survey's tiles lie in no folders of sections."),
        "mosaics": Absent("The run assembled no mosaics."),
    }  # fmt: skip
    if depth:
        caption = "Parts of equally many tiles. A slope would mean that shallow and deep sections differ in difficulty."
        part["depth"] = {"rows": depth, "chart": charts.group_bars("depth", "Score by depth", depth, overall, caption)}
    if survey.sections is not None:
        rows = findings.by_section(judged, survey.sections)
        worst = sorted(rows, key=lambda group: -group.lost)[:SECTION_ROWS]
        part["sections"] = {"rows": worst, "all": len(rows)}
    if finished.mosaics is not None:
        each, sides = findings.by_mosaic(judged, survey.ids, finished.mosaics)
        if each:
            rows = sorted(each, key=lambda group: -group.lost)[:MOSAIC_ROWS]
            part["mosaics"] = {
                "all": len(each),
                "rows": rows,
                "sides": sides,
                "chart": charts.mosaic_dots(each, overall),
            }
        else:
            part["mosaics"] = Absent("No labelled tile lies in a mosaic.")
    return part


def _fold_rows(finished: FinishedRun) -> list[dict[str, Any]]:
    rows = []
    masks = finished.prepared.survey.masks
    ids = finished.prepared.survey.ids[: len(masks)]
    for training in finished.experiment.trainings:
        for fold in range(training.folds.count):
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
                    "empty": float((~masks[np.sort(own)].any(axis=(1, 2))).mean()),
                    "epochs": " + ".join(str(stage.marker["epochs"]) for stage in stages),
                    "best": f"{model.stage}, epoch {model.marker['best_epoch']}",
                    "time": None if seconds is None else clock(seconds),
                }
            )
    return rows


def trust(finished: FinishedRun) -> Part:
    """Calibration, and whether the models know when they are wrong."""
    found = findings.calibration(finished.judged)
    return {"found": found, "charts": charts.reliability(found), "doubt": findings.by_doubt(finished.judged)}


def thresholds(finished: FinishedRun) -> Part:
    """The score over both thresholds."""
    judged, decision = finished.judged, finished.decision
    return {
        "charts": [
            charts.threshold_curve(
                "mask-threshold", "mask threshold", MASK_THRESHOLDS, judged.mask_curve, decision.mask_threshold,
                judged.score,
            ),
            charts.threshold_curve(
                "salt-threshold", "salt threshold", SALT_THRESHOLDS, judged.salt_curve, decision.salt_threshold,
                judged.score,
            ),
        ]
    }  # fmt: skip


def tiles(finished: FinishedRun) -> Part:
    """Pictures of tiles."""
    judged, prepared = finished.judged, finished.prepared
    seed = finished.experiment.seed
    groups = {
        "The worst": (gallery.worst(judged), "Lowest score first, of equals those with most wrong pixels."),
        "The most uncertain": (
            gallery.most_uncertain(judged),
            "Where the models' probabilities are nearest to a coin.",
        ),
        "Drawn by lot": (
            gallery.drawn_by_lot(judged, seed),
            f"What an ordinary tile looks like; drawn with the experiment's seed, {seed}.",
        ),
    }
    ids = prepared.survey.ids[judged.tiles]
    return {
        "groups": [
            {
                "title": title,
                "note": note,
                "cards": [
                    gallery.tile_card(judged, place, prepared, finished.fold_of[str(ids[place])])
                    for place in places.tolist()
                ],
            }
            for title, (places, note) in groups.items()
        ]
    }


def rules(finished: FinishedRun) -> Part:
    """What post-processing changed, and on what evidence."""
    if finished.experiment.postprocessing.rules == "none":
        return Absent("Masks stay as predicted: postprocessing.rules is none.")
    if finished.mosaics is None or not finished.mosaics.count:
        return Absent("No tile found a neighbour: there is no mosaic to correct.")
    evidence = finished.scores["rules"]
    folder = finished.run.postprocessing
    changes = load_columns(folder / "changes.csv", {"id": str, "rule": str, "added": int, "removed": int})
    before = evidence.get("test", {}).get("before")
    each = evidence.get("test_of_each", {})
    rows = []
    for name in RULES:
        changed = changes[changes["rule"] == name]
        rows.append(
            {
                "name": name,
                "text": RULE_TEXTS[name],
                "kept": name in evidence["kept"],
                "hidden": in_words(name, evidence),
                "test": each[name] - before if name in each else None,
                "tiles": changed["id"].nunique(),
                "added": int(changed["added"].sum()),
                "removed": int(changed["removed"].sum()),
            }
        )
    marker = load_fields(folder / "done.json", folder, "failed")
    models, decision = list(finished.models.values()), finished.decision
    survey_ids = finished.prepared.survey.ids
    cards = [
        gallery.mosaic_card(number, finished.mosaics, finished.prepared, models, decision, finished.corrections)
        for number in gallery.changed_mosaics(finished.mosaics, finished.corrections, survey_ids)
    ]
    return {
        "evidence": evidence,
        "method": method_text(evidence),
        "together": gain_text(evidence["together"]) if evidence["together"] else None,
        "rows": rows,
        "cards": cards,
        "count": finished.mosaics.count,
        "changed": len(finished.corrections.tiles),
        "failed": len(marker["failed"]),
    }


def search(finished: FinishedRun) -> Part:
    """What a search in the same run directory found."""
    if not (finished.run.study / "study.db").exists():
        return Absent("No search lies in this run directory (launch.py tune makes one).")
    from salt_ray.report.figures import draw_study
    from salt_ray.tuning.results import summarize
    from salt_ray.tuning.space import BASELINE
    from salt_ray.tuning.study import load_study

    study = load_study(finished.run)
    summary = summarize(study)
    drawn = {name: gallery.data_url(picture, "png") for name, picture in draw_study(study).items()}
    own = study.get_trials(deepcopy=False)[BASELINE].params
    rows = [
        {
            "name": name,
            "own": short(value),
            "best": short(summary.best.params[name]) if summary.best else "",
            "share": summary.importances.get(name),
        }
        for name, value in own.items()
    ]
    pictures = [
        {"source": drawn[name], "alt": _study_alt(name, summary), "caption": caption}
        for name, caption in STUDY_CAPTIONS.items()
        if name in drawn
    ]
    return {"summary": summary, "rows": rows, "pictures": pictures}


STUDY_CAPTIONS = {
    "history": "Every trial in its order, and the best so far: a line that no longer rises has found what it could.",
    "importances": "How much each parameter has to do with being among the best.",
    "slices": "Where the good values lie, one panel a parameter.",
    "curves": "How trials learned, and where pruning ended them.",
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
    """What is odd in the survey."""
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
    """What it takes to make the run again."""
    return {
        "skip_bad": any(line.startswith("left out: ") for line in finished.prepared.survey.remarks),
        "json": json.dumps(finished.experiment.model_dump(mode="json"), indent=2),
        "versions": provenance.versions(),
        "commit": provenance.commit(finished.project),
        "machine": provenance.machine(),
        "trained_on": _trained_on(finished),
    }


def _trained_on(finished: FinishedRun) -> dict[str, list[str]]:
    """Folds by the devices that trained them; those of old runs, which kept none, are left out."""
    folds: dict[str, list[str]] = {}
    for training in finished.experiment.trainings:
        for fold in range(training.folds.count):
            names = trained_on(finished.run.fold(training.name, fold))
            if names:
                folds.setdefault(", then ".join(names), []).append(finished.fold_name(training.name, fold))
    return folds
