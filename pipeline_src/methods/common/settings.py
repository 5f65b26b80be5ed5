"""The base of what a person sets, in sections of the configuration and arguments of networks."""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class Settings(BaseModel):
    """Frozen values; unknown keys and numbers that are none are refused.

    Pydantic takes true for 1 where a number is wanted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_booleans(cls, value: Any, info: ValidationInfo) -> Any:
        kinds = set(_kinds(cls.model_fields[str(info.field_name)].annotation))
        found = next(_booleans(value), None)
        if found is not None and kinds & {int, float} and not kinds & {bool, Any}:
            raise ValueError(f"{str(found).lower()} is no number; give one")
        return value


def _kinds(annotation: Any) -> list[Any]:
    """List the types that a field's type is made of."""
    parts = get_args(annotation)
    return [kind for part in parts for kind in _kinds(part)] if parts else [annotation]


def _booleans(value: Any) -> Iterator[bool]:
    """Yield each boolean of a value that a file may give."""
    if isinstance(value, bool):
        yield value
    elif isinstance(value, (list, tuple, Mapping)):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _booleans(part)
