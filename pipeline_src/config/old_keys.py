"""Keys and choices by the names of the release before, read for one more with the new name said.

The sections translate their own keys. Trees are translated here before they are merged, where an
overlay by old names would stand beside the new ones.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline_src.config.root import Config, RunConfig
from pipeline_src.config.section import Section, new_value, renamed, section_of
from pipeline_src.errors import ConfigError


def with_new_keys(
    tree: Mapping[str, Any], where: str = "configuration", section: type[Section] = Config
) -> dict[str, Any]:
    """Return a tree of the configuration, or of one of its sections, by the names of now.

    Args:
        where: it stands, for the message.
    Raises:
        ConfigError: a key is given by both names.
    """
    try:
        values = renamed(section, tree)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
    for name, value in values.items():
        below = section_of(section, name) if name in section.model_fields else None
        if below and isinstance(value, Mapping):
            values[name] = with_new_keys(value, f"{where}: {name}", below)
        elif section is Config and name == "runs" and isinstance(value, Mapping):
            values[name] = {
                run: _of_run(overlay, f"{where}: runs.{run}") for run, overlay in value.items()
            }
    return values


def _of_run(overlay: Any, where: str) -> Any:
    return with_new_keys(overlay, where, RunConfig) if isinstance(overlay, Mapping) else overlay


def old_keys_in(tree: Mapping[str, Any], section: type[Section] = Config) -> Iterator[str]:
    """Yield a sentence for each key that a tree has by its old name."""
    for name, value in tree.items():
        if new := section.old_keys.get(name):
            yield f"{name} is called {new} now; the old name is read for one more release"
        known = new or name
        if (now := new_value(section, known, value)) != value:
            yield f"{name}: {value} is called {now} now; the old name is read for one more release"
        below = section_of(section, known) if known in section.model_fields else None
        if below and isinstance(value, Mapping):
            yield from (f"{name}.{text}" for text in old_keys_in(value, below))
        elif section is Config and name == "runs" and isinstance(value, Mapping):
            overlays = {run: one for run, one in value.items() if isinstance(one, Mapping)}
            for run, one in overlays.items():
                yield from (f"runs.{run}.{text}" for text in old_keys_in(one, RunConfig))
