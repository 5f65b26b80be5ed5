"""What differs between two configurations, key by key, in words."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline_src.config.section import Section

MAX_VALUE_CHARS = 60


def section_keys(config: Section) -> dict[str, set[str]]:
    """Return keys of each section of a configuration, to name what a changed value is in."""
    sections = {name: value for name, value in config if isinstance(value, Section)}
    return {name: set(type(value).model_fields) for name, value in sections.items()}


def describe_changes(old: Any, new: Any, name: str = "") -> list[str]:
    """Say each key whose value differs: ``finetune.lr 0.001 -> 0.0005``.

    Args:
        name: of the two values; keys of a mapping are put behind it.
    """
    return list(_differences(old, new, name))


def _differences(old: Any, new: Any, name: str) -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            path = f"{name}.{key}" if name else str(key)
            if key not in old:
                yield f"{path} is new: {_short(new[key])}"
            elif key not in new:
                yield f"{path} is gone"
            else:
                yield from _differences(old[key], new[key], path)
    elif old != new:
        yield f"{name or 'value'} {_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= MAX_VALUE_CHARS else text[: MAX_VALUE_CHARS - 3] + "..."
