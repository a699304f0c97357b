"""What commands print for people, for nobody (--quiet) and for programs (--json)."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from salt_ray.cli import main as cli
from salt_ray.cli.main import EXIT_ERROR, app, main
from salt_ray.survey.synthetic import write_survey

TILES = 40  # as few as five folds can share


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("launch") / "survey"
    write_survey(directory, TILES, 0)
    return directory


def prepared(survey: Path, run: Path, *options: str) -> tuple[str, str]:
    words = ["prepare", "--data", str(survey), "--run-dir", str(run), "--set", "labels.full_tiles=empty"]
    result = CliRunner().invoke(app, [*words, *options])
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


def test_a_quiet_command_prints_nothing_and_does_the_same(survey: Path, tmp_path: Path) -> None:
    assert prepared(survey, tmp_path / "quiet", "--quiet") == ("", "")
    spoken, _ = prepared(survey, tmp_path / "loud")
    assert "labelled and" in spoken
    files = ("experiment.json", "folds/random/folds.csv")
    assert [(tmp_path / "quiet" / file).read_bytes() for file in files] == [
        (tmp_path / "loud" / file).read_bytes() for file in files
    ]


def test_a_program_gets_one_json_and_people_read_on_standard_error(survey: Path, tmp_path: Path) -> None:
    result, spoken = prepared(survey, tmp_path / "run", "--json")
    status = json.loads(result)
    assert {step["name"]: step["state"] for step in status["steps"]}["prepare"] == "done"
    assert status["in_use"] is False and status["next"].startswith("next: ")
    assert "labelled and" in spoken
    asked = CliRunner().invoke(app, ["status", str(tmp_path / "run"), "--json"])
    assert json.loads(asked.stdout) == status
    assert json.loads(prepared(survey, tmp_path / "run", "--json", "--quiet")[0])["experiment"] == status["experiment"]


def test_an_error_is_said_all_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", ["launch.py", "prepare", "--quiet", "--json", "--data", str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit) as end:
        main()
    output, message = capsys.readouterr()
    assert (end.value.code, output) == (EXIT_ERROR, "") and "there is no such folder" in message


def test_memory_that_runs_out_is_an_error_too(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    def short() -> None:
        raise MemoryError("Unable to allocate 9 GiB")

    monkeypatch.setattr(cli, "app", short)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == EXIT_ERROR
    assert "error: this command: out of memory (Unable to allocate 9 GiB)" in capsys.readouterr().err


def test_mosaics_alone_begin_a_run_too(survey: Path, tmp_path: Path) -> None:
    words = ["mosaic", "--data", str(survey), "--run-dir", str(tmp_path / "run"), "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert {step["name"]: step["state"] for step in json.loads(result.stdout)["steps"]}["mosaic"] == "done"


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
@pytest.mark.parametrize("command", ["prepare", "synth"])
@pytest.mark.usefixtures("interruptible")
def test_a_signal_ends_any_command_with_one_message(
    command: str, number: str, code: int, survey: Path, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ended(*arguments: object, **options: object) -> None:
        signal.raise_signal(signal.Signals[number])

    monkeypatch.setattr("salt_ray.survey.synthetic.write_survey", ended)
    monkeypatch.setattr("salt_ray.pipeline.steps.prepare", ended)
    run = tmp_path / "a run"
    words = {"prepare": ["--quiet", "--data", str(survey), "--run-dir", str(run)], "synth": [str(run)]}[command]
    monkeypatch.setattr("sys.argv", ["launch.py", command, *words])
    with pytest.raises(SystemExit) as end:
        main()
    kept = f"finished work is kept in {run}; " if command == "prepare" else ""
    assert (end.value.code, *capsys.readouterr()) == (
        code,
        "",
        f"interrupted: {kept}run the same command again to resume\n",
    )


def test_benchmarks_are_in_the_projects_folder(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    for name in ("benchmarks", "benchmarks.harness"):  # as where the package alone is installed
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr("sys.argv", ["salt-ray", "bench", "rle"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == EXIT_ERROR
    assert "error: benchmarks are not installed: run python launch.py bench in a checkout" in capsys.readouterr().err


def test_one_engine_has_no_address(survey: Path, tmp_path: Path) -> None:
    words = ["train", "--data", str(survey), "--run-dir", str(tmp_path), "--engine", "local", "--address", "h:1"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2 and "--address cannot be used with --engine local" in " ".join(result.output.split())
