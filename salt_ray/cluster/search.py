"""A search from its beginning, or from where it was, to the experiment that it found."""

from __future__ import annotations

from salt_ray.cluster.trials import TrialWork, run_trials, trial_resources  # isort: skip (sets Ray's environment)
from salt_ray.cluster.pipeline import Pipeline
from salt_ray.cluster.visibility import check_nodes_see
from salt_ray.errors import TrainingFailed
from salt_ray.report.study import report_study
from salt_ray.tuning.results import Summary
from salt_ray.tuning.space import Space
from salt_ray.tuning.study import Study
from salt_ray.tuning.trial import folds_of


def search(road: Pipeline, trials: int | None = None) -> Summary:
    """Search what the experiment's ``tune`` section names, or go on with it; write ``best.json`` and pictures.

    Args:
        trials: how many in all, instead of ``tune.trials``.

    Raises:
        ExperimentError: the search space cannot be used.
        RunError: this run directory holds another search.
        SearchStopped: something is in the way of all trials.
        TrainingFailed: no trial has a value.
    """
    Space(road.experiment)  # what is wrong with it is said before tiles are read
    folds_of(road.experiment)
    if trials is not None:
        road.experiment = road.experiment.replace(tune=road.experiment.tune.replace(trials=trials))
    road.prepare()
    study = Study(road.experiment, road.run, road.study_folder)
    if study.left:
        from salt_ray.model.network import try_network  # timm: a search that is done does not wait for it

        for encoder in study.space.encoders():
            network = road.experiment.network.replace(encoder=encoder)
            try_network(network, road.prepared.frame.crop_px, download=True)
        road.connect()
        wanted = trial_resources(road.experiment)
        identity = check_nodes_see(road.run)
        decision, models = road.trial_judgement
        experiment = road.experiment.replace(prediction=road.experiment.prediction.replace(models=models))
        work = TrialWork(experiment, road.tables, road.run, decision, identity, int(wanted["CPU"]), "GPU" in wanted)
        with road.terminal.trials(list(study.space.baseline), study.asked, study.ended) as view:
            run_trials(study, work, road.prepared.training_tiles(), wanted, view)
    else:
        road.terminal.say(f"{len(study.ended)} trials have ended already; more with --trials")
    summary = report_study(road.run, road.terminal)
    if summary.best is None:
        raise TrainingFailed(
            f"no trial in {road.run.path} has a value: change the ranges in tune.parameters, with another --run-dir"
        )
    return summary
