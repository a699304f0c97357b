"""A search from another machine runs as a Ray job, which the Jobs page shows; Ray's own command goes on with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import page_text
from head import ROOT, SECONDS, running_head

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment, FloatRange, Tune
from salt_ray.experiment_file import load_experiment
from salt_ray.tuning.study import load_study

TRIALS = 3


@pytest.mark.alone
@pytest.mark.soak
@pytest.mark.browser
def test_a_search_as_a_job(tiny: Experiment, survey: Path, tmp_path: Path) -> None:
    lr = FloatRange(name="lr", fields=("trainings.all.stages.plateau.lr",), low=1e-3, high=0.1, log=True)
    (training,) = tiny.trainings
    experiment = tiny.replace(
        name="search",
        trainings=(training.replace(stages=training.stages[:1]),),
        tune=Tune(parameters=(lr,), trials=TRIALS, pruner="none"),
    )
    path, runs = tmp_path / "search.json", tmp_path / "runs"
    path.write_text(experiment.model_dump_json())
    with running_head(ROOT / "launch.py", SALT_RAY_RUNS=str(runs), SALT_RAY_DATA=str(survey)) as head:
        options = ["--experiment", str(path), "--run-dir", "runs/search"]
        process = head.start("tune", *options, "--address", head.dashboard)
        first = process.stdout.readline()
        assert first.startswith(f"dashboard: {head.dashboard}/#/jobs/salt-ray-tune-search-")
        output = first
        for line in process.stdout:  # the page shows the log as it was when it was opened
            output += line
            if " trials ended" in line:
                break
        page = page_text(first.split()[1], head.token, f"1 of {TRIALS} trials ended", SECONDS, tmp_path / "job.png")
        assert "trial-0000 begins: lr 0.02" in page
        output += process.communicate(timeout=SECONDS)[0]
        assert process.returncode == 0, output
        (job,) = head.jobs().values()
        assert job["status"] == "SUCCEEDED" and job["metadata"]["command"].startswith("tune --run-dir runs/search")
        assert "own settings" in output and f"{TRIALS} of {TRIALS} trials ended" in output

        more = ["python", "launch.py", "tune", *options, "--trials", str(TRIALS + 1)]
        words = ["ray", "job", "submit", "--address", head.dashboard, "--working-dir", ".", "--", *more]
        output, _ = (process := head.run(*words)).communicate(timeout=SECONDS)
        assert process.returncode == 0 and f"{TRIALS + 1} of {TRIALS + 1} trials ended" in output, output
    run = RunDirectory(runs / "search")
    study = load_study(run)
    assert len(study.trials) == TRIALS + 1
    assert load_experiment(run.best).trainings[0].stages[0].lr == study.best_trial.params["lr"]
