"""One experiment over several seeds, with the spread of its scores."""

from __future__ import annotations

import json
from collections.abc import Collection

from salt_ray.inference.scores import Spread, spreads
from salt_ray.pipeline.engine import Engine
from salt_ray.pipeline.run import Run
from salt_ray.pipeline.steps import pipeline, report
from salt_ray.storage import write_atomically


def run_seeds(run: Run, engine: Engine, count: int, folds: Collection[int] | None = None) -> dict[str, Spread]:
    """Run ``pipeline`` with the experiment's seed and the following ones; writes ``seeds.json``.

    Each has its own run directory, ``RUN/seed-K``; run again to resume.

    Args:
        count: number of seeds, two or more.
        folds: as in ``train``.

    Returns:
        Every score by name.

    Raises:
        SaltRayError: as in ``pipeline``; finished seeds are kept.
    """
    first, directory = run.experiment.seed, run.directory
    write_atomically(directory.experiment, run.experiment.model_dump_json(indent=1))
    found = []
    for seed in range(first, first + count):
        run.terminal.say(f"seed {seed}, {len(found) + 1} of {count}: {directory.seed(seed).path}")
        with run.with_seed(seed).held() as one:
            found.append(pipeline(one, engine, folds))
    table = spreads(found)
    content = {"first_seed": first, "scores": {name: spread.as_json() for name, spread in table.items()}}
    write_atomically(directory.seeds, json.dumps(content, indent=1))
    for seed in range(first, first + count):  # rewrite the reports, which now include the spread over seeds
        with run.with_seed(seed).held() as one:
            report(one)
    run.terminal.seeds(table, count)
    return table
