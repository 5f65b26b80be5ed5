"""Check a merged configuration; say of each wrong value where it stands and what is allowed."""

import logging
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from pipeline_src.config.old_keys import old_keys_in, with_new_keys
from pipeline_src.config.possible import refuse_impossible
from pipeline_src.config.root import MAX_NAME_CHARS, NAME_PATTERN, RUN_SECTIONS, Config, RunConfig
from pipeline_src.config.section import Section
from pipeline_src.config.value_origins import COMMAND_LINE, ValueOrigins
from pipeline_src.config.yaml_files import merge, parse_assignments, read_sections
from pipeline_src.errors import ConfigError, did_you_mean, shown
from pipeline_src.system.checkout import CHECKOUT, CONFIG_FILE

PROJECT_FILE = CHECKOUT / CONFIG_FILE
CONFIG_FOLDER = PROJECT_FILE.parent
DEMO_FILE = CONFIG_FOLDER / "experiments" / "demo.yaml"
logger = logging.getLogger(__name__)
SectionT = TypeVar("SectionT", bound=Section)
# Pydantic speaks of Python's types.
FEW = 20  # keys of a section that an error lists beside the one that was meant
PLAIN = {
    "dict_type": "must be a mapping, {name: value, ...}",
    "model_type": "must be a section, {key: value, ...}",
    "list_type": "must be a list, [value, ...]",
    "tuple_type": "must be a list, [value, ...]",
}


def load_config(
    merged: Mapping[str, Any], files: Sequence[Path] = (), assignments: Sequence[str] = ()
) -> Config:
    """Turn merged values into the typed tree, every run included.

    Args:
        merged: config.yaml, overlays and --config in one tree. files: the configuration files,
            first read first; errors name the last one that sets the key.
        assignments: what ``--config`` set on top.
    Raises:
        ConfigError: unknown key, wrong type, value out of bounds, bad run name; lists every
            problem.
    """
    origins = ValueOrigins(files, assignments)
    config = _validate(Config, _with_defaults(merged), (), origins)
    for name in config.run_names:
        if not re.fullmatch(NAME_PATTERN, name):
            raise ConfigError(
                f"runs.{name}: a run name is letters, digits and _, starting with a letter, at "
                f"most {MAX_NAME_CHARS} of them; this one has {len(name)} characters"
            )
        _checked_run(config, name, origins)
    return config


@cache
def default_config() -> Config:
    """Return what config.yaml is generated from: the sections' defaults with the demo on top.

    A package that was installed without its project has the sections' defaults alone.
    """
    demo = read_sections(DEMO_FILE) if DEMO_FILE.is_file() else {}
    return _validate(Config, demo, (), ValueOrigins([DEMO_FILE] if demo else []))


def _with_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in what files leave out, as config.yaml is generated and not as a section begins."""
    defaults = default_config().model_dump(mode="json", exclude={"runs"} & values.keys())
    return merge(defaults, with_new_keys(values))


def merge_files(files: Sequence[Path], assignments: Sequence[str] = ()) -> dict[str, Any]:
    """Return the values of configuration files, first file first, and of ``--config`` on top.

    Raises:
        ConfigError: one cannot be read, has a key twice, or by its old and its new name, or removes
            a run that none before it lists.
    """
    trees = {str(path): read_sections(path) for path in files}
    trees[COMMAND_LINE] = parse_assignments(assignments)
    merged: dict[str, Any] = {}
    for where, tree in trees.items():
        for sentence in old_keys_in(tree):
            logger.warning("%s: %s", where, sentence)
        tree = with_new_keys(tree, where)
        _refuse_unlisted_nulls(tree.get("runs"), merged.get("runs"), where)
        merged = merge(merged, tree)
    return merged


def _refuse_unlisted_nulls(runs: Any, listed: Any, where: str) -> None:
    """Refuse to remove a run that is not there: its name may be that of one misspelt.

    Args:
        runs, listed: of a tree and of those before it, unchecked as yet.
    Raises:
        ConfigError: names the run, and the one that is meant.
    """
    below = listed if isinstance(listed, Mapping) else {}
    for name, value in runs.items() if isinstance(runs, Mapping) else ():
        if value is not None or name in below or name in default_config().runs:
            continue
        known = [str(one) for one in {**default_config().runs, **below}]
        raise ConfigError(
            f"{where}: runs.{name}: null removes a run, and no file before lists this one"
            f"{did_you_mean(str(name), known)}; listed: {', '.join(known)}"
        )


def read_config(files: Sequence[Path]) -> Config:
    """Return the project's config/config.yaml with overlays on top, first file first.

    Raises:
        ConfigError: a file cannot be read, or a value is not allowed.
    """
    # A package that was installed without its project has the sections' defaults.
    files = [*([PROJECT_FILE] if PROJECT_FILE.is_file() else []), *files]
    return load_config(merge_files(files), files)


def resolve_run(config: Config, name: str) -> RunConfig:
    """Return the sections of run ``name``: the top-level ones with the run's own values on top."""
    return _checked_run(config, name, ValueOrigins(()))


