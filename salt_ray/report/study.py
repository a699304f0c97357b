"""The results of a search, as files and as a table."""

from __future__ import annotations

import json
from pathlib import Path
from shlex import quote

import optuna
from optuna.trial import TrialState
from rich.table import Table

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment
from salt_ray.errors import PROGRAM, RunError
from salt_ray.experiment_file import load_experiment
from salt_ray.report.terminal import Terminal
from salt_ray.report.trials import short
from salt_ray.storage import write_atomically
from salt_ray.tuning.results import Confirmation, Summary, summarize, trial_table
from salt_ray.tuning.space import BASELINE
from salt_ray.tuning.study import load_study, storage_url
from salt_ray.tuning.trial import trial_name

REASONS = 3  # failures shown with their reason


def report_study(run: RunDirectory, terminal: Terminal) -> Summary:
    """Write ``best.json``, ``study/trials.csv``, ``study/summary.json`` and the pictures, and print the results.

    Raises:
        RunError: the run directory has no study, or lacks the experiment of its best trial.
        ExperimentError: that experiment is damaged.
    """
    from salt_ray.report.figures import draw_study  # matplotlib: only pictures need it

    study = load_study(run)
    summary = summarize(study)
    best = None if summary.best is None else best_experiment(run, summary.best.number)
    write_atomically(run.study / "trials.csv", trial_table(study).to_csv(index=False))
    write_atomically(run.study / "summary.json", json.dumps(summary.as_json(), indent=1))
    pictures = draw_study(study)
    for name, picture in pictures.items():
        write_atomically(run.study / f"{name}.png", picture)
    terminal.table(summary_table(study, summary))
    for line in [*_remarks(summary), *_failures(study)]:
        terminal.say(line)
    confirmation = Confirmation.load(run)
    if confirmation is not None and summary.best is not None and confirmation.number == summary.best.number:
        terminal.say(confirmation_line(confirmation))
    if best is not None:
        write_atomically(run.best, best.model_dump_json(indent=1))
        terminal.say(f"train it on all folds: {PROGRAM} train --experiment {quote(str(run.best))}")
    terminal.say(f"trials and {len(pictures)} pictures: {run.study}")
    database = run.study / "study.db"
    if isinstance(database, Path):
        terminal.say(f"in a browser: optuna-dashboard {quote(storage_url(database))}")
    else:
        terminal.say(f"in a browser: aws s3 cp {quote(str(database))} . && optuna-dashboard sqlite:///study.db")
    return summary


def confirmation_line(found: Confirmation) -> str:
    """The scores on a fold that was not used in the search."""
    return (
        f"fold {found.fold}, not used in the search: own settings {found.baseline:.4f}, {trial_name(found.number)} "
        f"{found.best:.4f} ({found.best - found.baseline:+.4f}; one run each, so less than 0.01 is noise)"
    )


def best_experiment(run: RunDirectory, number: int) -> Experiment:
    """The effective experiment of a trial, under a new name.

    Raises:
        RunError: it is missing.
        ExperimentError: it is damaged.
    """
    path = run.trial(number).experiment
    if not path.exists():
        raise RunError(f"{path} is missing: restore it, or search again with another --run-dir")
    effective = load_experiment(path)
    return effective.replace(name=f"{effective.name.removesuffix('-best')[:55]}-best")


def compared_settings(study: optuna.Study, summary: Summary) -> list[tuple[str, str, str, float | None]]:
    """The searched parameters: name, the experiment's own value, the best trial's ("" without one), and importance."""
    own = study.get_trials(deepcopy=False)[BASELINE].params
    best = {name: short(value) for name, value in summary.best.params.items()} if summary.best else {}
    return [(name, short(value), best.get(name, ""), summary.importances.get(name)) for name, value in own.items()]


def summary_table(study: optuna.Study, summary: Summary) -> Table:
    """Table of the best trial next to the experiment's own settings."""
    best = summary.best
    table = Table("", "own settings", f"best: {trial_name(best.number)}" if best else "best", "importance")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, own, found, share in compared_settings(study, summary):
        table.add_row(name, own, found, "" if share is None else f"{share:.0%}")
    table.add_section()
    own_score = "not complete" if summary.baseline is None else f"{summary.baseline:.4f}"
    table.add_row("score", own_score, f"{best.value:.4f}" if best else "none", "", style="bold")
    return table


def _remarks(summary: Summary) -> list[str]:
    spread, counts = summary.spread, summary.counts
    ended = [f"{counts[name]} {name}" for name in ("complete", "pruned", "failed") if counts[name]]
    lines = [f"trials: {', '.join(ended) or 'none has ended'}"]
    if spread.n > 1:
        lines[0] += f"; complete ones score {spread.mean:.4f} ± {spread.sd:.4f} ({spread.min:.4f} … {spread.max:.4f})"
    if summary.gain is not None and summary.gain > 0:
        lines.append(
            f"the best is {summary.gain:+.4f} above the experiment's own settings, on the folds that chose it: "
            "the best of many trials is partly luck. Train both before relying on it"
        )
    elif summary.gain is not None:
        lines.append("no trial was better than the experiment's own settings")
    return lines


def _failures(study: optuna.Study) -> list[str]:
    """Messages with the reasons of the first failures."""
    failed = study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
    lines = [f"{trial_name(trial.number)} failed: {trial.user_attrs['reason']}" for trial in failed[:REASONS]]
    return lines + ([f"and {len(failed) - REASONS} more, in trials.csv"] if len(failed) > REASONS else [])
