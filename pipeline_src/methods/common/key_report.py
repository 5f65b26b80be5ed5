"""The outcome of every key when weights moved from one naming to another."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class KeyReport:
    """The outcome of every key.

    Args:
        mapped: source key -> keys it fills.
        unused: source key -> why nothing reads it.
        missing: keys that no source key fills -> what they hold instead.
        allowed: patterns of keys whose loss was accepted by name.
    """

    mapped: dict[str, list[str]] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    allowed: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        parts = (("mapped", self.mapped), ("unused", self.unused), ("missing", self.missing))
        return "; ".join(f"{len(keys)} {name}: {', '.join(keys) or '-'}" for name, keys in parts)
