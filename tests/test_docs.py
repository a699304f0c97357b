"""The documents: commands parse, settings are accepted, files, targets, names and links exist."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from pydantic import BaseModel
from typer.main import get_command

import salt_ray
from salt_ray import config
from salt_ray.cli.main import app
from salt_ray.config import Geometry
from salt_ray.experiment_file import load_experiment
from salt_ray.section import ExperimentError
from salt_ray.survey.padding import frame_for

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
DOCUMENTS = [*(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")), *PAGES]
INDEX = ROOT / "docs" / "index.md"
DATA = ROOT / "docs" / "data.md"
COMMANDS = get_command(app).commands
SHELL = ("", "sh")  # labels of blocks of commands; a tree or a log is "text", or has no command in it
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
# Of these kinds the repository has files, and a user none.
OURS = re.compile(r"[\w.-]+(/[\w.-]+)*\.(py|yaml|yml|toml|md)")
MADE = {"runs", "data", "survey"}  # folders that commands make, or that a user brings
NEW = "NAME"  # a file that somebody is told to write
NAME = re.compile(r"(salt_ray|benchmarks)(\.\w+)+(\(\))?")
DEFAULTS = {"demo": "demo", "tune": "tune"}  # what a command takes without --experiment; else random_folds


class Block(NamedTuple):
    label: str
    text: str


class Line(NamedTuple):
    """One simple command of a document, as words."""

    where: str
    words: tuple[str, ...]


def blocks(document: Path) -> list[Block]:
    return [Block(*found) for found in FENCE.findall(document.read_text())]


def prose(document: Path) -> str:
    return FENCE.sub("", document.read_text())


def spans(document: Path) -> list[str]:
    return SPAN.findall(prose(document))


def words_of(line: str) -> list[tuple[str, ...]]:
    """The simple commands of a line of shell, comments left out."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, "#"
    commands: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("&|;()"):
            commands.append([])
        else:
            commands[-1].append(word)
    return [tuple(command) for command in commands if command]


def shell_lines(text: str) -> Iterator[str]:
    """Lines of shell, continued ones joined, without what a here-document holds."""
    end = None
    for line in text.replace("\\\n", " ").splitlines():
        if end is not None:
            end = None if line == end else end
            continue
        if begin := re.search(r"<<(\w+)$", line):
            end = begin[1]
        yield line


def commands_in_text(document: Path) -> Iterator[str]:
    """Code spans that are commands, launch.py's written out where they begin with their name alone."""
    for span in spans(document):
        first, _, rest = span.partition(" ")
        if first in COMMANDS and rest.startswith("--"):
            yield f"python launch.py {span}"
        elif first == "launch.py" and rest:
            yield f"python {span}"
        elif first in ("make", "ray") or first.endswith("python"):
            yield span


@cache
def lines(document: Path) -> list[Line]:
    """Every command in the blocks and the code spans of a document."""
    shell = [line for block in blocks(document) if block.label in SHELL for line in shell_lines(block.text)]
    found = []
    for line in [*shell, *commands_in_text(document)]:
        try:
            commands = words_of(line)
        except ValueError:  # no shell: a tree or a log
            assert not re.search(r"python launch\.py|^make ", line), f"{document.name}: no shell: {line}"
            continue
        found += [Line(f"{document.name}: {line.strip()}", words) for words in commands]
    return found


def launches(document: Path) -> list[Line]:
    """Arguments of every call of launch.py."""
    found = []
    for where, words in lines(document):
        for place in range(1, len(words) - 1):
            if words[place] == "launch.py" and words[place - 1].endswith("python"):
                found.append(Line(where, words[place + 1 :]))
    return found


def of_each(find) -> list:
    return [pytest.param(*item, id=item[0][:100]) for document in DOCUMENTS for item in find(document)]


def sections() -> list[str]:
    """The public classes of settings."""
    public = {name: getattr(config, name) for name in config.__all__}
    return [name for name, kind in public.items() if isinstance(kind, type) and issubclass(kind, BaseModel)]


def test_commands_are_found() -> None:
    least = {"README": 1, "docs/running": 6, "docs/tuning": 4, "docs/cluster": 3, "docs/volumes": 10, "docs/reports": 3}
    found = {name: len(launches(ROOT / f"{name}.md")) for name in least}
    assert {name: min(found[name], count) for name, count in least.items()} == least
    (line,) = words_of("a --set x='[1, 2]' # b && c")
    assert line == ("a", "--set", "x=[1, 2]")
    assert list(shell_lines("cat > f <<END\nmake nothing\nEND\nmake \\\n demo")) == ["cat > f <<END", "make   demo"]


