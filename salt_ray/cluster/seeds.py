"""One experiment over several seeds: a run each, and what they come to together."""

from __future__ import annotations

import json

from salt_ray.cluster.pipeline import Pipeline
from salt_ray.inference.scores import Spread, spreads
from salt_ray.storage import write_atomically


def run_seeds(road: Pipeline, count: int) -> dict[str, Spread]:
    """The whole road with the experiment's seed and those after it; writes ``seeds.json``.

    Each lies in a run directory of its own, ``RUN/seed-K``; the same command again goes on where it was.

    Args:
        count: how many seeds, two or more.

    Returns:
        Every score by its name.

    Raises:
        SaltRayError: as ``Pipeline.all``; the seeds before are kept.
    """
    first = road.experiment.seed
    write_atomically(road.run.experiment, road.experiment.model_dump_json(indent=1))
    found = []
    for seed in range(first, first + count):
        road.terminal.say(f"seed {seed}, {len(found) + 1} of {count}: {road.run.seed(seed).path}")
        with road.with_seed(seed) as run:
            found.append(run.all())
    table = spreads(found)
    content = {"first_seed": first, "scores": {name: spread.as_json() for name, spread in table.items()}}
    write_atomically(road.run.seeds, json.dumps(content, indent=1))
    for seed in range(first, first + count):  # anew: each says how far the seeds scatter
        with road.with_seed(seed) as run:
            run.report()
    road.terminal.seeds(table, count)
    return table
