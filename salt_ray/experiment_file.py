"""Experiments from files and from the command line.

An experiment file is Python and defines ``experiment() -> Experiment``; a machine-written one is the JSON of
``Experiment.model_dump_json``. Fields are named by paths such as ``trainings.all.stages.plateau.epochs``.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib.util
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from salt_ray.compatibility import in_todays_names
from salt_ray.config import Experiment
from salt_ray.section import ExperimentError, near, section_of, sentences, validated
from salt_ray.storage import StoragePath, storage_path


def load_experiment(path: StoragePath, overrides: Iterable[str] = ()) -> Experiment:
    """The experiment in a Python or JSON file, with ``field.sub=value`` overrides applied.

    Raises:
        ExperimentError: the file is missing, does not define ``experiment()``, or a field is wrong.
    """
    is_local = isinstance(path, Path)
    if path.suffix == ".py" and not is_local:
        raise ExperimentError(
            f"{path} is Python, but only JSON experiments can be loaded from an object store: copy it to this machine, "
            "or pass a run's experiment.json"
        )
    if not path.is_file():
        pattern = "*.py" if is_local else "*.json"
        nearby = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob(pattern) if p.is_file()])
        hint = f"; did you mean {path.parent / nearby[0]}?" if nearby else "; name one with --experiment"
        raise ExperimentError(f"there is no experiment {path}{hint}")
    if path.suffix == ".json":
        try:
            experiment = validated(Experiment, in_todays_names(json.loads(path.read_text()), Experiment))
        except ExperimentError as error:
            raise ExperimentError(f"{path}: {error}") from error
        except (ValueError, RecursionError) as error:
            raise ExperimentError(f"{path} is not valid JSON ({error}): fix it or pass another file") from error
    elif path.suffix == ".py":
        build = getattr(_imported(path), "experiment", None)
        with _own_code(path, "experiment() failed"):
            experiment = build() if callable(build) else None
        if not isinstance(experiment, Experiment):
            raise ExperimentError(f"{path} must define experiment() and return a salt_ray.config.Experiment")
    else:
        raise ExperimentError(f"{path} is neither .py nor .json: pass an experiment that is")
    return override(experiment, overrides)


@contextlib.contextmanager
def _own_code(path: Path, what: str) -> Iterator[None]:
    """Run a person's code: anything can go wrong in it, and an ``exit()`` there is no end of this program."""
    try:
        yield
    except ExperimentError as error:
        raise ExperimentError(f"{path}: {error}") from error
    except ValidationError as error:
        raise ExperimentError(f"{path}: {sentences(error)}") from error
    except (Exception, SystemExit) as error:
        raise ExperimentError(
            f"{path}: {what} ({type(error).__name__}: {error}): fix the file, or pass another with --experiment"
        ) from error


def override(experiment: Experiment, assignments: Iterable[str]) -> Experiment:
    """A validated copy with ``field.sub=value`` assignments applied in order.

    Members of a list are named by number, by their ``name`` or by ``all``:
    ``trainings.all.stages.plateau.epochs=3``. Values are JSON; anything else is text. Changing a
    section's ``kind`` keeps the fields that differ from their default, if the new kind has them too.

    Raises:
        ExperimentError: naming field, value and what is allowed.
    """
    values = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path:
            raise ExperimentError(f"--set {assignment}: write field.sub=value, for example network.encoder=resnet34")
        values.pop(path, None)  # the last one counts, in its place
        try:
            values[path] = json.loads(text)
        except json.JSONDecodeError:
            values[path] = text
    return assign(experiment, values)


def assign(experiment: Experiment, values: Mapping[str, Any]) -> Experiment:
    """A validated copy in which the fields that the paths name have these values; paths are those of ``override``.

    Raises:
        ExperimentError: naming field, value and what is allowed.
    """
    fields = experiment.model_dump()
    for path, value in values.items():
        _visit(fields, Experiment, path.split("."), path, functools.partial(_put, value))
    return validated(Experiment, fields)


