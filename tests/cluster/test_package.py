"""Which files become a package, and which stay behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from head import ROOT, write_project

from salt_ray.cluster.package import copy_files, project_files


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project(tmp_path / "project", "print('tiles')")


def test_code_travels_and_nothing_else(project: Path) -> None:
    places = set(project_files(project))
    assert {"launch.py", "salt_ray/section.py", "salt_ray/cluster/jobs.py", "experiments/random_folds.py"} <= places
    assert {place.partition("/")[0] for place in places} == {"launch.py", "salt_ray", "experiments"}
    assert not [place for place in places if "/." in place or "__pycache__" in place or place.endswith(".pyc")]


def test_what_is_no_code_stays_behind(project: Path) -> None:
    """Also in the folders of the code: weights, tiles, keys and what is hidden."""
    for place in ("experiments/big.pt", "experiments/tiles/a.npy", "salt_ray/.env", "experiments/.idea/own.py"):
        (project / place).parent.mkdir(exist_ok=True)
        (project / place).write_text("")
    (project / "experiments" / "tried").mkdir()
    (project / "experiments" / "tried" / "idea.py").write_text("")
    places = project_files(project)
    assert {"experiments/random_folds.py", "experiments/tried/idea.py"} <= set(places)
    assert not {"experiments/big.pt", "experiments/tiles/a.npy", "salt_ray/.env", "experiments/.idea/own.py"} & {
        *places
    }


def test_this_projects_package_can_be_imported(tmp_path: Path) -> None:
    files = project_files(ROOT)
    code = {path.relative_to(ROOT).as_posix() for path in (ROOT / "salt_ray").rglob("*.py")}
    code |= {f"salt_ray/report/template/{name}" for name in ("page.html", "page.css", "answer.html")}
    assert code <= set(files) and "experiments/demo.py" in files and "benchmarks/harness.py" in files


def test_the_code_is_copied_to_its_places(project: Path, tmp_path: Path) -> None:
    files, folder = project_files(project), tmp_path / "code"
    copy_files(files, folder)
    copied = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    assert copied.keys() == files.keys()
    assert all(copied[place].read_bytes() == path.read_bytes() for place, path in files.items())


def test_of_an_installed_project_the_package_travels(project: Path) -> None:
    (project / "launch.py").unlink()
    (project / "numpy").mkdir()
    (project / "numpy" / "__init__.py").write_text("")
    assert {place.partition("/")[0] for place in project_files(project)} == {"salt_ray"}
