"""Terminal output of a run: live tables in a terminal, plain lines in a pipe or in CI."""

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
from rich.markup import escape
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from salt_ray.config import FullTiles
from salt_ray.inference.scores import Spread
from salt_ray.report.plan import Plan, duration
from salt_ray.report.trials import TrialView, clock
from salt_ray.report.verdicts import SCORE_TITLES, gain_text, in_words
from salt_ray.storage import StoragePath
from salt_ray.survey.prepared import PreparedSurvey
from salt_ray.training.progress import Progress as FoldProgress
from salt_ray.training.progress import StepProgress

PLAIN_SECONDS = 10  # shortest time between plain lines of a fold or a bar
PLAIN_TABLE_SECONDS = 300  # longest time between plain tables of trials; also printed when a trial ends
PLAIN_STEP_SECONDS = 30  # shortest time between plain lines of a fold within an epoch
ENDLESS = 10_000  # characters


class Terminal:
    """Prints to ``console``; live output only in a real terminal.

    Args:
        quiet: print nothing (failures are raised as exceptions).
        to_stderr: print to standard error, keeping standard output for machine-readable results.
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False, to_stderr: bool = False) -> None:
        self.console = console or Console(highlight=False, quiet=quiet, stderr=to_stderr)

    def say(self, line: str) -> None:
        """Print one line, without markup."""
        self.console.print(line, markup=False, soft_wrap=True)

    def table(self, table: Table) -> None:
        """Print a table; outside a terminal it is never wrapped."""
        console = self.console
        if not console.is_terminal:
            endless = console.options.update(max_width=ENDLESS)
            width = Measurement.get(console, endless, table).maximum
            console = Console(file=console.file, width=width, highlight=False, quiet=console.quiet)
        console.print(table)

    def dashboard(self, address: str | None) -> None:
        """Print the address of Ray's dashboard, ``host:port``, or that there is none."""
        if address:
            file = os.environ.get("RAY_AUTH_TOKEN_PATH")
            token = f"the token in {file}" if file else "the output of ray get-auth-token"
            self.say(f"Ray dashboard: http://{address} (log in once with {token})")
        else:
            self.say("Ray runs without a dashboard")

    def account(self, prepared: PreparedSurvey, for_training: bool = True) -> None:
        """Print a survey's files and the assumptions about them; for training also what is missing."""
        frame = prepared.frame
        for line in prepared.survey.account:
            if for_training or not line.startswith("without "):
                self.say(line)
        whole = f"tiles padded from {frame.tile_px} to {frame.padded_px} px"
        if prepared.survey.window is not None:
            whole = f"windows with context, {frame.padded_px} px"
        self.say(f"assumed: network input is a crop of {frame.crop_px} px from {whole}")

    def survey(self, directory: Path, prepared: PreparedSurvey) -> None:
        """Print the number of tiles of each kind."""
        survey = prepared.survey
        labelled, constant = survey.labelled, survey.constant
        frame = prepared.frame
        self.say(
            f"{directory}: {labelled:,} labelled and {survey.unlabelled:,} unlabelled tiles of "
            f"{frame.tile_px} x {frame.tile_px} px, {constant.sum():,} constant ones set aside "
            f"({constant[:labelled].sum():,} labelled), {prepared.held_out.sum():,} held out; "
            f"{labelled - (survey.masks > 0).any(axis=(1, 2)).sum():,} masks are empty"
        )

    def full_tiles(self, full_tiles: FullTiles, prepared: PreparedSurvey) -> None:
        """Print how predictions that fill their tile are handled."""
        masks = prepared.survey.masks[prepared.trainable]
        count = (masks > 0).all(axis=(1, 2)).sum()
        becomes = {"salt": "is kept", "empty": "is removed"}[full_tiles]
        self.say(
            f"assumed: a prediction that fills its tile {becomes} (labels.full_tiles={full_tiles}); {count:,} of "
            f"{(masks > 0).any(axis=(1, 2)).sum():,} labels with salt outside the hold-out fill their tile"
        )

    @contextlib.contextmanager
    def folds(
        self, names: Sequence[str], plan: Plan | None = None
    ) -> Iterator[Callable[[FoldProgress | StepProgress], None]]:
        """Show one row per fold: epoch, step, loss, score, best, lr, tiles/s, time left.

        Args:
            plan: estimates the time for all folds once their speed is known.
        """
        rows: dict[str, Row] = {}
        spoken: dict[str, float] = {}

        def speak(progress: FoldProgress | StepProgress) -> None:
            name, now, within = progress.name, time.monotonic(), isinstance(progress, StepProgress)
            kind = "step" if within else "epoch"
            last = not within and progress.epoch == progress.epochs
            if last or now - spoken.get(name + kind, -math.inf) >= (PLAIN_STEP_SECONDS if within else PLAIN_SECONDS):
                spoken[name + kind] = spoken[name + "step"] = now  # steps wait after an epoch's line
                self.say("  ".join([name, *(f"{heading} {cell}" for heading, cell in cells_of(progress).items())]))

        with contextlib.ExitStack() as open_:
            live = None
            if self.console.is_terminal:
                live = open_.enter_context(Live(_fold_table(names, rows), console=self.console, refresh_per_second=4))

            def show(progress: FoldProgress | StepProgress) -> None:
                if plan is not None and (line := plan.see(progress)) is not None:
                    self.say(line)
                if live is None:
                    speak(progress)
                    return
                # Score, best and learning rate are those of the last complete epoch.
                before = rows.get(progress.name, {}) if isinstance(progress, StepProgress) else {}
                rows[progress.name] = before | cells_of(progress)
                live.update(_fold_table(names, rows, plan))

            yield show

    @contextlib.contextmanager
    def trials(self, parameters: Sequence[str], asked: int, ended: Sequence[FrozenTrial]) -> Iterator[TrialView]:
        """Show a live table of a search; in a pipe or a job's log, lines as trials start and end, and the table."""
        if self.console.is_terminal:
            with Live(console=self.console, refresh_per_second=4) as live:

                def show(view: TrialView, event: str | None) -> None:
                    if event is not None and "failed" in event:  # the table has no column for reasons
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
        """Show a progress bar with the time left; the yielded function takes the number of new items."""
        if not self.console.is_terminal:
            done, spoken, first = 0, time.monotonic(), None

            def speak(count: int) -> None:
                nonlocal done, spoken, first
                done += count
                now = time.monotonic()
                first = first or (now, done)  # measure speed from here, after models have been loaded
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
        """Print the rules that post-processing chose, and where the results are."""
        kept = ", ".join(rules["kept"]) or "none"
        tried = f" of {len(rules['alone'])} tried on hidden labels" if rules["alone"] else ""
        reasons = Counter(in_words(name, rules).kept for name in rules["alone"] if name not in rules["kept"])
        others = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        self.say(f"mosaic rules kept: {kept}{tried}{others and f' ({others})'}; pictures and changes: {folder}")

    def scores(self, scores: Mapping[str, Any]) -> None:
        """Print the table of scores at the end of a run."""
        table = Table("scored on", "score", title="score: mean over IoU thresholds 0.50 … 0.95")
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
        """Print the scores over several seeds."""
        table = Table("scored on", "mean ± sd", "each", title=f"scores over {count} seeds")
        table.columns[1].justify = "right"
        for name, spread in spreads.items():
            each = "  ".join(f"{value:.4f}" for value in spread.each)
            style = "bold" if name in SCORE_TITLES else ""
            table.add_row(SCORE_TITLES.get(name, name), f"{spread.mean:.4f} ± {spread.sd:.4f}", each, style=style)
        self.table(table)


