"""Runs outlive versions: what an older version wrote of a folder's inputs, in the fields of today.

A folder of results keeps what it was made from (``artifacts.Folder``), and is compared with what it would be made from
today. A field that did not exist then has its default; one that has gone since is left out. A default that would not
mean what was done then stands in ``ADDED``.
"""

from __future__ import annotations

from typing import Any

from pydantic_core import PydanticUndefined, to_jsonable_python

from salt_ray.config import Experiment, Folds, Mosaics, Postprocessing, Section, Stage, Tune, sections_in
from salt_ray.decision import ARGUS, Decision

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
    return _translated(before, now, Folds if "count" in now else None)


def _translated(before: Any, now: Any, kind: type[Section] | None) -> Any:
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return [_translated(old, new, _member(kind, new)) for old, new in zip(before, now, strict=True)]
    if not isinstance(before, dict) or not isinstance(now, dict):
        return before
    kind = _member(kind, now)
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


def _member(annotation: Any, fields: Any) -> type[Section] | None:
    """The section in an annotation, of several the one whose ``kind`` the fields name."""
    sections = sections_in(annotation)
    kind = fields.get("kind") if isinstance(fields, dict) else None
    named = [section for section in sections if "kind" in section.model_fields and _default(section, "kind") == [kind]]
    return (named or sections or [None])[0]
