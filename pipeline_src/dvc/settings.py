"""Which keys and versions a stage of DVC depends on: those of the rules that run in it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline_src.catalog import Catalog
from pipeline_src.catalog.steps import STEPS
from pipeline_src.config import Config
from pipeline_src.config.root import RUN_SECTIONS, RunConfig
from pipeline_src.config.section import Section, is_recorded, recorded_keys, section_of


def versions_of(rules: Sequence[str]) -> tuple[str, ...]:
    """Return the constants of ``pipeline_src/versions.py`` that rules depend on."""
    return tuple(dict.fromkeys(STEPS[rule].version for rule in rules if rule in STEPS))


def dataset_keys(rules: Sequence[str]) -> tuple[str, ...]:
    """Return the keys that rules of a data stage depend on, each once."""
    return tuple(dict.fromkeys(key for name in _settings(rules) for key in _keys(name)))


def run_keys(catalog: Catalog, rule: str, run: str) -> tuple[str, ...]:
    """Return the keys that a rule depends on in a job of a run: shared ones and the run's own.

    A section that the run does not write out could be added later, so then the whole run counts.
    """
    overlay = catalog.config.runs[run] or {}
    settings = _settings([rule])
    sections = [name for name in settings if name in RUN_SECTIONS]
    own: list[str] = []
    for section in sections:
        below = section_of(RunConfig, section)
        if below and section in overlay:
            own += _own_keys(below, overlay[section] or {}, f"runs.{run}.{section}")
    if any(section not in overlay for section in sections):
        own = [f"runs.{run}"]
    others = (key for name in settings if name not in sections for key in _keys(name))
    return (*shared_keys(sections), *own, *others)


def shared_keys(sections: Sequence[str]) -> Iterator[str]:
    """Yield the keys that hold what counts of these sections for all runs."""
    for section in sections:
        yield from _keys(section)


def _settings(rules: Sequence[str]) -> list[str]:
    return [key for rule in rules if rule in STEPS for key in STEPS[rule].settings.values()]


def _keys(name: str) -> Iterator[str]:
    """Yield the keys behind a setting of a rule: all of the section where it is computed of it."""
    section, _, field = name.partition(".")
    below = section_of(Config, section)
    assert below is not None, name
    yield from [name] if field in below.model_fields else recorded_keys(below, section)


def _own_keys(section: type[Section], values: Mapping[str, Any], prefix: str) -> list[str]:
    """Return what a run writes out of a section: key by key where some of it does not count."""
    if all(is_recorded(section, name) for name in values):
        return [prefix]
    return [f"{prefix}.{name}" for name in values if is_recorded(section, name)]
