"""Runs, scores, tiles and mosaics in a notebook: tables are escaped, pictures are drawn, figures are the report's."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pictures import checked_picture

import salt_ray
from salt_ray.artifacts import RunDirectory
from salt_ray.errors import RunError
from salt_ray.inference.predictor import Prediction
from salt_ray.pipeline.trained import TrainedRun
from salt_ray.report import parts
from salt_ray.report.finished import FinishedRun
from salt_ray.report.html import facts_html, table_html
from salt_ray.report.mosaics import Mosaics
from salt_ray.report.scores import Scores
from salt_ray.report.style import Drawing
from salt_ray.report.tiles import PredictedTiles, Tiles

pytestmark = pytest.mark.usefixtures("one_thread")


def picture(figure: Drawing) -> np.ndarray:
    """What a notebook shows of a figure, (h, w, 3)."""
    return checked_picture(figure._repr_png_())


@pytest.fixture(scope="module")
def run(undisturbed: Path) -> TrainedRun:
    return salt_ray.load_run(undisturbed)


@pytest.fixture(scope="module")
def tiles(made_run: FinishedRun) -> Tiles:
    return Tiles.of_run(made_run)


def test_tables_are_escaped_and_whole() -> None:
    text = facts_html({"run": "<script>alert(1)</script>", "path": "/a" * 100})
    assert "&lt;script&gt;" in text and "<script" not in text and "/a" * 100 in text
    text = table_html(pd.DataFrame({"<b>": [None, 0.5]}), ["a < b"])
    assert "&lt;b&gt;" in text and "<p>a &lt; b</p>" in text and "<td>–</td>" in text


def test_a_run_says_what_it_is_and_how_good(run: TrainedRun, undisturbed: Path) -> None:
    text, scores = run._repr_html_(), run.scores()
    assert f"<td>{undisturbed}</td>" in text and "0, 1 (2 of 2 trained)" in text
    assert f"{scores['oof']:.3f} ± {scores.margins['oof']:.3f} on {scores['oof_tiles']} tiles" in text
    assert scores == json.loads((undisturbed / "scores.json").read_text()) and json.dumps(scores)
    picture(run.plot())
    picture(scores.plot())
    assert f"{scores['trivial']['all_empty']:.3f}" in scores._repr_html_()
    table = scores.table()
    assert table["name"].tolist()[:3] == ["fold 0", "fold 1", "out of fold"] and table["margin"].isna().sum() == 2


def test_errors_are_those_of_the_report(run: TrainedRun, survey: Path) -> None:
    """It computes them from predictions, and scores from the table of tiles, which is rounded."""
    answer = parts.answer(run._with_survey(survey))
    assert run.scores().margins["oof"] == pytest.approx(answer["margin"], rel=1e-3)


def test_a_run_without_scores_of_tiles_has_no_errors(undisturbed: Path, tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_bytes((undisturbed / "scores.json").read_bytes())
    scores = Scores(RunDirectory(tmp_path))
    assert scores.margins == {} and "±" not in scores._repr_html_() + scores.text("oof")
    picture(scores.plot())


def test_judged_tiles_are_those_of_the_report(made_run: FinishedRun, tiles: Tiles) -> None:
    table = tiles.table()
    assert table["score"].mean() == pytest.approx(made_run.scores["oof"]) and len(tiles) == made_run.scores["oof_tiles"]
    worst = tiles.worst(3)
    np.testing.assert_array_equal(worst.columns["score"], np.sort(table["score"])[:3])
    assert tiles.most_doubtful(1).ids[0] == table["id"][table["doubt"].argmax()]
    figure = worst.plot()
    assert len(figure.axes) == 3 * 4 and figure.axes[0].get_title() == worst.ids[0]  # a row of four pictures a tile
    picture(figure)
    assert f"<td>{len(tiles)}</td>" in tiles._repr_html_() and "33 x 33 px" in tiles._repr_html_()


def test_tiles_of_a_survey(survey: Path) -> None:
    labelled, others = salt_ray.load_tiles(survey), salt_ray.load_tiles(survey, labelled=False)
    assert len(labelled) + len(others) == 60 and others.truth is None and labelled.truth.shape == labelled.images.shape
    chosen = labelled[np.array([3, 1])]
    np.testing.assert_array_equal(chosen.ids, labelled.ids[[3, 1]])
    picture(chosen.plot())
    picture(others.plot(3))
    with pytest.raises(RunError, match="no doubt or spread"):
        labelled.most_doubtful()
    with pytest.raises(RunError, match="no score"):
        labelled.worst()
    with pytest.raises(RunError, match="no tiles to draw"):
        labelled[:0].plot()


def test_what_is_predicted_shows_where_models_disagree(run: TrainedRun, survey: Path) -> None:
    images = salt_ray.load_tiles(survey).images[:5]
    found = run.predict(images)
    assert isinstance(found, PredictedTiles) and isinstance(found, Prediction)
    np.testing.assert_array_equal(found.images, images)
    assert found.most_doubtful(1).ids[0] == found.table()["id"][found.table()["spread"].argmax()]
    figure = found.plot()
    assert [axes.get_title() for axes in figure.axes[:3]] == ["0", "prediction", "doubt"]
    picture(figure)
    one = run.predict(images[0])
    assert len(one.tiles) == 1 and "<td>1</td>" in one._repr_html_()
    picture(one.plot())


def test_mosaics_before_and_after_the_rules(made_run: FinishedRun) -> None:
    mosaics = Mosaics(made_run)
    table = mosaics.table()
    assert table["tiles"].sum() == len(made_run.mosaics.ids) and len(table) == len(mosaics)
    assert table["changed"].sum() == 2 and table["score"].between(0, 1).all()
    picture(mosaics.plot())
    assert picture(mosaics.plot([0])).shape[1] < picture(mosaics.plot([0, 1])).shape[1]
    assert "mosaics of" in mosaics._repr_html_()
    with pytest.raises(RunError, match="no mosaic 99"):
        mosaics.plot([99])
    with pytest.raises(RunError, match="run mosaic"):
        Mosaics(dataclasses.replace(made_run, mosaics=None))


def test_a_run_asks_for_its_survey(run: TrainedRun, survey: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="name its folder with data="):
        run.tiles()
    salt_ray.synth_survey(tmp_path / "other", tiles=40, tile_px=33, seed=2, quiet=True)
    with pytest.raises(RunError):
        run.tiles(tmp_path / "other")
    assert len(run.tiles(survey)) == run.scores()["oof_tiles"]
    stricter = salt_ray.load_run(run.directory.path, ["prediction.mask_threshold=0.6"])
    assert stricter.tiles(survey).table().equals(run.tiles(survey).table())  # the run as it was scored


def test_a_comparison_shows_its_sentences_and_a_table(run: TrainedRun) -> None:
    found = salt_ray.compare(run.directory.path, run.directory.path)
    assert found.sentences()[0] in found._repr_html_().replace("&#x27;", "'") and "<table" in found._repr_html_()
    picture(found.plot())