def _checked_run(config: Config, name: str, origins: ValueOrigins) -> RunConfig:
    try:
        return _resolve_run(config, name, origins)
    except ConfigError as error:
        where = origins.of_keys(str(error), tuple(Config.model_fields), name)
        raise ConfigError(f"{error}{where}") from None


def _resolve_run(config: Config, name: str, origins: ValueOrigins) -> RunConfig:
    overlay = config.runs.get(name)
    if overlay is None:
        listed = ", ".join(config.run_names)
        near = did_you_mean(name, config.run_names)
        raise ConfigError(f"run {name!r} is not listed{near}; listed runs: {listed}")
    base = {section: getattr(config, section).model_dump(mode="json") for section in RUN_SECTIONS}
    run = _validate(RunConfig, merge(base, overlay), ("runs", name), origins)
    refuse_impossible(config, name, run)
    return run


def _validate(
    section: type[SectionT],
    values: Mapping[str, Any],
    prefix: tuple[str, ...],
    origins: ValueOrigins,
) -> SectionT:
    try:
        return section.model_validate(dict(values))
    except ValidationError as error:
        problems = [_describe(section, problem, prefix, origins) for problem in error.errors()]
        raise ConfigError("configuration refused:\n  " + "\n  ".join(problems)) from None


def _describe(
    section: type[Section], problem: ErrorDetails, prefix: tuple[str, ...], origins: ValueOrigins
) -> str:
    location = tuple(str(part) for part in problem["loc"])
    path = prefix + location
    if problem["type"] == "extra_forbidden":
        fields = _section_at(section, location[:-1]).model_fields
        near = did_you_mean(location[-1], fields)
        is_long = near and len(fields) > FEW
        allowed = "all: config/README.md" if is_long else f"allowed here: {', '.join(fields)}"
        message = f"unknown key{near}; {allowed}"
    else:
        message = PLAIN.get(problem["type"]) or problem["msg"].removeprefix("Value error, ")
    is_cross_key = isinstance(problem["input"], Mapping) and problem["type"] == "value_error"
    if is_cross_key and not prefix:
        message += origins.of_keys(message, tuple(Config.model_fields), "", ".".join(location))
    value = "" if isinstance(problem["input"], Mapping) else f" = {shown(problem['input'])}"
    is_one = path and not is_cross_key  # keys that do not fit together are placed each
    place = (origins.find(path) or COMMAND_LINE) if is_one else ""
    head = f"{place}: " if place else ""
    return f"{head}{'.'.join(path) or 'configuration'}{value}: {message}"


def _section_at(section: type[Section], location: Sequence[str]) -> type[Section]:
    for part in location:
        annotation = section.model_fields[part].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, Section)):
            break
        section = annotation
    return section
