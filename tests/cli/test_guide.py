"""What --help says beside the commands' own words: every command has a task and examples, and every example parses."""

from __future__ import annotations

import shlex

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from salt_ray.cli.guide import EXAMPLES, TASKS
from salt_ray.cli.main import app

COMMAND = get_command(app)


def names() -> set[str]:
    """Every command, those of groups with the group before."""
    groups = {name: group for name, group in COMMAND.commands.items() if hasattr(group, "commands")}
    inner = {f"{name} {command}" for name, group in groups.items() for command in group.commands}
    return (COMMAND.commands.keys() - groups.keys()) | inner


def test_every_command_has_its_task_and_its_examples() -> None:
    assert names() == EXAMPLES.keys()
    listed = [name for commands in TASKS.values() for name in commands]
    assert sorted(listed) == sorted(COMMAND.commands)
    assert {name: command.rich_help_panel for name, command in COMMAND.commands.items()} == {
        name: task for task, commands in TASKS.items() for name in commands
    }


@pytest.mark.parametrize(
    ("name", "example"), [(name, example) for name, examples in EXAMPLES.items() for example in examples]
)
def test_an_example_parses(name: str, example: str) -> None:
    words = shlex.split(example)
    command, depth = COMMAND, 0
    while hasattr(command, "commands"):
        command, depth = command.commands[words[depth]], depth + 1
    assert " ".join(words[:depth]) == name
    command.make_context(words[depth - 1], words[depth:])  # raises what the command line would say


def test_help_is_grouped_and_ends_with_examples() -> None:
    wide = {"COLUMNS": "200", "TERMINAL_WIDTH": "200"}
    text = CliRunner().invoke(app, ["--help"], env=wide).output
    places = [text.index(f" {task} ") for task in TASKS]
    assert places == sorted(places)
    text = CliRunner().invoke(app, ["train", "--help"], env=wide).output
    for words in ("Experiment", "Where to run", *(f"salt-ray {one}" for one in EXAMPLES["train"])):
        assert words in text


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("salt-ray pre", ["predict", "prepare"]),
        ("salt-ray volume sc", ["scan", "score"]),
        ("salt-ray train --eng", ["--engine"]),
    ],
)
def test_a_shell_completes_commands_and_options(typed: str, offered: list[str]) -> None:
    asked = {"_SALT_RAY_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    found = CliRunner().invoke(app, [], env=asked, prog_name="salt-ray").output
    assert sorted(found.split()) == offered
