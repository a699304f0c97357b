"""The command that looks at the installation itself."""

import json
from typing import Annotated

import typer

from salt_ray.cli.options import Output

commands = typer.Typer()


@commands.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="For programs: a JSON list, one object a finding.")] = False,
    clear: Annotated[
        bool, typer.Option("--clear", help="Afterwards delete salt-ray's caches, once you have said yes.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --clear: do not ask.")] = False,
) -> None:
    """Say what is installed, which device, Ray, weights and caches there are, and what is wrong (then exit code 1)."""
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
        terminal.say(f"{len(wrong)} of {len(findings)} findings ask for something" if wrong else "all is well")
    if clear:
        where = next(iter(caches())).value
        asked = f"Delete the caches in {where}? They are made again when needed; no other command may run meanwhile."
        if yes or typer.confirm(asked, err=as_json):
            typer.echo(f"{size_text(clear_caches())} deleted", err=as_json)
    if any(finding.fix for finding in findings):
        raise typer.Exit(1)
