"""Runs outlive versions: what an older version wrote of a folder's inputs, in the fields of today.

A folder of results keeps what it was made from (``artifacts.Folder``), and is compared with what it would be made from
today. A field that did not exist then has its default; one that has gone since is left out; one that has another name
or place since is there (``Section.renamed``); a value that has another word today is replaced by that word
(``Section.reworded``, or here where it depends on other fields). A default that differs from what was done then is
listed in ``ADDED``.
"""

from __future__ import annotations

from typing import Any

from pydantic_core import PydanticUndefined, to_jsonable_python

from salt_ray.config import Experiment, Folds, Mosaics, Postprocessing, Searched, Stage, Tune
from salt_ray.decision import ARGUS, Decision
from salt_ray.section import Section, section_of, sections_in

#: What an entry of inputs is, by its name.
KINDS: dict[str, type[Section]] = {
    "experiment": Experiment,
    "stages": Stage,
    "settings": Mosaics,
    "prediction": Decision,
    "postprocessing": Postprocessing,
    "tune": Tune,
}
#: Entries that inputs did not have once, and what was done then.
ADDED: dict[str, Any] = {"decision": ARGUS.model_dump(mode="json"), "models": "last"}


def in_todays_fields(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Inputs as an older version wrote them, with the fields that ``now`` has, as far as their meaning is known."""
    # A fold table's settings are not in an entry of their own.
    kind = Folds if "count" in now else None
    return _translated(in_todays_names(before, kind), now, kind)


def in_todays_names(fields: Any, kind: Any = None) -> Any:
    """Fields of a file, of any version, each where it is today; what is malformed stays as it is.

    Args:
        fields: of JSON.
        kind: the section that they are, or the annotation of its field; None: inputs.
    """
    if isinstance(fields, list):
        return [in_todays_names(member, kind) for member in fields]
    if not isinstance(fields, dict):
        return fields
    section = section_of(kind, fields)
    if section is not None:
        fields = section.in_todays_words(_moved(fields, section))
    if section is Folds and fields.get("kind") == "random" and "seed" not in fields:
        fields = fields | {"kind": "depth"}  # what random was when folds had no seed
    if section is not None and issubclass(section, Searched) and isinstance(fields.get("fields"), list):
        fields["fields"] = [_todays_path(path) if isinstance(path, str) else path for path in fields["fields"]]
    return {name: in_todays_names(value, _kind_of(section, name)) for name, value in fields.items()}


def _moved(fields: dict[str, Any], section: type[Section]) -> dict[str, Any]:
    """A section's fields where they are today; what they do not say of a new section in it has its default."""
    old = {}
    for name, today in section.renamed.items():
        parent, _, field = today.rpartition(".")
        there = isinstance(fields.get(parent), dict) if parent else field in fields
        if name in fields and not there:
            old[name] = parent, field
    moved = {name: value for name, value in fields.items() if name not in old}
    for name, (parent, field) in old.items():
        defaults = to_jsonable_python(section.model_fields[parent].get_default()) if parent else {}
        place = moved.setdefault(parent, defaults) if parent else moved
        place[field] = fields[name]
    return moved


def _todays_path(path: str) -> str:
    """A path as for ``--set``, in the names of today."""
    *parents, name = path.split(".")
    annotation: Any = Experiment
    for step in parents:  # those that are no field are members of a list
        below = [kind.model_fields[step].annotation for kind in sections_in(annotation) if step in kind.model_fields]
        annotation = below[0] if below else annotation
    places = [kind.renamed[name] for kind in sections_in(annotation) if name in kind.renamed]
    return ".".join([*parents, *(places[:1] or [name])])


def _translated(before: Any, now: Any, kind: type[Section] | None) -> Any:
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return [_translated(old, new, kind) for old, new in zip(before, now, strict=True)]
    if not isinstance(before, dict) or not isinstance(now, dict):
        return before
    kind = section_of(kind, now)
    gone = kind.removed if kind else {}
    fields = {
        name: _translated(value, now.get(name), _kind_of(kind, name))
        for name, value in before.items()
        if name in now or name not in gone
    }
    return fields | {name: value for name in now.keys() - before.keys() for value in _default(kind, name)}


def _default(kind: type[Section] | None, name: str) -> list[Any]:
    """What a field that is missing means; nothing where that is not known."""
    if kind is None:
        return [ADDED[name]] if name in ADDED else []
    field = kind.model_fields.get(name)
    if field is None or field.get_default() is PydanticUndefined:
        return []
    return [to_jsonable_python(field.get_default())]


def _kind_of(kind: type[Section] | None, name: str) -> Any:
    """The annotation of a section's field, or the kind of an entry of inputs."""
    if kind is None:
        return KINDS.get(name)
    return kind.model_fields[name].annotation if name in kind.model_fields else None
