"""In which keys two trees of settings differ."""

from collections.abc import Iterator, Mapping
from typing import Any

MAX_TEXT = 40
ABSENT = "(none)"


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield ``finetune.lr 0.001 -> 0.0005`` for each leaf that differs, in the order of ``now``."""
    for key in dict.fromkeys([*now, *then]):
        old, new = then.get(key, ABSENT), now.get(key, ABSENT)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from (f"{key}.{below}" for below in differences(old, new))
        elif old != new:
            yield f"{key} {_text(old)} -> {_text(new)}"


def _text(value: Any) -> str:
    text = str(value)
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 3]}..."
