"""The scores of a run with their errors, to look at."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import pandas as pd

from salt_ray.artifacts import RunDirectory
from salt_ray.record import RunRecord
from salt_ray.report.comparison import neighbours
from salt_ray.report.findings import SIGMAS_95, standard_error
from salt_ray.report.finished import load_columns, load_scores
from salt_ray.report.html import table_html
from salt_ray.report.verdicts import SCORE_TITLES

if TYPE_CHECKING:
    from salt_ray.report.style import Drawing

BAR = 0.3  # inches


class Scores(dict[str, Any]):
    """The content of ``scores.json``, a dict.

    Attributes:
        margins: half the 95 % interval of ``oof``, ``holdout`` and ``test``, as far as they are there. It says how
            far other tiles of the kind could move the score; tiles of a mosaic or on a line count together. NaN where
            all are neighbours; empty in runs that kept no score of each tile.
    """

    def __init__(self, directory: RunDirectory) -> None:
        super().__init__(load_scores(directory.scores))
        self._directory = directory

    @functools.cached_property
    def margins(self) -> dict[str, float]:
        return margins(self._directory)

    def text(self, name: str) -> str:
        """One of ``oof``, ``holdout`` and ``test``, for people: ``0.782 ± 0.021 on 300 tiles``."""
        margin = self.margins.get(name, math.nan)
        return f"{self[name]:.3f}{'' if math.isnan(margin) else f' ± {margin:.3f}'} on {self[f'{name}_tiles']:,} tiles"

    def sets(self) -> pd.DataFrame:
        """One row per scored set of tiles: its ``name`` ("fold 0", "oof", "holdout", "test"), the number of ``tiles``
        (missing for folds) and the ``score``.
        """
        rows = [(f"fold {name}", None, score) for name, score in self["folds"].items()]
        rows += [(name, self[f"{name}_tiles"], self[name]) for name in SCORE_TITLES if name in self]
        return pd.DataFrame(rows, columns=["name", "tiles", "score"]).astype({"tiles": "Int64"})

    def table(self) -> pd.DataFrame:
        """``sets`` with names for people ("out of fold"), and the ``margin`` of each score."""
        sets = self.sets()
        margin = sets["name"].map(self.margins).astype(float)
        return sets.assign(name=sets["name"].replace(SCORE_TITLES), margin=margin)

    def plot(self) -> Drawing:
        """Each score as a bar with its 95 % interval; the dashed line is the score of an empty mask for every tile."""
        from salt_ray.report.charts import WIDTH, draw_bars  # matplotlib: only pictures need it
        from salt_ray.report.style import Drawing, styled

        table = self.table()
        with styled():
            axes = Drawing((WIDTH, 1.0 + BAR * len(table)), facecolor="white").add_subplot()
            draw_bars(axes, table["name"], table["score"], table["margin"], self["trivial"]["all_empty"])
            axes.set_xlabel(f"score (dashed: every mask empty, {self['trivial']['all_empty']:.3f})")
        return axes.figure

    def _repr_html_(self) -> str:
        rows = []
        for name, tiles, score, margin in self.table().itertuples(index=False):
            error = "" if math.isnan(margin) else f" ± {margin:.3f}"
            rows.append((name, "" if pd.isna(tiles) else f"{tiles:,}", f"{score:.3f}{error}"))
        trivial = {"every mask empty": "all_empty", "the best constant mask": "best_constant"}
        rows += [
            (title, "", f"{self['trivial'][name]:.3f}")
            for title, name in trivial.items()
            if self["trivial"].get(name) is not None
        ]
        return table_html(pd.DataFrame(rows, columns=["set", "tiles", "score, 95 % interval"]))


def margins(directory: RunDirectory) -> dict[str, float]:
    """Half of the 95 % interval of each mean score, as a report has it: see ``Scores``."""
    if not directory.tile_scores.exists():
        return {}
    table = load_columns(directory.tile_scores, {"id": str, "set": str, "score": float})
    grouped = (directory.mosaics / "mosaics.csv").exists() or RunRecord.load(directory.record).window is not None
    found = {}
    for name, tiles in table.groupby("set"):
        ids = tiles["id"].to_numpy(str)
        together = neighbours(ids, [directory]) if grouped else ids
        found[str(name)] = SIGMAS_95 * standard_error(tiles["score"].to_numpy(), together)
    return found
