"""docs/tutorials.md runs from top to bottom, and prints what it shows but for the figures."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest
from test_docs import FENCE, launches, lines, shell_lines, words_of
from typer.testing import CliRunner

from salt_ray.cli.main import app
from salt_ray.survey.tiles import load_survey

pytestmark = pytest.mark.usefixtures("one_thread")
PAGE = Path(__file__).parents[1] / "docs" / "tutorials.md"
LOCAL, CLUSTER = PAGE.read_text().split("## A search on a cluster")
SHORTER = ("epochs=8", "epochs=1")  # for one slow core


def shape(line: str) -> str:
    """A line without what differs from run to run: figures, and the width of a table."""
    return re.sub(r"[\s─━]+", " ", re.sub(r"\d[\d,.]*(e[-+]\d+)?", "#", line)).strip()


def shows(output: str, shown: str) -> str | None:
    """The first line that is shown and not printed, in this order; … stands for lines that are left out."""
    printed = iter(map(shape, output.splitlines()))
    for line in shown.splitlines():
        if line != "…" and shape(line) not in printed:
            return line
    return None


def typed(command: str) -> str:
    """What a command line of the page prints."""
    _, launcher, *arguments = words_of(command.replace(*SHORTER))[0]
    assert launcher == "launch.py"
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, f"{command}\n{result.output}"
    return result.output


def executed(code: str, names: dict) -> str:
    """What Python code of the page prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, PAGE.name, "exec"), names)
    return printed.getvalue()


@pytest.mark.slow  # half a minute, for commands that other tests run one by one
def test_the_tutorials_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    printed = ""
    for label, text in FENCE.findall(LOCAL):
        if label == "text":
            assert shows(printed.replace(f"{tmp_path}/", ""), text) is None, printed
            printed = ""
        elif label == "python":
            printed += executed(text, names)
        else:
            printed += "".join(map(typed, shell_lines(text)))
    survey = load_survey(tmp_path / "survey")
    np.testing.assert_array_equal(survey.images[:60], names["images"])
    np.testing.assert_array_equal(survey.masks, names["masks"])
    assert names["prediction"].masks.shape == (5, 48, 48)
    for path in ("runs/own/masks.zip", "runs/later/summary.json", "predicted/report.html"):
        assert (tmp_path / path).is_file()


def test_the_commands_for_a_cluster_parse() -> None:
    """Those of Ray; test_docs.py parses those of launch.py."""
    from ray.scripts.scripts import cli

    assert sum("--address" in words for _, words in launches(PAGE)) >= 2
    called = [words for where, words in lines(PAGE) if words[0] == "ray"]
    assert {words[1] for words in called} == {"up", "dashboard", "rsync-down", "down"}
    for _, name, *arguments in called:
        assert cli.commands[name].make_context(name, list(arguments)).params


def test_what_is_not_printed_is_noticed() -> None:
    printed = "padding 3 tiles\nfold 0 | 0.25 |\nend\n"
    assert shows(printed, "padding 80 tiles\n…\nend") is None
    assert shows(printed, "end\npadding 80 tiles") == "padding 80 tiles"
    assert shows(printed, "fold 1  | 1.0 |\nthe end") == "the end"
