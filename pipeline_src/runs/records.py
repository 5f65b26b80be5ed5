"""Reading the JSON records of a training back: damage is one sentence with the next step."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pipeline_src.errors import CheckpointError


def read_record(path: Path, keys: Collection[str], advice: str) -> dict[str, Any]:
    """A JSON object that holds at least ``keys``.

    Args:
        advice: what to do when it is damaged.
    Raises:
        CheckpointError: no such file, or not such an object; names the file and what is wrong.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}; {advice}") from error
    except ValueError as error:  # bytes that are no text, too
        raise CheckpointError(f"{path}: damaged, not JSON ({error}); {advice}") from error
    missing = [key for key in keys if not isinstance(value, dict) or key not in value]
    if missing:
        raise CheckpointError(f"{path}: damaged, {', '.join(missing)} missing; {advice}")
    return value