@pytest.mark.parametrize(("where", "words"), of_each(launches))
def test_a_command_parses_and_its_settings_are_accepted(where: str, words: tuple[str, ...]) -> None:
    name, *arguments = words
    assert name in COMMANDS, where
    context = COMMANDS[name].make_context(name, arguments)  # raises what the command line would say
    given = context.params.get("experiment")
    if given is not None and Path(given).parts[0] in MADE:
        return
    given = given or DEFAULTS.get(name, "random_folds")
    file = ROOT / (given if Path(given).suffix else f"experiments/{given}.py")  # one that is shipped, by its name
    load_experiment(file, context.params.get("set_") or ())
    for benchmark in context.params.get("names") or ():
        assert benchmark == NEW or (ROOT / "benchmarks" / f"{benchmark}.py").is_file(), where


def options(document: Path) -> list[tuple[str, str]]:
    """Settings in the text: the span, and FIELD=VALUE."""
    return [(span, span.partition(" ")[2].strip("'")) for span in spans(document) if span.startswith("--set ")]


@pytest.mark.parametrize(("span", "assignment"), of_each(options))
def test_a_setting_in_the_text_is_accepted(span: str, assignment: str) -> None:
    """By the default experiment, or by one with the section or the training that the setting names."""
    assert accepted(assignment), span


def accepted(assignment: str) -> bool:
    for name in ("random_folds", "tune", "argus"):
        try:
            load_experiment(ROOT / "experiments" / f"{name}.py", [assignment])
        except ExperimentError:
            continue
        return True
    return False


def test_a_wrong_setting_is_noticed() -> None:
    assert accepted("tune.sampler=gp") and accepted("trainings.mosaic.folds.count=4")
    assert not accepted("tune.sampler=gpp") and not accepted("prediction.flips=true")


def makes(document: Path) -> list[tuple[str, str]]:
    return [(where, words[1]) for where, words in lines(document) if words[0] == "make" and len(words) > 1]


@pytest.mark.parametrize(("where", "target"), of_each(makes))
def test_a_target_is_in_the_makefile(where: str, target: str) -> None:
    assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.MULTILINE), where


def test_the_workflow_calls_targets_of_the_makefile() -> None:
    """And the issue forms are YAML with fields."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "checks.yml").read_text())
    run = [step["run"] for step in workflow["jobs"]["checks"]["steps"] if "run" in step]
    assert run == ["make install", "make lint", "make docs", "make test"]
    for command in run:
        assert re.search(rf"^{command.split()[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), command
    forms = [path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").iterdir() if path.stem != "config"]
    assert len(forms) >= 2
    for form in forms:
        fields = yaml.safe_load(form.read_text())
        assert fields["name"] and fields["description"] and any("id" in field for field in fields["body"]), form.name


def files(document: Path) -> list[tuple[str, str]]:
    """Files of the project that commands and text name."""
    named = [(where, word) for where, words in lines(document) for word in words]
    named += [(f"{document.name}: {span}", span) for span in spans(document)]
    ours = [(where, Path(word)) for where, word in named if OURS.fullmatch(word)]
    return [(where, str(path)) for where, path in ours if path.parts[0] not in MADE and path.stem != NEW]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_are_named_exist(document: Path) -> None:
    """From the root, from salt_ray/ or tests/; a bare name anywhere among the project's files."""
    folders = ("salt_ray", "tests", "docs", "experiments", "benchmarks")
    bare = {path.name for paths in (ROOT.glob("*"), *((ROOT / top).rglob("*") for top in folders)) for path in paths}
    for where, name in files(document):
        there = any((top / name).is_file() for top in (ROOT, ROOT / "salt_ray", ROOT / "tests"))
        assert there or ("/" not in name and name in bare), where


def names(document: Path) -> list[tuple[str]]:
    return [(span.removesuffix("()"),) for span in spans(document) if NAME.fullmatch(span)]


@pytest.mark.parametrize("name", of_each(names))
def test_names_of_code_exist(name: str) -> None:
    """Read, not imported: Ray would take seconds."""
    parts = name.split(".")
    depth = next(n for n in range(len(parts), 0, -1) if module(parts[:n]) is not None)
    scope = ast.parse(module(parts[:depth]).read_text()).body
    for part in parts[depth:]:
        found = [node for node in scope if part in bound(node)]
        assert found, name
        scope = getattr(found[0], "body", [])


def test_sections_of_the_method_that_the_code_names_exist() -> None:
    """Docstrings say "method section 4": these are headings of docs/method.md."""
    numbered = set(re.findall(r"^## (\d+)\. ", (ROOT / "docs" / "method.md").read_text(), re.MULTILINE))
    tops = ("salt_ray", "experiments", "benchmarks")
    code = "".join(path.read_text() for top in tops for path in (ROOT / top).rglob("*.py"))
    said = re.findall(r"method sections? (\d+(?:(?:, | and | to )\d+)*)", code)
    assert len(said) > 20
    assert {number for found in said for number in re.findall(r"\d+", found)} <= numbered


