"""Plain lines where nobody can see lines move, and a table that shows every score."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console
from rich.table import Table

from salt_ray.inference.scores import Spread
from salt_ray.report import terminal
from salt_ray.report.terminal import Terminal
from salt_ray.streams import make_output_safe
from salt_ray.training.progress import Progress, StepProgress


def progress(epoch: int, fold: int = 0) -> Progress:
    return Progress("random", fold, "plateau", epoch, 3, 0.5, 0.6, 0.7, 0.8, 0.01, 123.4, 3725.0, 0.0)


def captured(**options: bool) -> tuple[Terminal, io.StringIO]:
    stream = io.StringIO()
    return Terminal(Console(file=stream, width=160, **options)), stream


def test_in_a_pipe_lines_are_plain_and_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    shown, stream = captured()
    with shown.folds(["random-fold-0"]) as report:
        for epoch, seconds in ((1, 0), (2, 1), (2, 30), (3, 1)):
            now[0] += seconds
            report(progress(epoch))
    lines = stream.getvalue().splitlines()
    assert [line.split("epoch ")[1][:3] for line in lines] == ["1/3", "2/3", "3/3"]  # soon after the first: left out
    assert lines[0] == (
        "random-fold-0  stage plateau  epoch 1/3  loss 0.5000  score 0.7000  best 0.8000  lr 1.00e-02  "
        "tiles/s 123  left 1:02:05"
    )
    assert "\x1b" not in stream.getvalue()


def within(step: int, steps: int = 400) -> StepProgress:
    return StepProgress("random", 0, "plateau", 2, 3, step, steps, 0.4321, 85.2, 3725.0)


def test_steps_in_a_pipe_are_lines_at_most_twice_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    shown, stream = captured()
    with shown.folds(["random-fold-0"]) as report:
        for one in (progress(1), *(within(step) for step in range(10, 401, 10)), progress(2)):
            report(one)
            now[0] += 5.0  # as often as a worker reports
    lines = stream.getvalue().splitlines()
    steps = [line for line in lines if "step " in line]
    assert steps[0] == ("random-fold-0  stage plateau  epoch 2/3  step 60/400  loss 0.4321  tiles/s 85  left 1:02:05")
    assert [line.split("step ")[1].split("/")[0] for line in steps] == ["60", "120", "180", "240", "300", "360"]
    assert [line.split("epoch ")[1][:3] for line in lines if line not in steps] == ["1/3", "2/3"]  # none is left out


def test_steps_in_a_terminal_keep_the_score_of_the_epoch_before() -> None:
    shown, stream = captured(force_terminal=True)
    with shown.folds(["random-fold-0"]) as report:
        report(progress(1))
        assert "step" not in rows(stream)[0]  # short epochs have no column of steps
        report(within(120))
    heading, line = rows(stream)
    assert heading == ["fold", "stage", "epoch", "step", "loss", "score", "best", "lr", "tiles/s", "left"]
    assert line == [
        "random-fold-0",
        "plateau",
        "2/3",
        "120/400",
        "0.4321",
        "0.7000",
        "0.8000",
        "1.00e-02",
        "85",
        "1:02:05",
    ]
    with shown.folds(["random-fold-0"]) as report:
        report(within(400))
    assert "validation" in rows(stream)[1]


def rows(stream: io.StringIO) -> list[list[str]]:
    """The words of the newest table that was drawn, without what moves the cursor."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue()).replace("\r", "\n")
    lines = [line.split() for line in text.splitlines() if line.strip()]
    newest = max(number for number, words in enumerate(lines) if words[0] == "fold")
    return lines[newest : newest + 2]


def test_in_a_terminal_every_fold_has_one_live_line() -> None:
    shown, stream = captured(force_terminal=True)
    with shown.folds(["random-fold-0", "random-fold-1"]) as report:
        report(progress(1))
        report(progress(2, fold=1))
    last = stream.getvalue().split("fold   ")[-1]
    for words in ("random-fold-0", "random-fold-1", "1/3", "2/3", "1:02:05"):
        assert words in last


def test_a_bar_in_a_pipe_ends_with_everything_done() -> None:
    shown, stream = captured()
    with shown.bar("predicting", 10, "tiles") as advance:
        for _ in range(5):
            advance(2)
    assert stream.getvalue().splitlines()[-1].startswith("predicting  10/10 tiles")


def test_the_table_shows_every_score_and_says_when_there_is_none() -> None:
    shown, stream = captured()
    scores = {
        "folds": {"0": 0.51, "1": 0.52}, "oof": 0.515, "oof_tiles": 3920, "holdout": 0.53, "holdout_tiles": 387,
        "trivial": {"all_empty": 0.38, "best_constant": None}, "rules": {},
    }  # fmt: skip
    shown.scores(scores)
    text = stream.getvalue()
    for words in (
        "fold 1",
        "0.5200",
        "out of fold (3,920)",
        "0.5150",
        "hold-out (387)",
        "all empty (out of fold)",
        "none",
    ):
        assert words in text
    assert "test truth" not in text and "mosaic rule" not in text


