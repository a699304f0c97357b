"""A search from its beginning, or from where it was, to the experiment that it found."""

from __future__ import annotations

from salt_ray.errors import TrainingFailed
from salt_ray.pipeline.engine import Engine
from salt_ray.pipeline.run import Run
from salt_ray.pipeline.steps import prepare
from salt_ray.pipeline.trial import SearchWork
from salt_ray.report.study import report_study
from salt_ray.tuning.results import Summary
from salt_ray.tuning.space import Space
from salt_ray.tuning.study import Study
from salt_ray.tuning.trial import folds_of


def search(run: Run, engine: Engine, trials: int | None = None) -> Summary:
    """Search what the experiment's ``tune`` section names, or go on with it; write ``best.json`` and pictures.

    Args:
        trials: how many in all, instead of ``tune.trials``.

    Raises:
        ExperimentError: the search space cannot be used.
        RunError: this run directory holds another search.
        SearchStopped: something is in the way of all trials.
        TrainingFailed: no trial has a value.
    """
    Space(run.experiment)  # what is wrong with it is said before tiles are read
    folds_of(run.experiment)
    if trials is not None:
        run.experiment = run.experiment.replace(tune=run.experiment.tune.replace(trials=trials))
    prepare(run)
    study = Study(run.experiment, run.directory, run.study_folder)
    if study.left:
        from salt_ray.model.network import try_network  # timm: a search that is done does not wait for it

        for encoder in study.space.encoders():
            network = run.experiment.network.replace(encoder=encoder)
            try_network(network, run.prepared.frame.crop_px, download=True)
        decision, models = run.trial_judgement
        experiment = run.experiment.replace(prediction=run.experiment.prediction.replace(models=models))
        work = SearchWork(experiment, run.tables, run.directory, decision)
        with run.terminal.trials(list(study.space.baseline), study.asked, study.ended) as view:
            engine.search(study, work, run.prepared.training_tiles(run.experiment), view)
    else:
        run.terminal.say(f"{len(study.ended)} trials have ended already; more with --trials")
    summary = report_study(run.directory, run.terminal)
    if summary.best is None:
        raise TrainingFailed(
            f"no trial in {run.directory.path} has a value: change the ranges in tune.parameters, "
            "with another --run-dir"
        )
    return summary
