"""Which files become a package, and which stay behind."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

import pytest
from head import ROOT, write_project

from salt_ray.cluster import package
from salt_ray.cluster.package import check_size, project_files, write_package
from salt_ray.cluster.session import ClusterError


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project(tmp_path / "project", "print('tiles')")


def test_code_travels_and_nothing_else(project: Path) -> None:
    places = set(project_files(project))
    assert {"launch.py", "salt_ray/config.py", "salt_ray/cluster/jobs.py", "experiments/random_folds.py"} <= places
    assert {place.partition("/")[0] for place in places} == {"launch.py", "salt_ray", "experiments"}
    assert not [place for place in places if "/." in place or "__pycache__" in place or place.endswith(".pyc")]


def test_what_ignore_files_name_stays_behind(project: Path) -> None:
    for place in ("experiments/big.pt", "experiments/tried/idea.py", "experiments/tried/old.py", "salt_ray/.env"):
        (project / place).parent.mkdir(exist_ok=True)
        (project / place).write_text("")
    (project / ".gitignore").write_text("*.pt\n/experiments/tried/old.py\n")
    (project / "experiments" / "tried" / ".rayignore").write_text("idea.py\n")
    places = project_files(project)
    assert "experiments/random_folds.py" in places
    assert not {"experiments/big.pt", "experiments/tried/idea.py", "experiments/tried/old.py"} & set(places)
    assert "salt_ray/.env" not in places


def test_this_projects_package_can_be_imported(tmp_path: Path) -> None:
    files = project_files(ROOT)
    code = {path.relative_to(ROOT).as_posix() for path in (ROOT / "salt_ray").rglob("*.py")}
    code |= {f"salt_ray/report/template/{name}" for name in ("page.html", "page.css", "answer.html")}
    assert code <= set(files) and "experiments/demo.py" in files and "benchmarks/harness.py" in files
    check_size(files)


def test_the_same_code_makes_the_same_bytes(project: Path, tmp_path: Path) -> None:
    def packed() -> bytes:
        write_package(project_files(project), tmp_path / "code.zip")
        return (tmp_path / "code.zip").read_bytes()

    before = packed()
    (project / "launch.py").write_text((project / "launch.py").read_text())
    (project / "runs" / "new").write_text("what does not travel changes nothing")
    assert packed() == before
    with ZipFile(tmp_path / "code.zip") as zip:
        assert {place: zip.read(place) for place in zip.namelist()} == {
            place: path.read_bytes() for place, path in project_files(project).items()
        }
    (project / "launch.py").write_text("print('salt')")
    assert packed() != before


def test_what_is_too_big_is_named_with_the_limit_and_the_remedy(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_size(project_files(project))
    monkeypatch.setattr(package, "LIMIT_BYTES", 3 << 20)
    (project / "experiments" / "weights.pt").write_bytes(bytes(2 << 20))
    (project / "experiments" / "tried").mkdir()
    for number in range(8):
        (project / "experiments" / "tried" / f"{number}.csv").write_bytes(bytes(1 << 18))
    with pytest.raises(ClusterError) as refusal:
        check_size(project_files(project))
    sentence = str(refusal.value)
    assert "3.0 MiB may" in sentence and ".gitignore" in sentence
    files, folders = sentence.partition("the largest folders")[::2]
    assert "largest files are experiments/weights.pt (2.0 MiB)" in files
    assert "experiments/tried/ (2.0 MiB)" in folders