def module(parts: list[str]) -> Path | None:
    path = ROOT.joinpath(*parts)
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def bound(node: ast.stmt) -> set[str]:
    """The names that a statement binds."""
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return {getattr(node, "name", None), *(getattr(target, "id", None) for target in targets)} - {None}


def anchors(document: Path) -> set[str]:
    """Anchors of the headings, as GitHub makes them."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", document.read_text()), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.append(slug if slug not in found else f"{slug}-{found.count(slug)}")
    return set(found)


def test_anchors_of_headings(tmp_path: Path) -> None:
    document = tmp_path / "a.md"
    document.write_text("# What's in `a.b`?\n\n```\n# no heading\n```\n## Sizes\n## Sizes\n")
    assert anchors(document) == {"whats-in-ab", "sizes", "sizes-1"}


@pytest.mark.parametrize(
    "document", [*DOCUMENTS, ROOT / "experiments" / "README.md"], ids=lambda path: str(path.relative_to(ROOT))
)
def test_links_lead_somewhere(document: Path) -> None:
    for link in LINK.findall(SPAN.sub("", prose(document))):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def linked(document: Path) -> set[Path]:
    return {(document.parent / link.partition("#")[0]).resolve() for link in LINK.findall(prose(document))}


def test_the_readme_leads_to_every_document() -> None:
    """By itself or by the index, which has all of them: the website's navigation is made of its lists."""
    assert INDEX in linked(ROOT / "README.md")
    assert {*DOCUMENTS, ROOT / "experiments" / "README.md"} - {INDEX} <= linked(INDEX)


def test_the_readme_is_a_landing_page() -> None:
    """Two minutes to read, with pictures that load quickly."""
    assert len((ROOT / "README.md").read_text().split()) < 900
    pictures = [path for path in linked(ROOT / "README.md") if path.suffix in (".png", ".svg")]
    assert len(pictures) >= 2
    for picture in (ROOT / "docs" / "images").iterdir():
        assert picture.stat().st_size < 200_000, picture.name


@pytest.mark.parametrize(("page", "public"), [("python", salt_ray.__all__), ("settings", sections())])
def test_the_reference_has_every_public_name(page: str, public: list[str]) -> None:
    text = (ROOT / "docs" / "reference" / f"{page}.md").read_text()
    shown = re.findall(r"^(?:\.\. auto\w+:: |- `salt_ray\.config\.)(\w+)", text, re.MULTILINE)
    elsewhere = {"python": {"Experiment", "__version__"}, "settings": {"Searched"}}[page]
    assert sorted({*shown, *elsewhere}) == sorted({*public, *elsewhere})


def commands_of(group, name: str) -> Iterator[str]:
    yield name
    for child, command in getattr(group, "commands", {}).items():
        yield from commands_of(command, f"{name} {child}")


def test_the_reference_of_commands_is_made_from_the_command_line() -> None:
    """As docs/conf.py makes it when the website is built."""
    words = [sys.executable, "-m", "typer", "salt_ray.cli.main", "utils", "docs", "--name", "salt-ray"]
    page = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    titles = re.findall(r"^#+ `(.+)`$", page, re.MULTILINE)
    assert sorted(titles) == sorted(commands_of(get_command(app), "salt-ray"))


def test_the_sizes_that_are_shown_are_those_that_follow() -> None:
    rows = re.findall(r"^\| (\d+)(?: to (\d+))? \| (\d+) \| (\d+) \|", DATA.read_text(), re.MULTILINE)
    assert len(rows) >= 5
    for smallest, largest, crop, padded in rows:
        for tile in {int(smallest), int(largest or smallest)}:
            frame = frame_for(tile, Geometry())
            assert (frame.crop_px, frame.padded_px) == (int(crop), int(padded)), tile


def test_the_examples_in_python_run(undisturbed: Path, survey: Path, tmp_path: Path, monkeypatch) -> None:
    """On the tiny run and survey of the tests, with what is 101 px there as large as those are."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "demo").symlink_to(undisturbed)
    (tmp_path / "survey").symlink_to(survey)
    monkeypatch.chdir(tmp_path)
    shown: dict[str, object] = {}
    for document in (ROOT / "docs" / "python.md", ROOT / "README.md"):
        code = "".join(block.text for block in blocks(document) if block.label == "python").replace("101", "33")
        exec(code, shown)
    assert shown["prediction"].masks.shape == (33, 33) and shown["areas"].shape == (2,)
    assert shown["trained"].experiment.name == "short" and len(shown["scores"]) == 2
