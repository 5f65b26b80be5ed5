"""The base class of every configuration section, and which of its fields are the recipe."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from pydantic import model_validator
from pydantic.config import JsonDict

from pipeline_src.methods.common.settings import Settings

MARK = "recipe"
# How a result is made, not what it is: nothing is made again for it, at any time.
OPERATIONAL: JsonDict = {MARK: "operational"}
# Names something whose content is in the record by itself: data, weights, a part left out.
ELSEWHERE: JsonDict = {MARK: "elsewhere"}
# Came after results were recorded: it counts, and is recorded, where it is not at its default.
LATER: JsonDict = {MARK: "later"}
MAX_SEED = 2**63 - 1  # of torch's generators, and of the columns of tables


class Section(Settings):
    """A group of settings.

    A field counts: results are made again when it changes, and the record of a training holds it.
    Fields with ``json_schema_extra=OPERATIONAL`` or ``ELSEWHERE`` do not. Those with ``LATER``
    count, but a record holds them only where they differ from their default.
    """

    # Key of the release before -> its name now, and key -> value of then -> value of now; files and
    # records are read with either.
    old_keys: ClassVar[Mapping[str, str]] = MappingProxyType({})
    old_values: ClassVar[Mapping[str, Mapping[str, str]]] = MappingProxyType({})

    @model_validator(mode="before")
    @classmethod
    def _read_old_keys(cls, values: Any) -> Any:
        return renamed(cls, values) if isinstance(values, Mapping) else values

    def recipe_values(self) -> dict[str, Any]:
        """Return the plain values of every field that counts."""
        return self.model_dump(mode="json", exclude=_left_out(self))


def renamed(section: type[Section], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values of a section with the names that its keys and choices have now.

    Raises:
        ValueError: a key is given by both names.
    """
    if twice := [key for key in section.old_keys if {key, section.old_keys[key]} <= values.keys()]:
        new = section.old_keys[twice[0]]
        raise ValueError(f"{twice[0]} is the old name of {new}, and both are given; keep {new}")
    known = {section.old_keys.get(key, key): value for key, value in values.items()}
    return {key: new_value(section, key, value) for key, value in known.items()}


def new_value(section: type[Section], key: str, value: Any) -> Any:
    """Return what a value of the release before is called now; any other one as it is."""
    renames = section.old_values.get(key, {})
    return renames.get(value, value) if isinstance(value, str) else value


def is_recorded(section: type[Section], name: str) -> bool:
    """Tell whether a field counts."""
    extra = section.model_fields[name].json_schema_extra
    return not (isinstance(extra, dict) and MARK in extra) or extra == LATER


def section_of(section: type[Section], name: str) -> type[Section] | None:
    """Return the section that a field holds, if it holds one."""
    annotation = section.model_fields[name].annotation
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return None


def recorded_keys(section: type[Section], prefix: str) -> Iterator[str]:
    """Yield dotted keys that hold what counts of a section, whole sections where all of it does."""
    if _counts_whole(section):
        yield prefix
        return
    for name in section.model_fields:
        if not is_recorded(section, name):
            continue
        below = section_of(section, name)
        yield from recorded_keys(below, f"{prefix}.{name}") if below else [f"{prefix}.{name}"]


def _counts_whole(section: type[Section]) -> bool:
    """Tell whether every field of a section counts, those of sections in it too."""
    return all(
        is_recorded(section, name)
        and ((below := section_of(section, name)) is None or _counts_whole(below))
        for name in section.model_fields
    )


def _left_out(values: Section) -> dict[str, Any]:
    """Return what ``model_dump`` has to leave out of a record."""
    found: dict[str, Any] = {}
    for name, field in type(values).model_fields.items():
        value = getattr(values, name)
        is_later = field.json_schema_extra == LATER
        if not is_recorded(type(values), name) or (is_later and value == field.default):
            found[name] = True
        elif isinstance(value, Section) and (inner := _left_out(value)):
            found[name] = inner
    return found
