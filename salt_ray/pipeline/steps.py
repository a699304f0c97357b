"""The steps from tiles to a report, in order; each skips finished work and resumes unfinished work.

Steps with much to compute take an ``Engine``; the others run in this process.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from salt_ray import __version__
from salt_ray.errors import TrainingFailed
from salt_ray.inference.ensemble import ModelPrediction
from salt_ray.inference.scores import named_scores, read_test_truth, run_scores, survey_masks
from salt_ray.inference.stored import StoredPrediction, StoredRecords
from salt_ray.metric import has_label
from salt_ray.metric import score as mean_score
from salt_ray.pipeline.engine import Engine
from salt_ray.pipeline.outputs import write_behind_masks
from salt_ray.pipeline.postprocessing import Postprocessing, PostprocessingFailed
from salt_ray.pipeline.prediction import predict_missing, say_outdated
from salt_ray.pipeline.run import Run
from salt_ray.postprocessing.corrections import correct_with_each
from salt_ray.postprocessing.predicted import MosaicTiles, PredictedMosaic
from salt_ray.record import RunRecord, is_older
from salt_ray.report.finished import FinishedRun, check_finished, load_scores
from salt_ray.report.plan import Plan
from salt_ray.storage import StoragePath, load_fields, remove_tree, write_atomically
from salt_ray.survey.meaning import Meaning
from salt_ray.survey.submission import write_masks, write_submission
from salt_ray.training.models import other_predictions
from salt_ray.training.progress import Progress, StepProgress
from salt_ray.training.speed import own_speed, remember_speed, remembered_speed
from salt_ray.training.task import FoldTask

PROJECT = Path(__file__).parents[2]  # the checkout, whose commit is shown in reports


def pipeline(run: Run, engine: Engine, folds: Collection[int] | None = None) -> dict[str, Any]:
    """Run all steps and return the scores.

    Args:
        folds: as in ``train``.

    Raises:
        SaltRayError: as in the steps.
    """
    prepare(run)
    train(run, engine, folds)
    _predict_and_postprocess(run, engine)
    submit(run)
    scores = score(run)
    report(run)
    _check_postprocessing(run)
    return scores


def prepare(run: Run) -> None:
    """Check, cache and pad the tiles, and save the folds."""
    directory, experiment, terminal = run.directory, run.experiment, run.terminal
    for line in run.remarks:
        terminal.say(line)
    terminal.account(run.prepared)
    terminal.survey(run.data, run.prepared)
    terminal.full_tiles(run.full_tiles, run.prepared)
    if not directory.experiment.exists():  # check the network before the run begins, without downloading
        from salt_ray.model.network import try_network

        try_network(experiment.network, run.prepared.frame.crop_px, download=False)
    _check_same_settings(run)
    for training in experiment.trainings:
        name, division = training.name, training.folds.with_seed(experiment.seed)
        path = directory.folds(name) / "folds.csv"
        terminal.say(f"folds {name}: {division.text}, {len(run.tables[name].ids):,} tiles, {path}")
    version = None if is_older(directory) else __version__
    if directory.record.exists():  # the version that created the run, not the one that resumes it
        version = run.record.version
    masks = run.prepared.survey.masks
    ignored = None if experiment.labels.ignore is None else np.count_nonzero(masks < 0) / max(1, masks.size)
    record = RunRecord.of(run.prepared.survey, run.full_tiles, version, run.record.folds, ignored)
    if record != run.record:
        record.save(directory.record)
    write_atomically(directory.experiment, experiment.model_dump_json(indent=1))


def _check_same_settings(run: Run) -> None:
    """Check, before anything is written, that existing results come from the same settings.

    Raises:
        RunError: they do not.
    """
    for task in run.tasks:
        for stage in range(len(task.training.stages)):
            _ = task.stage_folder(run.directory, stage, run.prepared.survey.key).done
    if all(run.models(task) for task in run.chosen):
        _ = [prediction.folder.done for prediction in run.prediction_tasks]
        given = run.experiment.prediction.thresholds == "given"  # chosen thresholds may change without an error
        if given and run.has_rules and run.directory.postprocessing.exists():
            _ = run.postprocessing_folder.done
    if run.directory.study.exists():
        _ = run.study_folder.done


def assemble(run: Run) -> None:
    """Assemble mosaics and print a summary."""
    table, sizes = run.mosaics, np.bincount(run.mosaics.mosaics)
    if not run.directory.experiment.exists():
        write_atomically(run.directory.experiment, run.experiment.model_dump_json(indent=1))
    run.terminal.say(
        f"{len(table.ids):,} of {len(run.survey.ids):,} tiles are in {table.count:,} mosaics"
        + (f", the largest of {sizes.max()}" if len(sizes) else "")
        + f": {run.directory.mosaics / 'mosaics.csv'}"
    )


def train(run: Run, engine: Engine, folds: Collection[int] | None = None) -> None:
    """Train every unfinished fold.

    Args:
        folds: train only these folds of every training, in addition to those of earlier calls; None: all. Later steps
            use the same folds.

    Raises:
        RunError: there is no such fold.
        TrainingFailed: folds failed; raised after the others have finished.
    """
    run.choose(folds)
    wanted = [task for task in run.tasks if folds is None or task.fold in folds]
    unfinished = [task for task in wanted if not run.models(task)]
    if skipped := len(wanted) - len(unfinished):
        run.terminal.say(f"{skipped} of {len(wanted)} folds are already trained")
    stages = [(task.training.name, task.fold, [stage.name for stage in task.training.stages]) for task in wanted]
    run.tracking.stages(stages)
    if unfinished:
        try:
            _train(run, engine, unfinished)
        finally:
            run.tracking.stages(stages)
    for task in wanted if folds is not None else ():
        (model,) = run.models(task)
        run.terminal.say(f"{task.name}: {model.text}")
    if left := [task.name for task in run.chosen if not run.models(task)]:
        run.terminal.say(f"not trained yet, but needed for predictions: {', '.join(left)}")


def _train(run: Run, engine: Engine, unfinished: list[FoldTask]) -> None:
    from salt_ray.model.network import try_network

    # Report mistakes in it once here, not in every worker.
    try_network(run.experiment.network, run.prepared.frame.crop_px, download=True)
    speed = own_speed(run.directory, run.tasks) or remembered_speed(run.experiment)
    plan = Plan(unfinished, run.directory, engine.places(run.experiment), speed)
    for line in plan.lines():
        run.terminal.say(line)
    with run.terminal.folds([task.name for task in unfinished], plan) as report:
        tiles = run.prepared.training_tiles(run.experiment)

        def follow(progress: Progress | StepProgress) -> None:
            report(progress)
            if isinstance(progress, Progress):
                run.tracking.progress(progress)

        outcomes = engine.train(unfinished, tiles, run.directory, follow, run.terminal.say)
    remember_speed(run.directory, run.tasks)
    failed = [outcome for outcome in outcomes if outcome.marker is None]
    if failed:
        error = TrainingFailed("; ".join(outcome.failure for outcome in failed))
        for outcome in failed:
            if outcome.traceback:  # shown by --debug
                error.add_note(f"{outcome.task.name}: {outcome.traceback}")
        raise error


def predict(run: Run, engine: Engine, arrived: Callable[[np.ndarray], None] = lambda tiles: None) -> None:
    """Predict all unlabelled and held-out tiles and the fold's own with every fold's model. Then choose thresholds if
    the experiment asks for it.

    Args:
        arrived: called with positions of tiles that one model has predicted, now or earlier.
    """
    run.check_begun()
    if len(run.chosen) == 1:
        name = run.chosen[0].name
        run.terminal.say(f"only one fold, {name}: no ensemble and no evidence for mosaic rules, which need two")
    missing = []
    for task in run.prediction_tasks:
        if task.model.remark is not None:
            run.terminal.say(task.model.remark)
        if task.folder.done is None:
            missing.append(task)
        else:
            arrived(task.tiles)
    if done := len(run.prediction_tasks) - len(missing):
        run.terminal.say(f"{done} of {len(run.prediction_tasks)} models have already predicted")
    predict_missing(missing, run.predicting, engine, run.terminal, arrived)
    _ = run.thresholds


def predict_again(run: Run) -> None:
    """Delete predictions of models that are no longer the best, so that ``predict`` regenerates them."""
    for task in run.chosen:
        models = run.experiment.prediction.models
        for folder in other_predictions(run.directory, task.training, task.fold, models):
            run.terminal.say(f"{task.name}: deleting predictions of stage {folder.name}")
            remove_tree(folder)


def postprocess(run: Run, engine: Engine) -> None:
    """Correct predictions using mosaic neighbours; needs all predictions.

    Raises:
        RunError: a model has not predicted yet.
        PostprocessingFailed: some mosaics keep their predicted masks.
    """
    _ = run.predictions
    _predict_and_postprocess(run, engine)
    _check_postprocessing(run)


def _predict_and_postprocess(run: Run, engine: Engine) -> None:
    """Make missing predictions, and post-process every mosaic as soon as its tiles are predicted."""
    # Chosen thresholds need the predictions of all folds, and rules need masks: no mosaic can start before.
    streams = run.has_rules and run.experiment.prediction.thresholds == "given"
    if not streams:
        predict(run, engine)
    if not run.has_rules:
        run.terminal.say("masks are not post-processed: postprocessing.rules is none")
        return
    folder = run.postprocessing_folder
    if folder.done is not None and not folder.done["failed"]:
        if streams:
            predict(run, engine)
        run.terminal.say(f"masks are already post-processed: {folder.path}")
        return
    say_outdated(folder, run.terminal)
    folder.reopen()
    missing = np.zeros(len(run.prepared.survey.ids), np.int64)
    models = []
    for task in run.prediction_tasks:
        missing[task.tiles] += streams
        stored = StoredPrediction.open(task.folder, task.tiles)
        models.append(ModelPrediction.of(stored.tiles, StoredRecords(task.folder.path)))
    work = Postprocessing(
        run.experiment, run.prepared, run.mosaics, models, missing, run.decisions, folder, run.directory, engine
    )
    if streams:
        predict(run, engine, work.arrived)
    run.terminal.rules(work.finish(), folder.path)


def _check_postprocessing(run: Run) -> None:
    failed = run.postprocessing_folder.done["failed"] if run.has_rules else {}
    if failed:
        number, reason = next(iter(failed.items()))
        raise PostprocessingFailed(
            f"{len(failed)} mosaics could not be post-processed (first: mosaic {number}: {reason}): "
            "run the same command again to retry"
        )


def submit(run: Run, probabilities: bool = False) -> StoragePath:
    """Average, threshold, correct and write ``submission.csv`` and ``masks.zip``.

    Args:
        probabilities: also write probabilities (``outputs``).
    """
    models = run.predictions.values()
    unlabelled, survey = run.prepared.unlabelled, run.prepared.survey
    masks = survey_masks(run.prepared, models, unlabelled, run.decisions.final)
    masks = run.corrections.apply(unlabelled, masks)
    ids = survey.ids[unlabelled]
    left_out = np.setdiff1d(survey.submission_ids, ids) if run.skip_bad else ids[:0]
    if len(left_out):
        run.terminal.say(f"{len(left_out)} damaged tiles were skipped and are submitted as empty")
        ids = np.concatenate([ids, left_out])
        masks = np.concatenate([masks, np.zeros((len(left_out), *masks.shape[1:]), bool)])
    submission, pictures = run.directory.submission, run.directory.masks
    write_submission(submission, ids, masks, survey.submission_ids)
    write_masks(pictures, ids, masks)
    if probabilities:
        write_behind_masks(run.directory, run.prepared, list(models), unlabelled)
    salt = masks.any(axis=(1, 2)).sum()
    run.terminal.say(f"{len(masks):,} tiles, {salt:,} with salt: {submission}, {pictures}")
    return submission


def score(run: Run) -> dict[str, Any]:
    """Score predictions before and after the rules, write ``scores.json`` and scores per tile, and print the table."""
    models, corrections = run.predictions, run.corrections
    survey = run.prepared.survey
    truth = read_test_truth(run.data, survey.ids[run.prepared.unlabelled], Meaning.of(run.experiment))
    scores, tiles = run_scores(run.prepared, models, run.tables, run.decisions, truth, corrections.apply)
    if run.has_rules:
        folder = run.postprocessing_folder.path
        rules = load_fields(folder / "rules.json", folder, "kept", "alone", "together")
        scores["rules"] |= rules | {"changed_tiles": len(corrections.tiles)}
        if "test" in scores:
            scores["rules"]["test_of_each"] = _test_of_each_rule(run, truth)
    write_atomically(run.directory.tile_scores, tiles.to_csv(index=False, float_format="%.6g"))
    write_atomically(run.directory.scores, json.dumps(scores, indent=1))
    run.terminal.scores(scores)
    run.tracking.scores(named_scores(scores))
    return scores


def _test_of_each_rule(run: Run, truth: np.ndarray) -> dict[str, float]:
    """The score on the test truth after each rule on its own; not used for choosing."""
    prepared, decision = run.prepared, run.decisions.final
    models = list(run.predictions.values())
    masks = survey_masks(prepared, models, prepared.unlabelled, decision)
    mosaics = (
        PredictedMosaic.gather(MosaicTiles.gather(number, run.mosaics, prepared), models)
        for number in range(run.mosaics.count)
    )
    alone = correct_with_each(mosaics, decision, prepared.frame.tile_px)
    known = has_label(truth)
    corrected = {name: each.apply(prepared.unlabelled, masks) for name, each in alone.items()}
    return {name: mean_score(truth[known], own[known]) for name, own in corrected.items()}


def report(run: Run) -> StoragePath:
    """Write ``report.html``.

    Raises:
        RunError: the run is not finished, or its scores belong to other predictions.
    """
    from salt_ray.report.page import write_report  # matplotlib: only pictures need it

    directory = run.directory
    check_finished(directory)
    finished = FinishedRun(
        directory,
        run.experiment,
        run.prepared,
        run.predictions,
        run.tables,
        run.mosaics if (directory.mosaics / "mosaics.csv").exists() else None,
        run.corrections,
        load_scores(directory.scores),
        PROJECT,
        run.decisions,
        run.validation,
        run.thresholds,
    )
    path = write_report(finished)
    run.tracking.file(path, "report")
    run.terminal.say(f"report (open in a browser): {path}")
    return path
