"""Dockerfile: what its image is made of, and that the installation it runs gives an environment that works."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
INSTALL = ROOT / "docker" / "install.sh"
CODE = {"launch.py", "salt_ray", "experiments", "benchmarks", "docker"}


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, in order, without comments and with their continued lines joined."""
    lines = "\n".join(line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    joined = lines.replace("\\\n", " ").splitlines()
    return [(word.upper(), rest.strip()) for word, _, rest in (line.partition(" ") for line in joined)]


def faults(text: str) -> list[str]:
    """What is wrong with a Dockerfile, by this project's rules."""
    found = instructions(text)
    ray = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]
    rules = {
        "the base is Ray's GPU image of the pinned version": [rest for word, rest in found if word == "FROM"]
        == [f"rayproject/ray:{ray}-py311-gpu"],
        "its user is not root": [rest for word, rest in found if word == "USER"][-1:] == ["1000"],
        "nothing is fetched by a URL": not any(word == "ADD" or "http" in rest for word, rest in found),
        "apt leaves nothing behind": all(
            "rm -rf /var/lib/apt/lists" in rest for word, rest in found if word == "RUN" and "apt" in rest.split()
        ),
        "it holds no secret": not re.search(r"TOKEN|SECRET|PASSWORD|AKIA|auth_token", text),
        "matplotlib's cache has a place": any(word == "ENV" and "MPLCONFIGDIR=/" in rest for word, rest in found),
    }
    copied = [rest for word, rest in found if word == "COPY"]
    installed = next((i for i, (word, rest) in enumerate(found) if word == "RUN" and "install.sh" in rest), len(found))
    before = " ".join(rest for word, rest in found[:installed] if word == "COPY").split()
    wanted = {"pyproject.toml", "constraints.txt", "docker/install.sh"}
    rules["dependencies are installed before the code is copied"] = {
        word for word in before if not word.startswith(("--", "/"))
    } == wanted and len(copied) == 2
    last = [rest for word, rest in found if word == "RUN"][-1:]
    rules["the build ends with an import of everything"] = last == ["python docker/smoke.py --cuda"]
    return [rule for rule, kept in rules.items() if not kept]


