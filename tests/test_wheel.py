"""The wheel: what it holds, and that what it installs works in an empty folder without the project beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import salt_ray

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the wheel is installed, alone; what it needs is this environment's."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "site", wheel], check=True)
    return folder / "site"


class Elsewhere:
    """An empty folder in which the installed package is the one that Python finds."""

    def __init__(self, installed: Path, folder: Path, ray_directory: Path) -> None:
        self.installed, self.folder = installed, folder
        own = {"PYTHONPATH": str(installed), "COLUMNS": "200", "RAY_TMPDIR": str(ray_directory)}
        self._environment = {**os.environ, **own}

    def run(self, *words: str, code: int = 0) -> str:
        """What ``python`` with these words printed."""
        done = subprocess.run(
            [sys.executable, "-P", *words], cwd=self.folder, env=self._environment, capture_output=True, text=True
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def salt_ray(self, *words: str, code: int = 0) -> str:
        """What the command printed."""
        return self.run(str(self.installed / "bin" / "salt-ray"), *words, code=code)


@pytest.fixture
def elsewhere(installed: Path, tmp_path: Path, ray_directory: Path) -> Iterator[Elsewhere]:
    yield Elsewhere(installed, tmp_path, ray_directory)


def test_it_takes_one_name_and_holds_everything(installed: Path) -> None:
    names = {path.name for path in installed.iterdir()}
    assert names == {"salt_ray", f"salt_ray-{salt_ray.__version__}.dist-info", "bin"}
    code = {path.relative_to(ROOT).as_posix() for path in (ROOT / "salt_ray").rglob("*") if path.is_file()}
    code |= {f"salt_ray/experiments/{path.name}" for path in (ROOT / "experiments").glob("*.py")}
    found = {path.relative_to(installed).as_posix() for path in (installed / "salt_ray").rglob("*") if path.is_file()}
    compiled = {place for place in code | found if "__pycache__" in place}
    assert found - compiled >= code - compiled and "salt_ray/py.typed" in found


def test_the_command_knows_the_experiments_that_are_shipped(elsewhere: Elsewhere, survey: Path) -> None:
    assert "tune" in elsewhere.salt_ray("--help")
    said = elsewhere.salt_ray("prepare", "--experiment", "demo", "--data", str(survey), "--set", "seed=3")
    assert "folds random: 2" in said
    assert (elsewhere.folder / "runs" / "demo" / "experiment.json").exists()
    said = elsewhere.salt_ray("prepare", "--experiment", "dmo", "--data", str(survey), code=1)
    assert "there is no experiment dmo: name a file, or one of argus, demo" in said
    said = elsewhere.salt_ray("status", "runs/demo")
    assert "salt-ray pipeline --data SURVEY" in said


def test_an_experiment_of_ones_own_derives_from_one_that_is_shipped(elsewhere: Elsewhere) -> None:
    (elsewhere.folder / "parent.py").write_text(
        "from experiments.random_folds import experiment as shipped\n"
        "def experiment():\n    return shipped().replace(name='parent', seed=4)\n"
    )
    (elsewhere.folder / "child.py").write_text(
        "from experiments.parent import experiment as parent\n"
        "def experiment():\n    return parent().replace(name='child')\n"
    )
    code = "import salt_ray as s; found = s.load_experiment('./child.py'); print(s.__file__, found.name, found.seed)"
    said = elsewhere.run("-c", code)
    assert said.split() == [str(elsewhere.installed / "salt_ray" / "__init__.py"), "child", "4"]


def test_its_code_travels_to_a_cluster(elsewhere: Elsewhere) -> None:
    code = (
        "from salt_ray.cluster.command import Command; c = Command.elsewhere(arguments=['train'], say=print, "
        "project=__import__('salt_ray.cluster.package').cluster.package.PROJECT); print(c.entrypoint); print(*c.files)"
    )
    entrypoint, files = elsewhere.run("-c", code).splitlines()[-2:]
    assert entrypoint == "exec python -m salt_ray train"
    places = set(files.split())
    assert {place.partition("/")[0] for place in places} == {"salt_ray"}
    assert {"salt_ray/experiments/demo.py", "salt_ray/__main__.py", "salt_ray/report/template/page.css"} <= places
