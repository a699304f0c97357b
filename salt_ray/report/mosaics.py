"""The mosaics of a scored run to look at: tiles put together, as predicted and after the rules."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from salt_ray.errors import RunError
from salt_ray.report.findings import by_mosaic
from salt_ray.report.finished import FinishedRun
from salt_ray.report.gallery import changed_mosaics, corrected_mosaic
from salt_ray.report.html import table_html

if TYPE_CHECKING:
    from salt_ray.report.style import Drawing

ROWS = 8  # of the table in a notebook


class Mosaics:
    """The mosaics of a run.

    Raises:
        RunError: the run assembled none.
    """

    def __init__(self, finished: FinishedRun) -> None:
        if finished.mosaics is None or not finished.mosaics.count:
            raise RunError(f"the run in {finished.run.path} has no mosaics: run mosaic")
        self._finished = finished

    def __len__(self) -> int:
        return self._finished.mosaics.count

    @functools.cached_property
    def _table(self) -> pd.DataFrame:
        finished, mosaics = self._finished, self._finished.mosaics
        survey = finished.prepared.survey
        known = np.isin(mosaics.ids, survey.ids[: survey.labelled])
        changed = np.isin(mosaics.ids, survey.ids[finished.corrections.tiles])
        places = pd.DataFrame({"mosaic": mosaics.mosaics, "row": mosaics.rows, "col": mosaics.cols})
        places = places.assign(labelled=known, changed=changed)
        table = places.groupby("mosaic").agg(
            tiles=("row", "size"), rows=("row", "max"), cols=("col", "max"), labelled=("labelled", "sum"),
            changed=("changed", "sum"),
        )  # fmt: skip
        scores = {
            int(group.name.split()[1]): group.score for group in by_mosaic(finished.judged, survey.ids, mosaics)[0]
        }
        return table.assign(rows=table["rows"] + 1, cols=table["cols"] + 1, score=pd.Series(scores)).reset_index()

    def table(self) -> pd.DataFrame:
        """A row a mosaic, the largest first: ``mosaic``, its number; ``tiles``, ``rows``, ``cols``; how many tiles are
        ``labelled``, and how many the rules have ``changed``; the mean out-of-fold ``score`` of its labelled tiles.
        """
        return self._table.copy()

    def plot(self, numbers: Sequence[int] | None = None) -> Drawing:
        """Some mosaics in the colours of the report: labelled and predicted salt, and what the rules changed.

        Args:
            numbers: of mosaics; None: the four with most changed tiles, then the largest.

        Returns:
            A matplotlib figure; ``figure.savefig`` writes it.
        """
        from salt_ray.report.sheets import mosaic_sheet  # matplotlib: only pictures need it
        from salt_ray.report.style import styled

        chosen = changed_mosaics(self._finished) if numbers is None else list(numbers)
        if unknown := [number for number in chosen if not 0 <= number < len(self)]:
            raise RunError(f"there is no mosaic {unknown[0]}: they have the numbers 0 to {len(self) - 1}")
        with styled():
            return mosaic_sheet([corrected_mosaic(self._finished, number) for number in chosen])

    def _repr_html_(self) -> str:
        table = self._table
        line = f"{len(table):,} mosaics of {table['tiles'].sum():,} tiles"
        line += f"; the {ROWS} largest:" if len(table) > ROWS else ""
        score = table["score"].map("{:.3f}".format, na_action="ignore")
        return table_html(table.assign(score=score).head(ROWS), [line])
