"""A part of an experiment as a type: frozen, typed and validated, with clear error messages."""

from __future__ import annotations

import difflib
import hashlib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Self, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StrictFloat,
    ValidationError,
    model_validator,
)

from salt_ray.errors import RunError, SaltRayError
from salt_ray.storage import StoragePath, storage_path


class ExperimentError(SaltRayError):
    """An experiment cannot be used; the message names the field, the value and what is allowed."""


class RemovedField(UserWarning):
    """An experiment of an older version has a field that does nothing today."""


class Section(BaseModel):
    """A frozen part of an experiment; unknown fields and non-finite numbers are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    #: Fields that files of older versions may have, and why they have no effect any more.
    removed: ClassVar[Mapping[str, str]] = {}
    #: Fields that files of older versions may have, and where they are today: FIELD or SECTION.FIELD.
    renamed: ClassVar[Mapping[str, str]] = {}
    #: Words that files of older versions may have as a field's value, and what each is called today.
    reworded: ClassVar[Mapping[str, Mapping[str, str]]] = {}

    @model_validator(mode="before")
    @classmethod
    def _in_todays_words(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        fields = cls.in_todays_words(fields)
        for name in sorted(cls.removed.keys() & fields.keys()):
            where = f"{cls.__name__.lower()}.{name}"
            warnings.warn(f"{where} no longer has any effect: {cls.removed[name]}", RemovedField, stacklevel=2)
        return {name: value for name, value in fields.items() if name not in cls.removed}

    @classmethod
    def in_todays_words(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """The fields with every value that has another word today replaced by that word."""
        words = {
            name: today[fields[name]]
            for name, today in cls.reworded.items()
            if isinstance(fields.get(name), str) and fields[name] in today
        }
        return fields | words

    def replace(self, **changes: Any) -> Self:
        """A validated copy in which the named fields differ."""
        return validated(type(self), {**dict(self), **changes})

    def digest(self) -> str:
        """SHA-256 (hex) of the fields and their values."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


SectionT = TypeVar("SectionT", bound=Section)
Fraction = Annotated[StrictFloat, Field(ge=0, le=1)]
Weight = Annotated[StrictFloat, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=60)]


def stored(value: Any) -> StoragePath:
    """A path as a field's value.

    Raises:
        ValueError: it is none.
    """
    try:
        return storage_path(value)
    except TypeError:
        raise ValueError("input should be a path") from None
    except RunError as error:  # it begins as an address in an object store, and is none
        raise ValueError(str(error)) from error


#: A file on a disk or in an object store; a plain Path would make s3:/BUCKET of s3://BUCKET.
Stored = Annotated[StoragePath, PlainValidator(stored), PlainSerializer(str, when_used="json")]


def validated(kind: type[SectionT], fields: Any) -> SectionT:
    """A section of these fields.

    Raises:
        ExperimentError: naming every wrong field, its value and what is allowed.
    """
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise ExperimentError(sentences(error)) from error


def sentences(error: ValidationError) -> str:
    """What is wrong with a section, each fault as field, value and what is allowed."""
    (kind,) = [kind for kind in _kinds(Section) if kind.__name__ == error.title]
    return "; ".join(dict.fromkeys(_sentence(kind, fault) for fault in error.errors()))


def _kinds(kind: type[Section]) -> Iterator[type[Section]]:
    yield kind
    for derived in kind.__subclasses__():
        yield from _kinds(derived)


def _sentence(kind: type[Section], fault: Any) -> str:
    *before, last = fault["loc"] or (None,)
    written, parent = _place(kind, before)
    unknown = fault["type"] == "extra_forbidden"
    if unknown or _is_written(last, parent):
        written.append(str(last))
    where = ".".join(written) or kind.__name__.lower()
    if unknown:
        return f"{where}: unknown field{near(last, parent)}"
    if fault["type"] == "missing":
        return f"{where} is missing"
    if fault["type"] == "union_tag_not_found":
        return f"{where}.kind is missing"
    if fault["type"] == "union_tag_invalid":
        return f"{where}.kind = {fault['ctx']['tag']!r}: input should be one of {fault['ctx']['expected_tags']}"
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "value_error" and not fault["loc"]:  # of fields that the message names
        return message
    message = "input should be a path" if fault["type"] == "path_type" else f"{message[0].lower()}{message[1:]}"
    if fault["type"] == "model_attributes_type" and parent is not None and last in parent.renamed:
        message = f"it was renamed to {parent.renamed[last]}"
    value = repr(fault["input"])
    return f"{where} = {value if len(value) <= 60 else value[:57] + '…'}: {message}"


def _place(kind: type[Section], location: Iterable[str | int]) -> tuple[list[str], type[Section] | None]:
    """A validation error's location as people write it, and the section that it is (unions tell theirs by ``kind``)."""
    written, sections = [], [kind]
    for step in location:
        if _is_written(step, sections[0] if sections else None):
            written.append(str(step))
        if isinstance(step, int):
            continue
        tagged = [s for s in sections if "kind" in s.model_fields and s.model_fields["kind"].default == step]
        fields = [s.model_fields[step].annotation for s in sections if step in s.model_fields]
        sections = tagged or [section for annotation in fields for section in sections_in(annotation)]
    return written, sections[0] if sections else None


def _is_written(step: str | int | None, section: type[Section] | None) -> bool:
    """Whether a step of a location is a member's number or a section's field: a union adds which member was tried."""
    return isinstance(step, int) or (section is not None and step in section.model_fields)


def sections_in(annotation: Any) -> list[type[Section]]:
    """The sections that a field's annotation names."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for argument in get_args(annotation) for section in sections_in(argument)]


def section_of(annotation: Any, fields: Any) -> type[Section] | None:
    """The section in an annotation, of several the one whose ``kind`` the fields name."""
    sections = sections_in(annotation)
    kind = fields.get("kind") if isinstance(fields, dict) else None
    named = [section for section in sections if "kind" in section.model_fields]
    named = [section for section in named if section.model_fields["kind"].default == kind]
    return (named or sections or [None])[0]


def near(word: str, section: type[Section] | None) -> str:
    """The end of a message about an unknown field: which one was meant, perhaps, and which there are."""
    if section is None:
        return ""
    if word in section.renamed:
        return f"; it was renamed to {section.renamed[word]}"
    allowed = list(section.model_fields)
    close = difflib.get_close_matches(word, allowed, n=1)
    return (f"; did you mean {close[0]!r}?" if close else "") + f" (fields: {', '.join(allowed)})"


def distinct_names(members: tuple[Any, ...]) -> tuple[Any, ...]:
    """The members, sections with a ``name``, where there is one at least and no two have the same name."""
    names = [member.name for member in members]
    if not names:
        raise ValueError("at least one is needed")
    if len(set(names)) < len(names):
        raise ValueError(f"the names {names} must be unique")
    return members
