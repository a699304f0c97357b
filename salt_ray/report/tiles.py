"""Tiles to look at: the seismic image, its label, its prediction and the doubt in it, as a table and as pictures.

Letters: n tiles, S tile edge in px.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from salt_ray.errors import RunError
from salt_ray.inference.predictor import Prediction
from salt_ray.metric import labelled_share, salt_share
from salt_ray.postprocessing.draw import Kind
from salt_ray.report.finished import FinishedRun
from salt_ray.report.gallery import tile_panels
from salt_ray.report.html import facts_html
from salt_ray.survey.survey import Survey

if TYPE_CHECKING:
    from salt_ray.report.style import Drawing

PANEL, TITLE, LEGEND = 1.5, 0.3, 0.35  # inches: the edge of a picture, the line above it, the legend
IN_A_ROW = 4  # pictures beside each other, at most: their titles stay readable on a page
#: What doubt is measured by, the first that is known.
DOUBTS = ("doubt", "spread")


@dataclass(frozen=True)
class Tiles:
    """Some tiles, with what is known of them.

    ``tiles[:8]``, ``tiles[[3, 1]]`` and ``tiles[mask]`` are some of them; ``plot`` draws them.

    Attributes:
        ids: (n,) str.
        images: (n, S, S) uint8, grey.
        truth: (n, S, S), the labels: bool, or int8 where not all pixels have one: 1 salt, 0 none, -1 without a label;
            None: not known.
        masks: (n, S, S) bool, predicted salt; None: not predicted.
        spread: (n, S, S) float32, standard deviation of the probabilities over the models; None: not known.
        columns: (n,) each, what else is known: ``score``, ``P(salt)``, ``doubt`` (mean of 4 p (1 - p) over pixels),
            ``spread`` (mean over pixels).
    """

    ids: np.ndarray
    images: np.ndarray
    truth: np.ndarray | None = None
    masks: np.ndarray | None = None
    spread: np.ndarray | None = None
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of_survey(cls, survey: Survey, *, labelled: bool) -> Tiles:
        """A survey's labelled tiles, or its others."""
        if labelled:
            return cls(survey.ids[: survey.labelled], survey.images[: survey.labelled], survey.masks)
        return cls(survey.ids[survey.labelled :], survey.images[survey.labelled :])

    @classmethod
    def of_run(cls, finished: FinishedRun) -> Tiles:
        """The out-of-fold tiles of a run: each is predicted by models that were not trained on it."""
        judged, survey = finished.judged, finished.prepared.survey
        columns = {"score": judged.scores, "P(salt)": judged.salt, "doubt": judged.doubt}
        return cls(survey.ids[judged.tiles], survey.images[judged.tiles], judged.truth, judged.masks, None, columns)

    @classmethod
    def of_prediction(cls, prediction: Prediction) -> Tiles:
        """Tiles that a run has predicted."""
        edge = prediction.images.shape[-1]
        arrays = (prediction.images, prediction.masks, prediction.spread)
        images, masks, spread = (array.reshape(-1, edge, edge) for array in arrays)
        table = prediction.table()
        columns = {"P(salt)": table["salt"].to_numpy(), "spread": table["spread"].to_numpy()}
        return cls(table["id"].to_numpy(str), images, None, masks, spread, columns)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, chosen: slice | np.ndarray | list[int]) -> Tiles:
        parts = (self.ids, self.images, self.truth, self.masks, self.spread)
        some = [None if part is None else part[chosen] for part in parts]
        return Tiles(*some, {name: column[chosen] for name, column in self.columns.items()})

    def table(self) -> pd.DataFrame:
        """A row a tile: ``id``, shares of salt in ``label`` and ``prediction``, and the columns."""
        known: dict[str, np.ndarray] = {"id": self.ids}
        if self.truth is not None:
            known["label"] = salt_share(self.truth)
        if self.masks is not None:
            known["prediction"] = self.masks.mean(axis=(1, 2))
        return pd.DataFrame(known | dict(self.columns))

    def worst(self, count: int = 8) -> Tiles:
        """Those with the lowest scores.

        Raises:
            RunError: the tiles have no scores.
        """
        return self[np.argsort(self._column("score"), kind="stable")[:count]]

    def most_doubtful(self, count: int = 8) -> Tiles:
        """Those of which the models are least sure: by ``doubt``, or else by the mean ``spread`` over the models.

        Raises:
            RunError: the tiles are not predicted.
        """
        return self[np.argsort(-self._column(*DOUBTS), kind="stable")[:count]]

    def _column(self, *names: str) -> np.ndarray:
        for name in names:
            if name in self.columns:
                return self.columns[name]
        raise RunError(f"these tiles have no {' or '.join(names)}: take those of run.tiles or run.predict")

    def plot(self, count: int = 6) -> Drawing:
        """The first tiles as pictures: image, label, prediction, difference and doubt, as far as they are known.

        Green is labelled salt, blue labelled as none, red predicted salt, yellow what was missed, magenta what was too
        much, violet where the models disagree.

        Returns:
            A matplotlib figure; ``figure.axes`` has its pictures, ``figure.savefig`` writes it.
        """
        from matplotlib.patches import Patch  # only pictures need it

        from salt_ray.report.sheets import legend_patch
        from salt_ray.report.style import Drawing, styled
        from salt_ray.report.volume_gallery import DOUBT

        cards = [self._panels(place) for place in range(min(count, len(self)))]
        if not cards:
            raise RunError("there are no tiles to draw")
        with styled():
            beside = max(1, IN_A_ROW // len(cards[0]))
            columns = len(cards[0]) * min(beside, len(cards))
            rows = -(-len(cards) // beside)
            figure = Drawing((PANEL * columns, (PANEL + TITLE) * rows + LEGEND), facecolor="white")
            grid = figure.subplots(rows, columns, squeeze=False).ravel()
            pictures = [panel for card in cards for panel in card]
            for axes, (title, picture) in zip(grid, pictures, strict=False):
                axes.imshow(picture, interpolation="nearest")
                axes.set_title(title, fontsize=8)
            for axes in grid:
                axes.axis("off")
            names: dict[Kind, str | None] = {}
            if self.truth is not None:
                names |= dict.fromkeys((Kind.LABELLED_SALT, Kind.LABELLED_EMPTY))
            if self.masks is not None:
                names[Kind.PREDICTED] = None
            if self.truth is not None and self.masks is not None:
                names |= {Kind.ADDED: "missed", Kind.REMOVED: "too much"}
            handles = [legend_patch(kind, name) for kind, name in names.items()]
            if self.spread is not None:
                colour = np.array(DOUBT) / 255
                handles.append(Patch(facecolor=colour, label="doubt: the models disagree"))
            if handles:
                figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8)
        return figure

    def _panels(self, place: int) -> list[tuple[str, np.ndarray]]:
        """The pictures of one tile, each with its title."""
        from salt_ray.report.volume_gallery import tint_doubt

        truth = None if self.truth is None else self.truth[place]
        mask = None if self.masks is None else self.masks[place]
        pictures = tile_panels(self.images[place], truth, mask)
        titles = {"image": str(self.ids[place])}
        if "score" in self.columns:
            titles["prediction"] = f"prediction: {self.columns['score'][place]:.2f}"
        if self.spread is not None:
            pictures["doubt"] = tint_doubt(np.repeat(self.images[place][..., None], 3, axis=2), self.spread[place])
        return [(titles.get(name, name), picture) for name, picture in pictures.items()]

    def _repr_html_(self) -> str:
        facts: dict[str, object] = {"tiles": f"{len(self):,}"}
        if len(self):
            facts["size"] = f"{self.images.shape[2]} x {self.images.shape[1]} px"
        if self.truth is not None and len(self):
            facts["with labelled salt"] = f"{(salt_share(self.truth) > 0).sum():,}"
            share = labelled_share(self.truth).mean()
            facts |= {} if share == 1 else {"labelled pixels": f"{share:.1%}"}
        if self.masks is not None:
            facts["with predicted salt"] = f"{self.masks.any(axis=(1, 2)).sum():,}"
        if "score" in self.columns and len(self):
            facts["mean score"] = f"{self.columns['score'].mean():.3f}"
        return facts_html(facts)


class PredictedTiles(Prediction):
    """What a run predicts, to look at."""

    @property
    def tiles(self) -> Tiles:
        """The tiles with image, predicted mask and spread."""
        return Tiles.of_prediction(self)

    def most_doubtful(self, count: int = 8) -> Tiles:
        """The tiles of which the models are least sure."""
        return self.tiles.most_doubtful(count)

    def plot(self, count: int = 6) -> Drawing:
        """The first tiles as pictures: see ``Tiles.plot``."""
        return self.tiles.plot(count)

    def _repr_html_(self) -> str:
        return self.tiles._repr_html_()
