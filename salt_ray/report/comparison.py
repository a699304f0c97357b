"""Comparison of two runs on the same tiles: the difference of their scores and its uncertainty.

The bootstrap resamples whole mosaics (``inference.paired``), single tiles outside mosaics, and lines for windows.

Letters: n tiles.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from rich.table import Table

from salt_ray.artifacts import RunDirectory
from salt_ray.errors import RunError
from salt_ray.inference.paired import Difference, difference
from salt_ray.inference.thresholds import MIN_CLUSTERS
from salt_ray.mosaic.folds import whole_mosaics
from salt_ray.mosaic.table import load_mosaics
from salt_ray.record import RunRecord
from salt_ray.storage import StoragePath, readable
from salt_ray.survey.window import lines_of

Tiles = Literal["oof", "holdout", "test"]
#: Sets of tiles, as named in messages.
SETS = {"oof": "out of fold", "holdout": "on the hold-out", "test": "on the test truth"}
#: Groups of tiles by share of salt: upper bound and name.
SHARES = {0.0: "no salt", 0.1: "to 10 %", 0.25: "10 to 25 %", 0.5: "25 to 50 %", 0.75: "50 to 75 %", 1.0: "above 75 %"}


@dataclass(frozen=True)
class Comparison:
    """The difference between two runs, or between two recipes run with several seeds each.

    Attributes:
        names: names of the two sides.
        runs: number of runs of each side.
        kind: the set of tiles.
        whole: the difference on all tiles.
        by_salt: the difference on tiles with similar shares of salt, by name of the group.
    """

    names: tuple[str, str]
    runs: tuple[int, int]
    kind: Tiles
    whole: Difference
    by_salt: dict[str, Difference]

    @property
    def of_recipes(self) -> bool:
        """Whether the interval includes the spread over seeds, in addition to that over tiles."""
        return min(self.runs) > 1

    def sentences(self) -> list[str]:
        """The result in words, and the question that it answers."""
        whole, (first, second) = self.whole, self.names
        verdict = (
            f"{second} scores {abs(whole.difference):.4f} {'more' if whole.difference > 0 else 'less'} than {first}"
            if whole.certain and whole.clusters >= MIN_CLUSTERS
            else f"{second} and {first} do not differ significantly"
        )
        counts = f"{whole.tiles:,} tiles in {whole.clusters:,} groups of neighbours"
        lines = [
            f"{verdict} {SETS[self.kind]}: {whole.second:.4f} and {whole.first:.4f}, difference "
            f"{whole.difference:+.4f}, 95 % interval {whole.low:+.4f} to {whole.high:+.4f} ({counts})",
            f"{second} is better on {whole.wins:,} tiles, equal on {whole.ties:,}, worse on {whole.losses:,}",
        ]
        if whole.clusters < MIN_CLUSTERS:
            lines.append(
                f"the interval is unreliable with so few groups of neighbours (mosaics, or lines of windows): "
                f"{MIN_CLUSTERS} are needed"
            )
        if self.of_recipes:
            lines.append(
                f"this compares the two recipes: the interval includes the spread over seeds ({self.runs[0]} and "
                f"{self.runs[1]} seeds)"
            )
        else:
            lines.append(
                "this applies to these trained models on similar tiles; training the two recipes again may change it "
                "(to find out, compare runs of pipeline --seeds 3)"
            )
        return lines

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        parts = {"whole": self.whole, **self.by_salt}
        found = {name: asdict(part) | {"difference": part.difference} for name, part in parts.items()}
        return {
            "names": list(self.names),
            "runs": list(self.runs),
            "tiles": self.kind,
            "of_recipes": self.of_recipes,
            "whole": found.pop("whole"),
            "by_salt": found,
        }


def compare_runs(first: RunDirectory, second: RunDirectory, kind: Tiles = "oof") -> Comparison:
    """Compare two scored runs, or two directories with runs over several seeds.

    Args:
        kind: out-of-fold tiles, before the mosaic rules (which copy their labels); hold-out or test truth, after them.

    Raises:
        RunError: a run is not scored; the two have other tiles, labels or mosaics; there are no such tiles.
    """
    sides = [_tables(run, kind) for run in (first, second)]
    table = sides[0][0]
    for run, tables in zip((first, second), sides, strict=True):
        for other in tables:
            _check_same(table, other, first, run)
    clusters = _clusters(table.index.to_numpy(str), [first, second])
    scores = [np.stack([each["score"].to_numpy() for each in tables]) for tables in sides]
    groups = np.searchsorted(list(SHARES), table["salt"].to_numpy())
    by_salt = {
        name: difference(scores[0][:, chosen], scores[1][:, chosen], clusters[chosen])
        for place, name in enumerate(SHARES.values())
        if (chosen := groups == place).any()
    }
    names = (first.path.name, second.path.name)
    names = names if names[0] != names[1] else (str(first.path), str(second.path))
    return Comparison(names, (len(scores[0]), len(scores[1])), kind, difference(*scores, clusters), by_salt)


def comparison_table(comparison: Comparison) -> Table:
    """Terminal table of the difference by share of salt."""
    table = Table("salt", *(f"[b]{name}" for name in comparison.names), "difference", "95 % interval", "tiles")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, part in {"all": comparison.whole, **comparison.by_salt}.items():
        scores = (f"{part.first:.4f}", f"{part.second:.4f}", f"{part.difference:+.4f}")
        table.add_row(name, *scores, f"{part.low:+.4f} to {part.high:+.4f}", f"{part.tiles:,}")
    return table


def _tables(run: RunDirectory, kind: Tiles) -> list[pd.DataFrame]:
    """The scored tiles of a run, or of each of its seeds, by id: columns ``score``, ``salt`` and ``labelled``."""
    found = []
    for one in _seeds(run) or [run]:
        if not one.tile_scores.exists():
            raise RunError(f"the tiles of the run in {one.path} are not scored: run score first")
        with readable(one.tile_scores, one.path):
            table = pd.read_csv(io.BytesIO(one.tile_scores.read_bytes()), dtype={"id": str, "set": str})
            table = table if "labelled" in table else table.assign(labelled=1.0)
            table = table[table["set"] == kind].set_index("id")[["score", "salt", "labelled"]].sort_index()
        if table.empty:
            raise RunError(f"the run in {one.path} has no tiles {SETS[kind]}: choose another set with --on")
        found.append(table)
    return found


def _seeds(run: RunDirectory) -> list[RunDirectory]:
    return [run.seed(number) for number in run.seed_numbers()]


def _check_same(table: pd.DataFrame, other: pd.DataFrame, first: RunDirectory, run: RunDirectory) -> None:
    """Check that two runs were scored on the same tiles with the same labels."""
    apart = table.index.symmetric_difference(other.index)
    if len(apart):
        raise RunError(
            f"{first.path} and {run.path} were scored on different tiles ({len(apart)} differ, first: {apart[0]}): "
            "use the same survey, holdout and labels for both"
        )
    shares = ["salt", "labelled"]
    changed = table.index[~np.isclose(table[shares], other[shares], rtol=0, atol=1e-6).all(axis=1)]
    if len(changed):
        raise RunError(
            f"{first.path} and {run.path} have different labels ({len(changed)} tiles, first: {changed[0]}): their "
            "scores cannot be compared"
        )


def _clusters(ids: np.ndarray, runs: Sequence[RunDirectory]) -> np.ndarray:
    """Clusters for the bootstrap, (n,) int64: each tile's line or mosaic, or a unique number."""
    if any(RunRecord.load(one.record).window for run in runs for one in (run, *_seeds(run))):
        return np.unique(lines_of(ids), return_inverse=True)[1]
    paths = [path for run in runs for path in _mosaic_tables(run)]
    tables = {table.digest: table for table in map(load_mosaics, paths)}
    if len(tables) > 1:
        raise RunError(
            f"{runs[0].path} and {runs[1].path} have different mosaics: use the same settings for both "
            "(mosaics.min_correlation, compatibility, loop_compatibility)"
        )
    for table in tables.values():
        return whole_mosaics(ids, table)
    raise RunError(f"neither {runs[0].path} nor {runs[1].path} has mosaics that define neighbours: run mosaic for one")


def _mosaic_tables(run: RunDirectory) -> list[StoragePath]:
    paths = [one.mosaics / "mosaics.csv" for one in (run, *_seeds(run))]
    return [path for path in paths if path.exists()]
