"""Every step on tiles that are not TGS: amplitudes in arrays, one folder per section, no tables."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner
from whole_run import make_run, shortened

from salt_ray.artifacts import RunDirectory
from salt_ray.cli.main import app
from salt_ray.config import Experiment
from salt_ray.errors import RunError
from salt_ray.pipeline import steps
from salt_ray.pipeline.run import Run
from salt_ray.report.terminal import Terminal
from salt_ray.survey.folds import FoldError
from salt_ray.survey.synthetic import write_survey
from salt_ray.survey.tiles import load_survey

pytestmark = pytest.mark.usefixtures("one_thread")
SECTIONS = ("line-7", "line-12", "line-40")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sections of a synthetic survey as folders of int16 arrays, under names that every section has."""
    made, own = (tmp_path_factory.mktemp("own") / name for name in ("made", "own"))
    write_survey(made, 120, seed=4, tile_px=33)
    places = pd.read_csv(made / "truth" / "places.csv", dtype={"id": str}).set_index("id")
    for path in sorted(made.glob("t*/[im]*/*.png")):
        if path.parts[-3] == "truth":
            continue
        place = places.loc[path.stem]
        section = SECTIONS[place["section"] % len(SECTIONS)]
        name = f"{place['section']}-{place['row']}-{place['col']}.npy"
        target = own / path.parts[-3] / path.parts[-2] / section / name
        target.parent.mkdir(parents=True, exist_ok=True)
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        np.save(target, grey > 0 if path.parts[-2] == "masks" else (grey.astype(np.int16) - 128) * 100)
    return own


def by_sections(tiny: Experiment, count: int = 3) -> Experiment:
    experiment = shortened(tiny)
    (training,) = experiment.trainings
    folds = training.folds.replace(kind="section", count=count)
    return experiment.replace(trainings=(training.replace(folds=folds),))


def test_the_road_from_arrays_to_masks(own: Path, tiny: Experiment, tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_run(by_sections(tiny), own, run)
    survey = load_survey(own)
    assert set(survey.sections) == set(SECTIONS)
    assert all(tile.startswith(f"{section}-") for tile, section in zip(survey.ids, survey.sections, strict=True))
    section_of = dict(zip(survey.ids.tolist(), survey.sections.tolist(), strict=True))

    folds = pd.read_csv(run / "folds/random/folds.csv", dtype={"id": str})
    assert (folds.groupby(folds["id"].map(section_of))["fold"].nunique() == 1).all()
    mosaics = pd.read_csv(run / "mosaics/mosaics.csv", dtype={"id": str})
    assert (mosaics["id"].map(section_of).groupby(mosaics["mosaic_id"]).nunique() == 1).all()
    submission = pd.read_csv(run / "submission.csv", keep_default_na=False)
    unlabelled = survey.ids[survey.labelled :]
    assert submission["id"].tolist() == unlabelled.tolist()
    with zipfile.ZipFile(run / "masks.zip") as archive:
        assert archive.namelist() == [f"{tile}.png" for tile in unlabelled]
    assert 0 <= json.loads((run / "scores.json").read_text())["oof"] <= 1
    page = steps.report(Run(by_sections(tiny), own, RunDirectory(run), Terminal(quiet=True))).read_text()
    assert "The sections that lose most, 3 of 3 with judged tiles" in page and all(name in page for name in SECTIONS)


def test_prepare_says_what_it_found_and_assumed(own: Path, tiny: Experiment, tmp_path: Path) -> None:
    file = tmp_path / "own.json"
    file.write_text(by_sections(tiny).model_dump_json())
    words = ["prepare", "--data", str(own), "--experiment", str(file), "--run-dir", str(tmp_path / "run")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    for words in (
        "found: images as NPY (int16); masks in train/masks (NPY)",
        "found: sections: 3: line-12 (",
        "assumed: ids are SECTION-ID, and tiles of two sections are never neighbours",
        "become greys from 0 to 255; the lowest and highest 1 % are clipped",
        "without depths.csv: folds by depth are assigned by id",
        "without sample_submission.csv: submission.csv lists the tiles in the order of their ids",
        "assumed: network input is a crop of 64 px from tiles padded from 33 to 84 px",
    ):
        assert words in result.output


def test_folds_of_sections_need_sections(own: Path, survey: Path, tiny: Experiment, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="folds of kind section need one folder of tiles per section"):
        make_run(by_sections(tiny), survey, tmp_path / "run")
    with pytest.raises(FoldError, match="cannot split 3 sections with labelled tiles into 4 folds"):
        make_run(by_sections(tiny, 4), own, tmp_path / "run")
