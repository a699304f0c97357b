"""What cannot be reported is one clear error with its fix, in the function and on the command line."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from salt_ray.artifacts import RunDirectory
from salt_ray.cli.main import EXIT_ERROR, main
from salt_ray.errors import RunError
from salt_ray.report.finished import FinishedRun, check_finished


def test_what_cannot_be_reported_is_one_sentence(made_run: FinishedRun, tmp_path: Path) -> None:
    check_finished(made_run.run)
    run = RunDirectory(tmp_path)
    with pytest.raises(RunError, match=r"there is no run in .*--run-dir"):
        check_finished(run)
    run.experiment.write_text("{}")
    with pytest.raises(RunError, match="has no scores yet: run pipeline"):
        check_finished(run)
    run.study.mkdir()
    with pytest.raises(RunError, match=r"contains a search but no scored run: use python launch\.py study"):
        check_finished(run)
    shutil.rmtree(run.study)
    run.seeds.write_text("{}")
    with pytest.raises(RunError, match="contains a run for each seed"):
        check_finished(run)


@pytest.mark.parametrize("words", [["RUN"], ["--run-dir", "RUN"]])
def test_on_the_command_line_it_is_an_error_without_a_traceback(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    named = [word.replace("RUN", str(tmp_path / "absent")) for word in words]
    monkeypatch.setattr(sys, "argv", ["launch.py", "report", *named])
    with pytest.raises(SystemExit) as exit:
        main()
    assert exit.value.code == EXIT_ERROR
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: there is no run in {tmp_path / 'absent'}") and printed.count("\n") == 1
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize("words", [[], ["a", "--run-dir", "b"]])
def test_one_run_is_named(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["launch.py", "report", *words])
    with pytest.raises(SystemExit) as exit:
        main()
    assert exit.value.code == 2 and "give exactly one run" in capsys.readouterr().err
