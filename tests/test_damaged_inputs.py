"""Whatever is wrong with an input: one error that names it and the fix in plain words, and nothing on the disk changed.

Every case goes through ``launch.main``, some once more through a process of their own. Ray is never started.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from damage import filled, linked
from damaged_cases import CASES, Case
from plain_english import faults
from whole_run import make_run, make_search, shortened

from salt_ray.cli.main import EXIT_ERROR, main
from salt_ray.cluster import engine
from salt_ray.config import Experiment
from salt_ray.survey.problems import SurveyError
from salt_ray.survey.synthetic import write_survey

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


Written = tuple[int, int, int]  # a file's inode, its size, and when it was last written


@dataclass(frozen=True)
class Whole:
    """A survey, a finished run, a search, and a survey that neither has seen.

    ``ids`` are those of two tiles with salt and of a test tile, ``known`` the SHA-256 of every file.
    """

    root: Path
    ids: dict[str, str]
    known: dict[Written, str]


@pytest.fixture(scope="module")
def whole(tiny: Experiment, tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Whole:
    root = tmp_path_factory.mktemp("whole")
    write_survey(root / "data", 40, seed=1, tile_px=33)
    write_survey(root / "other", 40, seed=2, tile_px=33)
    (root / "ideas").mkdir()
    experiment = shortened(tiny)
    (root / "tiny.json").write_text(experiment.model_dump_json())
    make_run(experiment, root / "data", root / "run")
    make_search(experiment, root / "data", root / "search")

    def pictures(folder: str) -> dict[str, np.ndarray]:
        return {path.stem: cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in (root / folder).glob("*.png")}

    salty = sorted(tile for tile, mask in pictures("data/train/masks").items() if (mask != mask[::-1]).any())
    tests = sorted(tile for tile, image in pictures("data/test/images").items() if np.ptp(image))
    known = {seen: digest(path) for path, seen in files(root)}
    return Whole(root, {"a": salty[0], "b": salty[1], "t": tests[0]}, known)


@pytest.fixture
def place(whole: Whole, tmp_path: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """A copy that a case may damage, and what stands for the names in a case."""
    root = tmp_path / "here"
    linked(whole.root, root)
    names = {name: str(root / name) for name in ("data", "other", "run", "search", "new")}
    names |= {"tmp": str(root), "tiny": str(root / "tiny.json"), "own": str(root / "ideas/own.py")}
    yield root, names | whole.ids
    assert {seen for _, seen in files(whole.root)} == set(whole.known), "a case has changed what all of them begin with"


def files(root: Path) -> Iterator[tuple[Path, Written]]:
    """Locks are empty, and Python's own cache is no input."""
    for path in root.rglob("*"):
        if path.is_file() and path.name != ".lock" and path.suffix != ".pyc":
            found = path.stat()
            yield path, (found.st_ino, found.st_size, found.st_mtime_ns)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def contents(root: Path, whole: Whole) -> dict[Path, str]:
    """SHA-256 of every file; those that are still links to what all cases begin with are not read."""
    return {path: whole.known.get(seen) or digest(path) for path, seen in files(root)}


def command_line(case: Case, names: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """The environment's changes, and the words after the script's name."""
    words = [filled(word, names) for word in case.words.split(" ")]
    words = ["" if word == "''" else word for word in words]
    settings = {word.partition("=")[0]: word.partition("=")[2] for word in words if word.startswith("SALT_RAY_")}
    return settings, [word for word in words if not word.startswith("SALT_RAY_")]


def check(case: Case, names: dict[str, str], code: int | None, said: str) -> None:
    """What every message has to be."""
    assert code == case.code, said
    lines = said.splitlines()
    assert "Traceback" not in said
    assert faults(said) == []
    if case.code == 2:  # the usage, where help is, and a box of three lines with the message
        assert len(lines) <= 5, said
    else:
        assert said.startswith("error: ") and said.endswith("\n")
        assert len(lines) <= 3 or all(":" in line and ";" in line for line in lines), said
    assert filled(case.names, names) in said, said
    assert filled(case.remedy, names) in said, said


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_damaged_input_is_a_sentence_and_changes_nothing(
    case: Case,
    whole: Whole,
    place: tuple[Path, dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    record_property: Callable[[str, object], None],
) -> None:
    if "unreadable" in case.name and os.geteuid() == 0:
        pytest.skip("root may read everything")
    root, names = place
    case.damage(root, names)
    before = contents(root, whole)
    settings, words = command_line(case, names)
    for name, value in {"COLUMNS": "200", **settings}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["launch.py", *words])

    def start(*arguments: object) -> None:
        pytest.fail("Ray would be started: nothing was found wrong")

    monkeypatch.setattr(engine, "connect", start)
    with pytest.raises(SystemExit) as exit:
        main()
    check(case, names, exit.value.code, capfd.readouterr().err)
    assert contents(root, whole) == before
    record_property("input", "refused")  # they are counted at the end of the tests


#: What ends before any library is loaded, in typer, in our own reader, in an experiment and with PyTorch.
ONCE_MORE = ("unknown command", "image cut", "Python that raises", "another seed")


@pytest.mark.parametrize("case", [case for case in CASES if case.name in ONCE_MORE], ids=lambda case: case.name)
def test_a_process_of_its_own_says_the_same(case: Case, whole: Whole, place: tuple[Path, dict[str, str]]) -> None:
    root, names = place
    case.damage(root, names)
    before = contents(root, whole)
    settings, words = command_line(case, names)
    command = [sys.executable, str(ROOT / "launch.py"), *words]
    environment = os.environ | settings | {"COLUMNS": "200"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    check(case, names, ended.returncode, ended.stderr)
    assert contents(root, whole) == before


def test_there_are_many_cases_and_each_has_a_name() -> None:
    assert len(CASES) >= 200 and len({case.name for case in CASES}) == len(CASES)
    assert all(case.names and case.remedy for case in CASES) and set(ONCE_MORE) <= {case.name for case in CASES}


@pytest.mark.parametrize(
    ("words", "error"),
    [(["prepare", "--data", "nowhere"], SurveyError), (["synth", "launch.py/x"], FileExistsError)],
)
def test_debug_lets_the_traceback_through(
    words: list[str], error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["launch.py", "--debug", *words])
    with pytest.raises(error):
        main()
    monkeypatch.setattr(sys, "argv", ["launch.py", *words])
    with pytest.raises(SystemExit) as exit:
        main()
    assert exit.value.code == EXIT_ERROR
