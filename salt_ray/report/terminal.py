"""What a person sees while a run goes on: live lines in a terminal, plain lines in a pipe or in CI."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial
from rich.console import Console
from rich.live import Live
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from salt_ray.config import FullTiles
from salt_ray.inference.scores import Spread
from salt_ray.report.trials import TrialView, clock
from salt_ray.report.verdicts import SCORE_TITLES, gain_text, in_words
from salt_ray.storage import StoragePath
from salt_ray.survey.prepared import PreparedSurvey
from salt_ray.training.progress import Progress as FoldProgress

PLAIN_SECONDS = 10  # at most one plain line per fold (and per bar) in this time
PLAIN_TABLE_SECONDS = 300  # a plain table of trials at least this often while they run, and when one ends
ENDLESS = 10_000  # characters


class Terminal:
    """Prints to ``console``; only a real terminal gets lines that move.

    Args:
        quiet: print nothing (what fails is an exception, not a line).
        to_stderr: leave standard output to a result for programs.
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False, to_stderr: bool = False) -> None:
        self.console = console or Console(highlight=False, quiet=quiet, stderr=to_stderr)

    def say(self, line: str) -> None:
        """One line, as it is."""
        self.console.print(line, markup=False, soft_wrap=True)

    def table(self, table: Table) -> None:
        """A table; outside a terminal as wide as it needs to be, whatever width is assumed there."""
        console = self.console
        if not console.is_terminal:
            endless = console.options.update(max_width=ENDLESS)
            width = Measurement.get(console, endless, table).maximum
            console = Console(file=console.file, width=width, highlight=False, quiet=console.quiet)
        console.print(table)

    def dashboard(self, address: str | None) -> None:
        """Where Ray can be watched: ``host:port``, or None."""
        if address:
            file = os.environ.get("RAY_AUTH_TOKEN_PATH")
            token = f"the token in {file}" if file else "what ray get-auth-token prints"
            self.say(f"Ray dashboard: http://{address} (it asks once for {token})")
        else:
            self.say("this Ray has no dashboard")

    def account(self, prepared: PreparedSurvey, for_training: bool = True) -> None:
        """What a survey's files are, what was assumed of them, and for training what goes without."""
        frame = prepared.frame
        for line in prepared.survey.account:
            if for_training or not line.startswith("without "):
                self.say(line)
        whole = f"tiles that are padded from {frame.tile_px} to {frame.padded_px} px"
        if prepared.survey.window is not None:
            whole = f"windows with what is around them, {frame.padded_px} px"
        self.say(f"assumed: networks see crops of {frame.crop_px} px, out of {whole}")

    def survey(self, directory: Path, prepared: PreparedSurvey) -> None:
        """What a survey holds."""
        survey = prepared.survey
        labelled, constant = survey.labelled, survey.constant
        frame = prepared.frame
        self.say(
            f"{directory}: {labelled:,} labelled and {survey.unlabelled:,} unlabelled tiles of "
            f"{frame.tile_px} x {frame.tile_px} px, {constant.sum():,} of one colour set aside "
            f"({constant[:labelled].sum():,} labelled), {prepared.held_out.sum():,} held out; "
            f"{labelled - (survey.masks > 0).any(axis=(1, 2)).sum():,} masks are empty"
        )

    def full_tiles(self, full_tiles: FullTiles, prepared: PreparedSurvey) -> None:
        """What a prediction that fills its tile becomes."""
        masks = prepared.survey.masks[prepared.trainable]
        count = (masks > 0).all(axis=(1, 2)).sum()
        becomes = {"salt": "stays salt", "empty": "becomes empty"}[full_tiles]
        self.say(
            f"assumed: a prediction that fills its tile {becomes} (labels.full_tiles={full_tiles}); of "
            f"{(masks > 0).any(axis=(1, 2)).sum():,} labels with salt, the hold-out aside, {count:,} do"
        )

    @contextlib.contextmanager
    def folds(self, names: Sequence[str]) -> Iterator[Callable[[FoldProgress], None]]:
        """One line per fold that follows it: epoch, loss, score, best, lr, tiles/s, time left."""
        newest: dict[str, FoldProgress] = {}
        if not self.console.is_terminal:
            spoken: dict[str, float] = {}

            def speak(progress: FoldProgress) -> None:
                name = progress.name
                last = progress.epoch == progress.epochs
                if last or time.monotonic() - spoken.get(name, 0) >= PLAIN_SECONDS:
                    spoken[name] = time.monotonic()
                    cells = (f"{heading} {cell(progress)}" for heading, cell in FOLD_CELLS.items())
                    self.say("  ".join([name, *cells]))

            yield speak
            return

        with Live(_fold_table(names, newest), console=self.console, refresh_per_second=4) as live:

            def show(progress: FoldProgress) -> None:
                newest[progress.name] = progress
                live.update(_fold_table(names, newest))

            yield show

    @contextlib.contextmanager
    def trials(self, parameters: Sequence[str], asked: int, ended: Sequence[FrozenTrial]) -> Iterator[TrialView]:
        """A live table of a search; in a pipe or a job's log lines as trials begin and end, and the table."""
        if self.console.is_terminal:
            with Live(console=self.console, refresh_per_second=4) as live:

                def show(view: TrialView, event: str | None) -> None:
                    if event is not None and "failed" in event:  # the table has no room for reasons
                        self.say(event)
                    live.update(view.table())

                yield TrialView(parameters, asked, ended, show, self.say)
            return
        spoken, count = time.monotonic(), len(ended)

        def speak(view: TrialView, event: str | None) -> None:
            nonlocal spoken, count
            if event is not None:
                self.say(event)
            if view.ended > count or time.monotonic() - spoken >= PLAIN_TABLE_SECONDS:
                spoken, count = time.monotonic(), view.ended
                self.table(view.table())

        yield TrialView(parameters, asked, ended, speak, self.say)

    @contextlib.contextmanager
    def bar(self, title: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        """A bar with the time left; the yielded function takes how many came just now."""
        if not self.console.is_terminal:
            done, spoken, first = 0, time.monotonic(), None

            def speak(count: int) -> None:
                nonlocal done, spoken, first
                done += count
                now = time.monotonic()
                first = first or (now, done)  # the speed is counted from here: before it, models were loaded
                if now - spoken >= PLAIN_SECONDS or done == total:
                    spoken = now
                    rate = (done - first[1]) / (now - first[0]) if now > first[0] else 0
                    left = f"  {rate:.0f}/s  {clock((total - done) / rate)} left" if rate else ""
                    self.say(f"{title}  {done:,}/{total:,} {unit}{left}")

            yield speak
            return

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
        with Progress(*columns, TimeRemainingColumn(), console=self.console) as progress:
            task = progress.add_task(title, total=total)
            yield lambda count: progress.advance(task, count)

    def rules(self, rules: Mapping[str, Any], folder: StoragePath) -> None:
        """What post-processing chose, and where it lies."""
        kept = ", ".join(rules["kept"]) or "none"
        tried = f" of {len(rules['alone'])} tried on hidden labels" if rules["alone"] else ""
        reasons = Counter(in_words(name, rules).kept for name in rules["alone"] if name not in rules["kept"])
        others = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        self.say(f"mosaic rules kept: {kept}{tried}{others and f' ({others})'}; pictures and changes: {folder}")

    def scores(self, scores: Mapping[str, Any]) -> None:
        """The table at the end of a run."""
        table = Table("tiles judged", "score", title="score: mean over IoU thresholds 0.50 … 0.95")
        table.columns[1].justify = "right"
        for name, value in scores["folds"].items():
            table.add_row(f"fold {name}", f"{value:.4f}")
        for name, title in SCORE_TITLES.items():
            if name in scores:
                table.add_row(f"{title} ({scores[name + '_tiles']:,})", f"{scores[name]:.4f}", style="bold")
        where = SCORE_TITLES["test" if "test" in scores else "oof"]
        table.add_section()
        for name, title in (("all_empty", "all empty"), ("best_constant", "best constant mask")):
            value = scores["trivial"][name]
            table.add_row(f"{title} ({where})", "none" if value is None else f"{value:.4f}")
        self.table(table)
        rules = scores["rules"]
        if rules.get("alone") or rules.get("test_of_each"):
            self.table(_rule_table(rules))

    def seeds(self, spreads: Mapping[str, Spread], count: int) -> None:
        """The scores over several seeds."""
        table = Table("tiles judged", "mean ± sd", "each", title=f"scores over {count} seeds")
        table.columns[1].justify = "right"
        for name, spread in spreads.items():
            each = "  ".join(f"{value:.4f}" for value in spread.each)
            style = "bold" if name in SCORE_TITLES else ""
            table.add_row(SCORE_TITLES.get(name, name), f"{spread.mean:.4f} ± {spread.sd:.4f}", each, style=style)
        self.table(table)


def _rule_table(rules: Mapping[str, Any]) -> Table:
    """Each rule alone: what it changed on hidden labels, and what on the test truth (where nothing is chosen by it)."""
    names = Column("mosaic rule", no_wrap=True)
    table = Table(names, "hidden labels", "p", "kept", title="what each rule alone adds to the score")
    each = rules.get("test_of_each", {})
    if each:
        table.add_column("test truth")
    for name in rules["alone"] or each:
        words = in_words(name, rules)
        table.add_row(name, words.gain, words.chance, words.kept, *([words.test] if each else []))
    table.add_section()
    together = gain_text(rules["together"]) if rules["together"] else ""
    test = [f"{rules['test']['after'] - rules['test']['before']:+.4f}"] if each else []
    table.add_row("kept ones together", together, "", "", *test, style="bold")
    return table


#: What is shown of a fold, by its heading.
FOLD_CELLS: Mapping[str, Callable[[FoldProgress], str]] = {
    "stage": lambda now: now.stage,
    "epoch": lambda now: f"{now.epoch}/{now.epochs}",
    "loss": lambda now: f"{now.loss:.4f}",
    "score": lambda now: f"{now.score:.4f}",
    "best": lambda now: f"{now.best_score:.4f}",
    "lr": lambda now: f"{now.lr:.2e}",
    "tiles/s": lambda now: "?" if math.isnan(now.tiles_per_second) else f"{now.tiles_per_second:.0f}",
    "left": lambda now: clock(now.seconds_left),
}


def _fold_table(names: Sequence[str], newest: Mapping[str, FoldProgress]) -> Table:
    table = Table("fold", *FOLD_CELLS, box=None)
    for name in names:
        cells = [cell(newest[name]) for cell in FOLD_CELLS.values()] if name in newest else ["waiting"]
        table.add_row(name, *cells)
    return table
