"""Applies the models of a finished run to another survey."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from salt_ray.artifacts import RunDirectory
from salt_ray.errors import RunError
from salt_ray.inference.ensemble import ModelPrediction
from salt_ray.inference.scores import survey_masks
from salt_ray.metric import score, trivial_scores
from salt_ray.pipeline.engine import Engine, Predicting
from salt_ray.pipeline.outputs import write_behind_masks
from salt_ray.pipeline.prediction import PredictionTask, predict_missing
from salt_ray.pipeline.trained import TrainedRun
from salt_ray.report.terminal import Terminal
from salt_ray.storage import write_atomically
from salt_ray.survey.meaning import Meaning
from salt_ray.survey.prepared import PreparedSurvey, prepare_survey
from salt_ray.survey.submission import write_masks, write_submission
from salt_ray.survey.tiles import Survey, load_survey


def apply(
    trained: TrainedRun,
    data: Path,
    to: RunDirectory,
    engine: Engine,
    terminal: Terminal,
    *,
    skip_bad: bool = False,
    own_range: bool = False,
    probabilities: bool = False,
) -> dict[str, Any]:
    """Predict a survey that a run's models have not seen, average, decide and write.

    The results are ``masks.zip``, ``submission.csv`` and ``summary.json``, for all tiles, with a score if some labelled
    tiles were not used in training (judged by their ids). Mosaics are not assembled and rules not applied, as these
    have to be chosen per survey.

    Args:
        trained: the run, which is not modified.
        to: the output directory; an interrupted call is resumed.
        skip_bad: skip damaged tiles instead of rejecting the survey.
        own_range: use this survey's own range of amplitudes instead of the run's.
        probabilities: also write probabilities (``outputs``).

    Returns:
        The content of ``summary.json``.

    Raises:
        RunError: the run was trained on these tiles; they differ in size, type or range of amplitudes; or ``to`` is in
            use or contains a run or other results.
        SurveyError: the survey cannot be used.
    """
    prepared = prepare_for(trained, data, terminal, skip_bad=skip_bad, own_range=own_range)
    survey, frame = prepared.survey, prepared.frame
    if to.experiment.exists():
        raise RunError(f"{to.path} contains a run that would be overwritten: use another --to")
    flip, tiles = trained.experiment.prediction.flip, np.flatnonzero(~survey.constant)
    tasks = [
        PredictionTask.of(model, folder, tiles, flip, to, {"survey": survey.key})
        for model, folder in zip(trained.models, trained.folders, strict=True)
    ]
    with to.lock("--to"):
        work = Predicting(trained.experiment, frame, np.asarray(prepared.images), (trained.directory, to))
        missing = [task for task in tasks if task.folder.done is None]
        predict_missing(missing, work, engine, terminal)
        models = [ModelPrediction.load(task.folder.path, frame.tile_px) for task in tasks]
        everything = np.arange(len(survey.ids))
        masks = survey_masks(prepared, models, everything, trained.decision)
        write_submission(to.submission, survey.ids, masks, survey.ids)
        write_masks(to.masks, survey.ids, masks)
        if probabilities:
            write_behind_masks(to, prepared, models, everything)
        summary = _summary(trained, survey, masks)
        write_atomically(to.path / "summary.json", json.dumps(summary, indent=1))
    terminal.say(f"{summary['tiles']:,} tiles, {summary['with_salt']:,} with salt: {to.masks}, {to.submission}")
    if summary["known"]:
        terminal.say(f"{summary['known']:,} labelled tiles are not scored: the run was trained on tiles with these ids")
    if "score" in summary:
        terminal.say(
            f"score on {summary['scored']:,} labelled tiles: {summary['score']:.4f} "
            f"(all empty {summary['all_empty']:.4f})"
        )
    return summary


def prepare_for(
    trained: TrainedRun, data: Path, terminal: Terminal, *, skip_bad: bool = False, own_range: bool = False
) -> PreparedSurvey:
    """Load and pad a survey for a run's models; arguments and errors as in ``apply``."""
    _ = trained.decision  # raise before any work if thresholds are missing
    for line in trained.remarks:
        terminal.say(line)
    meaning = Meaning.of(trained.experiment, None if own_range else trained.record.amplitudes)
    survey = load_survey(data, meaning, skip_bad=skip_bad, report=terminal.say)
    if any(folder.inputs["survey"] == survey.key for folder in trained.folders):
        path = trained.directory.path
        raise RunError(f"{path} was trained on the tiles in {data}: use predict and submit for those")
    for line in trained.record.check_applies(survey, str(data), own_range=own_range):
        terminal.say(line)
    prepared = prepare_survey(survey, trained.experiment.replace(holdout=None), terminal.say)
    terminal.account(prepared, for_training=False)
    terminal.survey(data, prepared)
    return prepared


def _summary(trained: TrainedRun, survey: Survey, masks: np.ndarray) -> dict[str, Any]:
    """Summary of masks, bool (N, S, S)."""
    labelled = survey.labelled
    known = np.isin(survey.ids[:labelled], trained.trained_ids)
    truth, own = np.asarray(survey.masks)[~known], masks[:labelled][~known]
    summary = {
        "run": str(trained.directory.path),
        "survey": survey.key,
        "models": len(trained.models),
        "prediction": trained.experiment.prediction.model_dump(mode="json")
        | trained.decision.model_dump(mode="json", include={"mask_threshold", "salt_threshold"}),
        "full_tiles": trained.decision.full_tiles,
        "tiles": len(masks),
        "with_salt": int(masks.any(axis=(1, 2)).sum()),
        "labelled": labelled,
        "known": int(known.sum()),
    }
    if len(truth):
        scores = {"score": score(truth, own), "all_empty": trivial_scores(truth, truth)["all_empty"]}
        summary |= {"scored": len(truth)} | scores
    return summary
