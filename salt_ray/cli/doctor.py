"""The command that checks the installation."""

import json
from typing import Annotated

import typer

from salt_ray.cli.options import Output

commands = typer.Typer()


@commands.command()
def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON list for programs, one object per finding.")
    ] = False,
    clear: Annotated[bool, typer.Option("--clear", help="Then delete salt-ray's caches, after confirmation.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --clear: delete without asking.")] = False,
) -> None:
    """Check the installation: versions, device, Ray, weights and caches. The exit code is 1 if anything is wrong."""
    from salt_ray.installation import caches, clear_caches, examine
    from salt_ray.report.status import size_text

    findings = examine()
    if as_json:
        typer.echo(json.dumps([finding._asdict() for finding in findings], indent=1))
    else:
        from salt_ray.report.terminal import findings_table

        terminal = Output().terminal()
        terminal.table(findings_table(findings))
        wrong = [finding for finding in findings if finding.fix]
        for finding in wrong:
            terminal.say(f"wrong: {finding.part}, {finding.name}: {finding.value}. Fix: {finding.fix}")
        terminal.say(f"{len(wrong)} of {len(findings)} checks failed" if wrong else "all checks passed")
    if clear:
        where = next(iter(caches())).value
        asked = f"Delete the caches in {where}? They are rebuilt when needed. No other command may be running."
        if yes or typer.confirm(asked, err=as_json):
            typer.echo(f"{size_text(clear_caches())} deleted", err=as_json)
    if any(finding.fix for finding in findings):
        raise typer.Exit(1)
