"""Reading the JSON records of a training back: damage is one sentence with the next step."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline_src.errors import CheckpointError
from pipeline_src.system.atomic import file_sha256


def read_json_object(path: Path, keys: Mapping[str, type], advice: str) -> dict[str, Any]:
    """Read a JSON object that holds at least ``keys``.

    Args:
        keys: with the type of each.
        advice: what to do when it is damaged.
    Raises:
        CheckpointError: no such file, or not such an object; names the file and what is wrong.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}; {advice}") from error
    except (ValueError, RecursionError) as error:  # bytes that are no text, too
        raise CheckpointError(f"{path}: damaged, not JSON ({error}); {advice}") from error
    found = value if isinstance(value, dict) else {}
    wrong = [key for key, kind in keys.items() if not isinstance(found.get(key), kind)]
    if wrong:
        raise CheckpointError(f"{path}: damaged, {', '.join(wrong)} missing or wrong; {advice}")
    return found


def missing_file(folder: Path, names: Iterable[str]) -> Path | None:
    """Return the first file that is missing, if any."""
    return next((folder / name for name in names if not (folder / name).is_file()), None)


def damaged_file(folder: Path, hashes: Mapping[str, str]) -> Path | None:
    """Return the first file that is missing or has another sha256 than ``hashes`` says, if any."""
    for name, expected in hashes.items():
        path = folder / name
        if not path.is_file() or file_sha256(path) != expected:
            return path
    return None
