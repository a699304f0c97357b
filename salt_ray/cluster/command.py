"""A command line as a job of a cluster runs it: what the head node's shell gets, and which files travel with it."""

from __future__ import annotations

import itertools
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from salt_ray.cluster.environment import ENVIRONMENT
from salt_ray.cluster.package import is_checkout, project_files
from salt_ray.cluster.session import NODE_TYPES, ClusterError

CANNOT_START = 127  # a shell's exit code for a program that is not there
OUTSIDE = "outside"  # the package's folder for an experiment from outside the project
OBJECT_STORE = ("AWS_ENDPOINT_URL", "AWS_REGION")  # where it is; its keys are given to the cluster, not to a job


@dataclass(frozen=True)
class Command:
    """A command as a job runs it.

    Args:
        entrypoint: for the shell of the head node.
        arguments: of the command line, for people.
        files: the code, by its place in the package in which the job's workers (and without a ``cd`` the driver) are.
        environment: variables for the driver and the workers; the dashboard shows them.
    """

    entrypoint: str
    arguments: Sequence[str]
    files: Mapping[str, Path]
    environment: Mapping[str, str]

    @classmethod
    def here(cls, project: Path, arguments: Sequence[str]) -> Command:
        """On this machine, the head node: relative paths among the arguments stay true."""
        program = [str(project / "launch.py")] if is_checkout(project) else ["-m", "salt_ray"]
        words = shlex.join([sys.executable, *program, *arguments])
        # exec: a stop must reach Python, not the shell.
        entrypoint = f"cd {shlex.quote(os.getcwd())} || exit {CANNOT_START}; exec {words}"
        environment = _environment("SALT_RAY_CACHE", "SALT_RAY_RUNS", "SALT_RAY_DATA", NODE_TYPES)
        return cls(entrypoint, arguments, project_files(project), environment)

    @classmethod
    def elsewhere(cls, project: Path, arguments: Sequence[str], say: Callable[[str], None]) -> Command:
        """On a machine that has nothing of this one's: in the unpacked package.

        Raises:
            ClusterError: an argument names what does not travel.
        """
        arguments, files = _packed(arguments, project, say)
        program = ["launch.py"] if is_checkout(project) else ["-m", "salt_ray"]
        entrypoint = "exec " + shlex.join(["python", *program, *arguments])
        return cls(entrypoint, arguments, files, _environment())


def take_option(arguments: Sequence[str], option: str) -> tuple[list[str], list[str]]:
    """The arguments without an option, and its values."""
    rest, values, words = [], [], iter(arguments)
    for word in words:
        if word == option:
            values.extend(itertools.islice(words, 1))
        elif word.startswith(f"{option}="):
            values.append(word.partition("=")[2])
        else:
            rest.append(word)
    return rest, values


def _packed(arguments: Sequence[str], project: Path, say: Callable[[str], None]) -> tuple[list[str], dict[str, Path]]:
    """A command line as it is true in the unpacked package, and the package's files.

    An experiment travels: from within the project under its own place (a Python one with those beside it, which it may
    import), from elsewhere alone. Tiles and weights do not.

    Args:
        say: prints one line.

    Raises:
        ClusterError: ``--data`` names a folder on this machine.
    """
    files = project_files(project)
    _, data = take_option(arguments, "--data")
    if data and not os.path.isabs(data[-1]) and "://" not in data[-1]:
        raise ClusterError(
            f"--data {data[-1]}: tiles are not uploaded; pass the absolute path of their folder on the cluster, or "
            "omit the option if the cluster sets SALT_RAY_DATA"
        )
    rest, experiments = take_option(arguments, "--experiment")
    if experiments and "://" not in experiments[-1] and Path(experiments[-1]).suffix:  # else one that is shipped
        place, more = _travelling(Path(experiments[-1]), project)
        files |= more
        arguments = [*rest, "--experiment", place]
    for assignment in take_option(arguments, "--set")[1]:
        field, _, value = assignment.partition("=")
        if os.path.isfile(value) and (os.path.isabs(value) or os.path.normpath(value) not in files):
            say(f"{value} ({field}) is not uploaded: the cluster needs a file under the same path")
    return list(arguments), files


def _travelling(experiment: Path, project: Path) -> tuple[str, dict[str, Path]]:
    """Where an experiment lies in the package, and which files go there with it."""
    experiment = experiment.parent.resolve() / experiment.name  # a link is taken for the file that it stands for
    project = project.resolve()
    if not experiment.is_relative_to(project):
        place = f"{OUTSIDE}/{experiment.name}"
        return place, {place: experiment}
    beside: Iterable[Path] = experiment.parent.glob("*.py") if experiment.suffix == ".py" else ()
    files = {path.relative_to(project).as_posix(): path for path in (experiment, *beside)}
    return experiment.relative_to(project).as_posix(), files


def _environment(*own: str) -> dict[str, str]:
    """What the job's processes need of this environment; no secret, for the dashboard shows it.

    Args:
        own: more variables, where they are set.
    """
    kept = {name: os.environ[name] for name in (*ENVIRONMENT, *OBJECT_STORE, *own) if name in os.environ}
    # The driver sets the same variables for its workers once more, which Ray takes for a conflict without the last one.
    return kept | {
        "COLUMNS": str(shutil.get_terminal_size((120, 24)).columns),
        "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1",
    }
