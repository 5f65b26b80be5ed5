"""Runs whose results were made with other settings than the configuration has now."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline_src.catalog.runs import Catalog
from pipeline_src.config import RunConfig, read_yaml
from pipeline_src.config.differences import differences
from pipeline_src.config.old_keys import with_new_keys
from pipeline_src.errors import ConfigError

MAX_NAMED = 6  # changed keys in one sentence


def changed_runs(catalog: Catalog) -> Iterator[str]:
    """Yield a sentence for each run whose values are not those that its results name."""
    for run in filter(lambda one: catalog.run_file(one).is_file(), catalog.run_names):
        path = catalog.run_file(run)
        try:
            then = _read_run(path)
        except ConfigError as error:
            yield str(error)
            continue
        now = catalog.run(run)
        changed = list(differences(then, now.model_dump(mode="json")))
        if changed:
            more = f" and {len(changed) - MAX_NAMED} more" if len(changed) > MAX_NAMED else ""
            effect = "" if _counts(then, now) else "; nothing is made again for it"
            named = ", ".join(changed[:MAX_NAMED])
            yield f"run {run} is no longer as {path} says: {named}{more}{effect}"


def _read_run(path: Path) -> dict[str, Any]:
    """Return the sections of a run as they were recorded, by the names that their keys have now.

    A key that came later has its default, which is what the code before it did.
    """
    then = read_yaml(path)
    then = with_new_keys(then, str(path), RunConfig) if isinstance(then, dict) else {}
    try:
        return RunConfig.model_validate(then).model_dump(mode="json")
    except ValidationError:  # of another version of this code
        return then


def _counts(then: Mapping[str, Any], now: RunConfig) -> bool:
    """Tell whether a difference is one of what counts."""
    try:
        return RunConfig.model_validate(then).recipe_values() != now.recipe_values()
    except ValidationError:  # of another version of this code
        return True