def _put(value: Any, parent: dict, annotation: Any, field: str) -> None:
    before = section_of(annotation, parent)
    parent[field] = value
    after = section_of(annotation, parent)
    if after is not before:
        own, other = (section.model_construct().model_dump() for section in (before, after))
        kept = {name: parent[name] for name in parent.keys() & after.model_fields if parent[name] != own.get(name)}
        parent.clear()
        parent.update(other | kept)


def values_at(experiment: Experiment, path: str) -> list[Any]:
    """The values that ``--set path=…`` would replace: one, or more where the path says ``all``.

    Raises:
        ExperimentError: unknown field.
    """
    found: list[Any] = []
    _visit(experiment.model_dump(), Experiment, path.split("."), path, lambda node, _, step: found.append(node[step]))
    return found


def _visit(node: Any, annotation: Any, steps: list[str], path: str, apply: Callable[[dict, Any, str], None]) -> None:
    """Call ``apply(parent, its annotation, field)`` for every field deep inside ``node`` that ``steps`` name."""
    step, *rest = steps
    if isinstance(node, list | tuple):
        names = [member.get("name", str(i)) if isinstance(member, dict) else str(i) for i, member in enumerate(node)]
        if step != "all" and step not in names and not (step.isdigit() and int(step) < len(node)):
            raise ExperimentError(f"{path}: there is no {step!r} here; choose a number, 'all' or one of {names}")
        chosen = names if step == "all" else [step]
        for name in chosen:
            member = node[names.index(name) if name in names else int(name)]
            if not rest or not isinstance(member, dict):
                raise ExperimentError(f"{path}: set a field of this entry, or give the whole list as JSON")
            _visit(member, annotation, rest, path, apply)
        return
    if not isinstance(node, dict):
        raise ExperimentError(f"{path}: {step!r} cannot be set, because its parent is a plain value")
    section = section_of(annotation, node)
    if section is None or step not in section.model_fields:
        raise ExperimentError(f"{path}: unknown field {step!r}{near(step, section)}")
    value = node.get(step)
    if rest and value is not None and not isinstance(value, dict | list | tuple):
        raise ExperimentError(f"{path}: {step!r} is a plain value and has no field {rest[0]!r}")
    if rest:
        _visit(value, section.model_fields[step].annotation, rest, path, apply)
    else:
        apply(node, annotation, step)


#: Where experiments come from that the project ships: a checkout, or the installed package.
SHIPPED = next(
    folder / "experiments"
    for folder in (Path(__file__).resolve().parents[1], Path(__file__).resolve().parent)
    if (folder / "experiments" / "random_folds.py").exists()
)


def shipped() -> list[str]:
    """The experiments that the project ships, by name."""
    return sorted(path.stem for path in SHIPPED.glob("[a-z]*.py"))


def experiment_path(name: str) -> StoragePath:
    """The file of an experiment: of one that the project ships by its name alone, of any by its path.

    Raises:
        ExperimentError: the project ships none of that name.
    """
    if Path(name).suffix or "/" in name:
        return storage_path(name)
    if name not in shipped():
        raise ExperimentError(f"there is no experiment {name}: name a file, or one of {', '.join(shipped())}")
    return SHIPPED / f"{name}.py"


def _imported(path: Path) -> ModuleType:
    """Import an experiment file.

    ``from experiments.parent import experiment`` works for those beside it and for those that the project ships.
    """
    spec = importlib.util.spec_from_file_location(f"experiments.{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    with _as_package(path.resolve().parent, SHIPPED), _own_code(path, "it cannot be imported"):
        spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _as_package(*folders: Path) -> Iterator[None]:
    """While the block lasts the folders are the package ``experiments``; one that is there already comes back."""
    ours = [name for name in sys.modules if name.partition(".")[0] == "experiments"]
    before = {name: sys.modules.pop(name) for name in ours}
    package = ModuleType("experiments")
    package.__path__ = [str(folder) for folder in folders]
    sys.modules["experiments"] = package
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "experiments"]:
            del sys.modules[name]
        sys.modules.update(before)
