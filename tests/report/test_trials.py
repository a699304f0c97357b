"""What a person sees of a search: a line a trial, how it stands, and no more of it than there is room for."""

from __future__ import annotations

import io
import math

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from rich.console import Console

from salt_ray.report import terminal, trials
from salt_ray.report.terminal import Terminal
from salt_ray.report.trials import SHOWN, TrialView, clock
from salt_ray.training.progress import Progress
from salt_ray.tuning.trial import Step

LR = optuna.distributions.FloatDistribution(1e-4, 1, log=True)


def ended(number: int, state: TrialState, value: float | None = None, reason: str | None = None) -> FrozenTrial:
    trial = create_trial(
        state=state,
        value=value,
        params={"lr": 0.01 * (number + 1)},
        distributions={"lr": LR},
        intermediate_values={} if value is None else {4: value},
        user_attrs={} if reason is None else {"reason": reason},
    )
    trial.number = number
    return trial


def step(epoch: int, value: float) -> Step:
    progress = Progress(
        training="random", fold=0, stage="plateau", epoch=epoch, epochs=4, loss=0.5, validation_loss=0.6, score=value,
        best_score=value, lr=0.01, tiles_per_second=9.0, seconds_left=math.nan, time=0.0,
    )  # fmt: skip
    return Step(epoch, value, True, progress)


def shown(view: TrialView) -> list[str]:
    console = Console(file=io.StringIO(), width=160)
    console.print(view.table())
    return console.file.getvalue().splitlines()


@pytest.fixture
def view(monkeypatch: pytest.MonkeyPatch) -> TrialView:
    now = iter(range(0, 10_000, 10))  # every look at the clock is ten seconds later
    monkeypatch.setattr(trials.time, "monotonic", lambda: next(now))
    return TrialView(["lr"], 6, [], lambda view, event: None, lambda line: None)


def test_every_trial_is_a_line_with_its_values_epoch_and_score(view: TrialView) -> None:
    view.begin(0, {"lr": 0.01})
    view.step(0, step(1, 0.25))
    view.step(0, step(2, 0.3125))
    assert [line.split() for line in shown(view)][1] == ["0000", "0.01", "running", "random-fold-0", "2/4", "0.3125"]
    view.end(ended(0, TrialState.COMPLETE, 0.5))
    assert shown(view)[1].split()[2] == "complete"


def test_the_caption_counts_names_the_best_and_tells_the_time(view: TrialView) -> None:
    assert view.caption() == "0 of 6 trials ended"
    for number, (state, value) in enumerate(
        [(TrialState.COMPLETE, 0.5), (TrialState.PRUNED, 0.9), (TrialState.FAIL, None), (TrialState.COMPLETE, 0.5)]
    ):
        view.begin(number, {"lr": 0.1})
        if value is not None:
            view.step(number, step(4, value))
        view.end(ended(number, state, value, "the loss is nan" if value is None else None))
    # each took ten seconds, two are left, one at a time; the earlier of equals is the best, and no pruned one
    assert view.caption() == "4 of 6 trials ended (1 pruned, 1 failed), best 0.5000 by trial-0000, about 0:20 left"


def test_earlier_trials_count_but_do_not_tell_how_long_one_takes() -> None:
    earlier = [ended(0, TrialState.COMPLETE, 0.4), ended(1, TrialState.PRUNED, 0.2)]
    view = TrialView(["lr"], 3, earlier, lambda view, event: None, lambda line: None)
    assert view.caption() == "2 of 3 trials ended (1 pruned), best 0.4000 by trial-0000"
    assert [line.split()[2] for line in shown(view)[1:3]] == ["complete", "pruned"]


def test_a_long_search_shows_the_newest_the_first_and_the_best(view: TrialView) -> None:
    for number in range(3 * SHOWN):
        view.begin(number, {"lr": 0.1})
        view.step(number, step(4, 0.9 if number == 5 else 0.3))
        view.end(ended(number, TrialState.COMPLETE, 0.9 if number == 5 else 0.3))
    numbers = [int(line.split()[0]) for line in shown(view)[1:] if line.split()[0].isdigit() and "of" not in line]
    assert numbers == [0, 5, *range(2 * SHOWN, 3 * SHOWN)]


def test_a_pipe_gets_a_line_an_event_and_a_table_when_a_trial_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now)
    console = Console(file=io.StringIO(), width=80)
    with Terminal(console).trials(["lr"], 2, []) as view:
        view.begin(0, {"lr": 0.01})
        view.step(0, step(1, 0.25))
        assert console.file.getvalue() == "trial-0000 begins: lr 0.01\n"
        now += terminal.PLAIN_TABLE_SECONDS
        view.step(0, step(2, 0.25))
        view.step(0, step(3, 0.25))
        assert console.file.getvalue().count("epoch") == 1
        view.end(ended(0, TrialState.FAIL, reason="the loss is nan"))
        lines = console.file.getvalue().splitlines()
        assert (
            "trial-0000 failed, score 0.2500: the loss is nan; 1 of 2 trials ended (1 failed), about 5:00 left" in lines
        )
        assert console.file.getvalue().count("epoch") == 2
    assert "\x1b" not in console.file.getvalue()


def test_durations() -> None:
    assert [clock(seconds) for seconds in (0, 61.9, 3600, math.nan)] == ["0:00", "1:01", "1:00:00", "?"]