def test_the_dockerfile_keeps_the_rules() -> None:
    assert faults((ROOT / "Dockerfile").read_text()) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("-py311-gpu", "-py312-gpu", "base"),
        ("\nCMD", "\nUSER root\nCMD", "root"),
        ("\nCMD", "\nADD https://example.com/weights /weights\nCMD", "URL"),
        ("\nRUN python", "\nRUN apt-get update && apt install -y git\nRUN python", "apt"),
        ("ENV PATH", "ENV RAY_AUTH_TOKEN=1 PATH", "secret"),
        ("pyproject.toml constraints.txt docker/install.sh", ".", "before the code"),
        (" --cuda\n", "\n", "import"),
    ],
)
def test_a_slip_is_noticed(old: str, new: str, fault: str) -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert old in text
    (found,) = faults(text.replace(old, new))
    assert fault in found


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")  # of the test extra
    linted = subprocess.run([hadolint, "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True)
    assert linted.returncode == 0 and linted.stdout == ""


def test_only_code_gets_into_the_image() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert rules[0] == "*"  # everything stays out that is not named
    named = {rule[1:] for rule in rules if rule[0] == "!"}
    assert named == CODE | {"LICENSE", "pyproject.toml", "constraints.txt"}
    assert all((ROOT / name).exists() for name in named)
    assert all(any(fnmatch.fnmatch(f"a/{name}", rule) for rule in rules) for name in (".env", "__pycache__", "b.pyc"))


def run_install(source: Path, environment: Path, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", INSTALL, source, environment],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=590,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the two files that say what to install."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture
def made_python(tmp_path: Path) -> str:
    """A PATH with a python3 whose `-m venv` makes an environment that only writes down what is to be installed."""
    folder = tmp_path / "bin"
    folder.mkdir()
    pip = 'for last; do :; done; sort "$last" >> "$0.log"; [ ! -e "$0.broken" ]'
    (folder / "pip").write_text(f"#!/bin/sh\n{pip}\n")
    (folder / "python3").write_text(f"""#!/bin/sh
[ "$1" = - ] && exec {sys.executable} "$@"
mkdir -p "$3/bin" && cp {folder}/pip "$3/bin/python" && chmod +x "$3/bin/python"
""")
    (folder / "python3").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def test_an_installation_is_kept_until_versions_change(project: Path, made_python: str, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    log = environment / "bin" / "python.log"
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = wanted["optional-dependencies"]
    requirements = sorted([*wanted["dependencies"], *extras["aws"], *extras["weights"]])
    log.parent.mkdir(parents=True)

    (log.parent / "python.broken").touch()
    assert run_install(project, environment, made_python).returncode != 0
    (log.parent / "python.broken").unlink()
    log.unlink()

    assert run_install(project, environment, made_python).returncode == 0  # what was interrupted is taken up again
    assert sorted(log.read_text().splitlines()) == requirements
    assert "up to date" in run_install(project, environment, made_python).stdout
    assert len(log.read_text().splitlines()) == len(requirements)  # and what is finished is kept
    with (project / "constraints.txt").open("a") as file:
        file.write("anything==1.0\n")
    assert run_install(project, environment, made_python).returncode == 0
    assert len(log.read_text().splitlines()) == 2 * len(requirements)


def test_a_pytorch_without_cuda_is_refused() -> None:
    import torch

    if torch.backends.cuda.is_built():
        pytest.skip("this PyTorch is a CUDA build")
    command = [sys.executable, ROOT / "docker" / "smoke.py", "--cuda"]
    refused = subprocess.run(command, cwd="/", capture_output=True, text=True)
    assert refused.returncode == 1 and refused.stderr.startswith("PyTorch") and refused.stderr.count("\n") == 1


@pytest.mark.skipif(torch.backends.cuda.is_built(), reason="CUDA's libraries are those of the PyTorch that was chosen")
def test_whatever_is_needed_has_its_version_in_the_constraints() -> None:
    """What pip finds for the image is what it found for this environment, as far as every package of it is pinned."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [Requirement(text) for text in project["dependencies"] + extras["aws"] + extras["weights"]]
    needed: set[str] = set()
    for requirement in wanted:  # it grows
        found = metadata.distribution(requirement.name)
        for need in (Requirement(text) for text in found.requires or ()):
            applies = need.marker is None or any(need.marker.evaluate({"extra": e}) for e in {"", *requirement.extras})
            if applies and str(need) not in map(str, wanted):
                wanted.append(need)
        needed.add(f"{canonicalize_name(requirement.name)}=={found.version.partition('+')[0]}")
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line and line[0] != "#"]
    pins = {f"{canonicalize_name(name)}=={version}" for name, _, version in (line.partition("==") for line in lines)}
    strays = {stray for stray in needed - pins if not stray.startswith("setuptools==")}  # it comes with an environment
    assert len(needed) > 60 and strays == set()


@pytest.fixture
def environment() -> Iterator[Path]:
    """A place for gigabytes that go when the test is over; pytest's own folders would stay."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "environment"


@pytest.mark.soak
def test_the_installation_gives_an_environment_that_works(project: Path, environment: Path) -> None:
    installed = run_install(project, environment, f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert installed.returncode == 0, installed.stderr
    python = environment / "bin" / "python"
    smoke = subprocess.run([python, ROOT / "docker" / "smoke.py"], cwd="/", capture_output=True, text=True)
    assert smoke.returncode == 0 and "PyTorch" in smoke.stdout, smoke.stderr
    listed = subprocess.run([python, "-m", "pip", "freeze"], capture_output=True, text=True, check=True).stdout
    pins = (ROOT / "constraints.txt").read_text().lower().splitlines()
    strays = [line for line in listed.lower().splitlines() if line.replace("+cpu", "") not in pins]
    assert strays == []  # nothing is installed in a version of its own
    assert not any(line.startswith(("pytest", "moto", "ruff", "salt")) for line in listed.lower().splitlines())