def findings_table(findings: Sequence[tuple[str, str, str, str | None]]) -> Table:
    """Table of the findings of ``salt_ray.installation.examine``."""
    table = Table(
        Column("part", no_wrap=True), Column("what", no_wrap=True), Column("found", overflow="fold"), box=None
    )
    before = None
    for part, name, value, fix in findings:
        table.add_row("" if part == before else part, name, escape(value), style="bold red" if fix else None)
        before = part
    return table


def _rule_table(rules: Mapping[str, Any]) -> Table:
    """Each rule on its own: its effect on hidden labels, and on the test truth, which is not used for choosing."""
    names = Column("mosaic rule", no_wrap=True)
    table = Table(names, "hidden labels", "p", "kept", title="score gained by each rule on its own")
    each = rules.get("test_of_each", {})
    if each:
        table.add_column("test truth")
    for name in rules["alone"] or each:
        words = in_words(name, rules)
        table.add_row(name, words.gain, words.chance, words.kept, *([words.test] if each else []))
    table.add_section()
    together = gain_text(rules["together"]) if rules["together"] else ""
    test = [f"{rules['test']['after'] - rules['test']['before']:+.4f}"] if each else []
    table.add_row("all kept rules", together, "", "", *test, style="bold")
    return table


HEADINGS = ("stage", "epoch", "step", "loss", "score", "best", "lr", "tiles/s", "left")
Row = dict[str, str]  # cells of a fold, by heading


def cells_of(progress: FoldProgress | StepProgress) -> Row:
    """Cells of a fold after an epoch, or within one."""
    cells = {"stage": progress.stage, "epoch": f"{progress.epoch}/{progress.epochs}"}
    if isinstance(progress, StepProgress):
        over = progress.step == progress.steps
        cells["step"] = "validation" if over else f"{progress.step}/{progress.steps}"
    cells["loss"] = f"{progress.loss:.4f}"
    if isinstance(progress, FoldProgress):
        cells |= {"score": f"{progress.score:.4f}", "best": f"{progress.best_score:.4f}", "lr": f"{progress.lr:.2e}"}
    speed = progress.tiles_per_second
    return cells | {"tiles/s": "?" if math.isnan(speed) else f"{speed:.0f}", "left": clock(progress.seconds_left)}


def _fold_table(names: Sequence[str], rows: Mapping[str, Row], plan: Plan | None = None) -> Table:
    """Table of folds; it has a column of steps if epochs take long."""
    stepping = any("step" in row for row in rows.values())
    headings = [heading for heading in HEADINGS if heading != "step" or stepping]
    table = Table("fold", *headings, box=None)
    if plan is not None and len(names) > 1 and not math.isnan(left := plan.seconds_left()):
        table.caption, table.caption_justify = f"all folds: at most about {duration(left)} left", "left"
    for name in names:
        cells = [rows[name].get(heading, "") for heading in headings] if name in rows else ["waiting"]
        table.add_row(name, *cells)
    return table
