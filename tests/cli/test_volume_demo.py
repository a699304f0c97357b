"""``volume demo`` goes the whole way, and a second call does nothing that is done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from salt_ray.cli import volumes
from salt_ray.cli.main import app

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache")
SMALL = {
    "network.encoder": "mnasnet_small",
    "network.pretrained": "false",
    "trainings.all.folds.kind": "lines",
    "trainings.all.folds.gap": "5",  # two labelled lines, twenty apart
    "trainings.all.stages.all.epochs": "1",
    "resources.cpus_per_fold": "1",
}


@pytest.mark.slow
def test_the_whole_way_and_what_is_done_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volumes, "DEMO_SIZE", (40, 40, 64))
    monkeypatch.setattr(volumes, "DEMO_WINDOW", 32)
    monkeypatch.setattr(volumes, "DEMO_STEP", 32)
    words = ["volume", "demo", "--engine", "local", "--run-dir", str(tmp_path / "run")]
    for name, value in SMALL.items():
        words += ["--set", f"{name}={value}"]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    scores = json.loads((tmp_path / "run" / "predicted" / "scores.json").read_text())
    assert len(scores["lines"]) + scores["left_out"] == 40 and scores["left_out"] == 2
    assert f"IoU of salt on the 38 inlines without labels: {scores['iou']:.4f}" in result.output
    page = (tmp_path / "run" / "predicted" / "report.html").read_text()
    assert f"{scores['iou']:.3f}" in page and "Excluded are 2 lines" in page
    before = times(tmp_path / "run")
    again = CliRunner().invoke(app, words, catch_exceptions=False)
    assert again.exit_code == 0 and "is already complete" in again.output
    kept = {
        name: when for name, when in times(tmp_path / "run").items() if parts(name) & {"made", "windows", "predicted"}
    }
    assert kept == {name: when for name, when in before.items() if name in kept} and len(kept) > 20
    trained = {name for name in before if name.endswith("history.csv")}
    assert len(trained) == 2 and all(before[name] == times(tmp_path / "run")[name] for name in trained)


def parts(name: str) -> set[str]:
    return set(Path(name).parts[:1])


def times(folder: Path) -> dict[str, int]:
    """When each file of results was written, by its path."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in files}
