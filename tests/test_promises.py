"""docs/reliability.md: every promise names tests that exist, and CI runs those that do the thing itself.

What may run before a release only says so: "(`make soak`)" or "(`make rehearsal`)" stands in that part of the cell.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import pytest

TESTS = Path(__file__).parent
TABLE = TESTS.parent / "docs" / "reliability.md"
MAKEFILE = TESTS.parent / "Makefile"
NAMED = re.compile(r"`([\w/]*test_\w+\.py)(?:::(\w+))?`")
LATER = re.compile(r"`make (soak|rehearsal)`")


class Row(NamedTuple):
    number: int
    parts: tuple[str, ...]


def rows(text: str) -> list[Row]:
    """The promises' numbers, and what is said of their tests."""
    found = re.findall(r"^\| (\d+) \|[^|]*\|([^|]*)\|", text, re.MULTILINE)
    return [Row(int(number), tuple(cell.split(";"))) for number, cell in found]


def expression(target: str) -> str:
    """What pytest selects by markers for a target of the Makefile; its variables are filled in."""
    text = MAKEFILE.read_text()
    (recipe,) = re.findall(rf"^{target}: install\n((?:\t.*\n)+)", text, re.MULTILINE)
    variables = dict(re.findall(r"^(\w+) := (.*)$", text, re.MULTILINE))
    chosen = " or ".join(f"({found})" for found in re.findall(r'-m "([^"]+)"', recipe))
    while "$(" in chosen:
        chosen = re.sub(r"\$\((\w+)\)", lambda name: f"({variables[name[1]]})", chosen)
    return chosen


def selected(markers: set[str], chosen: str) -> bool:
    """Whether ``pytest -m`` would run a test with these markers; its language is a part of Python's."""
    return eval(chosen, {"__builtins__": {}}, defaultdict(bool, dict.fromkeys(markers, True)))


def marked(nodes: list[ast.expr]) -> set[str]:
    """The markers in decorators, or in what ``pytestmark`` is set to."""
    names = [part for node in nodes for part in re.findall(r"^pytest\.mark\.(\w+)", ast.unparse(node))]
    return set(names)


def functions_of(path: Path) -> dict[str, set[str]]:
    """The tests of a file and the markers of each; those of single parameters are left out."""
    body = ast.parse(path.read_text()).body
    everywhere: set[str] = set()
    for node in body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            everywhere |= marked(node.value.elts if isinstance(node.value, ast.List) else [node.value])
    functions = [node for node in body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    return {node.name: everywhere | marked(node.decorator_list) for node in functions}


def faults(row: Row) -> list[str]:
    """What is wrong with what a promise says of its tests."""
    found, kept = [], False
    for part in row.parts:
        for file, name in NAMED.findall(part):
            tests = functions_of(TESTS / file) if (TESTS / file).is_file() else {}
            if not tests or (name and name not in tests):
                found.append(f"there is no test {file}::{name}")
                continue
            markers = [tests[name]] if name else list(tests.values())
            in_checks = any(selected(one, expression("test-all")) for one in markers)
            if LATER.search(part):
                found += [f"{file}::{name} runs in CI"] if name and in_checks else []
                found += [] if any(selected(one, expression("soak")) for one in markers) else [f"{file} runs nowhere"]
            elif not in_checks:
                found.append(f"{file}::{name} has left CI")
            else:
                kept |= bool(name)
    return found if kept else [*found, "no test of it in CI is named as `path::test_name`"]


def test_there_are_twelve_promises() -> None:
    assert [row.number for row in rows(TABLE.read_text())] == list(range(1, 13))


@pytest.mark.parametrize("row", rows(TABLE.read_text()), ids=lambda row: f"promise {row.number}")
def test_a_promise_has_its_tests_in_ci(row: Row) -> None:
    assert faults(row) == []


@pytest.mark.parametrize(
    ("cell", "fault"),
    [
        ("`test_promises.py::test_nothing`", "no test test_promises.py::test_nothing"),
        ("`test_gone.py`", "no test test_gone.py"),
        ("`test_promises.py`", "no test of it in CI"),
        ("`test_dockerfile.py::test_the_installation_gives_an_environment_that_works`", "has left CI"),
        ("larger (`make soak`): `test_promises.py::test_there_are_twelve_promises`", "runs in CI"),
    ],
)
def test_a_promise_that_leaves_ci_is_noticed(cell: str, fault: str) -> None:
    assert any(fault in found for found in faults(Row(1, (cell,))))


def test_the_makefile_says_what_runs_when() -> None:
    every, quick, soak = (expression(target) for target in ("test-all", "test", "soak"))
    for markers, runs in (
        (set(), (True, True, False)),
        ({"alone"}, (True, True, False)),
        ({"slow"}, (True, False, False)),
        ({"alone", "slow"}, (True, False, False)),
        ({"browser"}, (True, False, True)),
        ({"alone", "soak"}, (False, False, True)),
        ({"alone", "machines"}, (False, False, True)),
    ):
        assert tuple(selected(markers, chosen) for chosen in (every, quick, soak)) == runs, markers
