"""The models of a finished run on another survey: tiles that came later, or from elsewhere."""

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

    The results are ``masks.zip``, ``submission.csv`` and ``summary.json``, of all tiles, with a score where some are
    labelled that the run was not trained on (by their ids). No mosaics are made and no rule is applied: rules earn
    their place in a run of their own.

    Args:
        trained: the run; it is only read.
        to: where the results go; what an interrupted call left there is used.
        skip_bad: leave damaged tiles out instead of refusing the survey.
        own_range: measure the range of amplitudes in this survey instead of taking the run's.
        probabilities: also write what stands behind the masks (``outputs``).

    Returns:
        The content of ``summary.json``.

    Raises:
        RunError: the run was trained on these very tiles; or these are of another size, type or range of amplitudes; or
            another process writes there, or a run or other results lie there.
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
        terminal.say(f"{summary['known']:,} labelled tiles have ids that the run was trained on: not scored")
    if "score" in summary:
        terminal.say(
            f"score on the {summary['scored']:,} labelled ones: {summary['score']:.4f} "
            f"(all empty {summary['all_empty']:.4f})"
        )
    return summary


def prepare_for(
    trained: TrainedRun, data: Path, terminal: Terminal, *, skip_bad: bool = False, own_range: bool = False
) -> PreparedSurvey:
    """A survey's tiles, padded, that a run's models can judge; arguments and errors are those of ``apply``."""
    _ = trained.decision  # what it lacks is said before any work
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
    """What came out of (N, S, S) bool masks."""
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