def evidence(gain: float, kept: bool) -> dict:
    words = {"kept": kept, "reason": None if kept else "gain not shown"}
    found = {"before": 0.5, "after": 0.5 + gain, "gain": gain, "interval": [gain - 0.004, gain + 0.004]}
    return found | {"p": 0.0312, "mosaics": 12, "tiles": 1034} | words


def test_every_rule_is_shown_with_its_evidence() -> None:
    shown, stream = captured()
    rules = {
        "alone": {"fill_holes": evidence(-0.0021, False), "copy_down": evidence(0.0123, True)},
        "kept": ["copy_down"],
        "together": evidence(0.0123, True),
        "test": {"before": 0.5, "after": 0.52},
        "test_of_each": {"fill_holes": 0.4985, "copy_down": 0.52},
    }
    scores = {"folds": {}, "oof": 0.5, "oof_tiles": 1, "trivial": {"all_empty": 0.3, "best_constant": 0.1}}
    shown.scores(scores | {"test": 0.52, "test_tiles": 9, "rules": rules})
    lines = stream.getvalue().splitlines()
    (holes,) = [line for line in lines if "fill_holes" in line]
    assert "-0.0021 (-0.0061 … +0.0019)" in holes and "-0.0015" in holes and "gain not shown" in holes
    (copies,) = [line for line in lines if "copy_down" in line]
    assert "+0.0123 (+0.0083 … +0.0163)" in copies and "+0.0200" in copies and "yes" in copies
    assert "0.031" in copies
    assert any("all kept rules" in line and "+0.0200" in line for line in lines)


def test_rules_that_were_given_are_shown_with_the_test_truth_alone() -> None:
    shown, stream = captured()
    rules = {"alone": {}, "kept": ["fill_holes"], "together": None, "test": {"before": 0.5, "after": 0.49}}
    scores = {"folds": {}, "oof": 0.5, "oof_tiles": 1, "trivial": {"all_empty": 0.3, "best_constant": 0.1}}
    shown.scores(scores | {"test": 0.49, "test_tiles": 9, "rules": rules | {"test_of_each": {"fill_holes": 0.49}}})
    assert "not tried" in stream.getvalue() and "-0.0100" in stream.getvalue()


@pytest.mark.parametrize("width", [20, 80])
def test_a_table_in_a_file_is_as_wide_as_it_needs(width: int) -> None:
    stream = io.StringIO()
    table = Table(*(f"a heading of column {i}" for i in range(20)))
    table.add_row(*(f"{i} " + "x" * 30 for i in range(20)))
    Terminal(Console(file=stream, width=width)).table(table)
    lines = stream.getvalue().splitlines()
    assert len({len(line) for line in lines}) == 1 and "…" not in stream.getvalue()
    assert all(f"a heading of column {i}" in lines[1] and f"{i} {'x' * 30}" in lines[3] for i in range(20))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_scores_are_shown_where_the_encoding_is_poor(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding=encoding))
    make_output_safe()
    shown = Terminal()
    scores = {"folds": {"0": 0.51}, "oof": 0.515, "oof_tiles": 3920, "rules": {}}
    shown.scores(scores | {"trivial": {"all_empty": 0.38, "best_constant": None}})
    shown.seeds({"oof": Spread((0.5, 0.6))}, 2)
    shown.console.file.flush()
    text = written.getvalue().decode(encoding)
    assert "0.5150" in text and "\\u2026" in text and "0.5500" in text


def test_lines_are_shown_as_they_are() -> None:
    shown, stream = captured()
    shown.say("[bold] /a/very/long/path" + "x" * 300)
    assert stream.getvalue() == "[bold] /a/very/long/path" + "x" * 300 + "\n"


@pytest.mark.parametrize(("file", "words"), [(None, "the output of ray get-auth-token"), ("/t", "the token in /t")])
def test_the_dashboards_token_is_where_it_says(file: str | None, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    if file:
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", file)
    shown, stream = captured()
    shown.dashboard("127.0.0.1:8265")
    assert stream.getvalue() == f"Ray dashboard: http://127.0.0.1:8265 (log in once with {words})\n"


def test_a_quiet_one_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    show(Terminal(quiet=True))
    assert capfd.readouterr() == ("", "")


def test_standard_output_is_left_to_a_result(capfd: pytest.CaptureFixture[str]) -> None:
    show(Terminal(to_stderr=True))
    output, messages = capfd.readouterr()
    assert output == "" and "a line" in messages and "predicting" in messages and "a cell" in messages


def show(terminal: Terminal) -> None:
    table = Table("heading")
    table.add_row("a cell")
    terminal.say("a line")
    terminal.table(table)
    with terminal.bar("predicting", 2, "tiles") as advance:
        advance(2)
    with terminal.folds(["random-fold-0"]) as report:
        report(progress(1))
