"""What Snakemake's command line and profiles would lose without a word.

Snakemake keeps the last ``--config`` and the last ``--configfile`` and drops those before; of
``configfile`` and ``config`` in a profile it keeps nothing where the command line has its own.
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline_src.config.yaml_files import read_sections
from pipeline_src.errors import ConfigError, did_you_mean

# Spellings of the options of which only the last one counts.
SPELLINGS = {"--config": "--config", "-C": "--config"} | dict.fromkeys(
    ("--configfile", "--configfiles"), "--configfile"
)
PROFILE_VARIABLE = "SNAKEMAKE_PROFILE"
PROFILE_FILES = ("profile.yaml", "config.yaml")


def refuse_repeated(arguments: Sequence[str]) -> None:
    """Refuse ``--config`` or ``--configfile`` given twice.

    Raises:
        ConfigError: says how to write all of it.
    """
    for option in dict.fromkeys(SPELLINGS.values()):
        given = list(_values_of(option, arguments))
        if len(given) > 1:
            together = shlex.join(value for values in given for value in values)
            raise ConfigError(
                f"{option} is given {len(given)} times, and Snakemake would take the last one "
                f"alone; write all of it after one: {option} {together} --"
            )


def refuse_unknown_profile(arguments: Sequence[str], root: Path) -> None:
    """Refuse a ``--workflow-profile`` that is not there: Snakemake would run without one.

    Raises:
        ConfigError: names those that are there.
    """
    given = [values[0] for values in _values_of("--workflow-profile", arguments) if values]
    for name in given[-1:]:
        if name != "none" and not any(path.exists() for path in _workflow_profile(name, root)):
            known = sorted(path.name for path in (root / "profiles").iterdir())
            raise ConfigError(
                f"--workflow-profile {name}: no such profile, and Snakemake would run without one"
                f"{did_you_mean(name, known)}; the project's are {', '.join(known)}"
            )


def _workflow_profile(name: str, root: Path) -> list[Path]:
    return [Path(name), Path("profiles", name), root / "profiles" / name]


def lost_settings(
    arguments: Sequence[str], environment: Mapping[str, str], root: Path
) -> Iterator[str]:
    """Yield a sentence for each profile whose configuration the command line replaces.

    Raises:
        ConfigError: a profile in force has a key twice.
    """
    for path in profiles_in_force(arguments, environment, root):
        values = read_sections(path)
        for option in dict.fromkeys(SPELLINGS.values()):
            key = option.removeprefix("--")
            given = list(_values_of(option, arguments))
            if key in values and given and not _has_files(given[-1], path, values[key]):
                yield (
                    f"{option} on the command line replaces the {key} of {path}, it does not add "
                    f"to it ({values[key]}); name both after {option} if both are meant"
                )


def _has_files(given: Sequence[str], profile: Path, values: Any) -> bool:
    """Return whether the command line names all files that a profile does."""
    named = [values] if isinstance(values, str) else values
    if not isinstance(named, list):
        return False
    there = {Path(value).resolve() for value in given}
    return {(profile.parent / str(value)).resolve() for value in named} <= there


def profiles_in_force(
    arguments: Sequence[str], environment: Mapping[str, str], root: Path
) -> list[Path]:
    """Return the profile files of this call that lie here or in the project."""
    named = [name for values in _values_of("--profile", arguments) for name in values[:1]]
    named = named or environment.get(PROFILE_VARIABLE, "").split(",")
    own = [name for values in _values_of("--workflow-profile", arguments) for name in values[:1]]
    candidates = [[Path(name)] for name in named if name]
    candidates += [_workflow_profile(name, root) for name in own[-1:] or ["default"]]
    found = []
    for places in candidates:
        place = next((path for path in places if path.exists()), None)
        files = [place] if place and place.is_file() else []
        files += [place / name for name in PROFILE_FILES if place and (place / name).is_file()]
        found += files[:1]
    return found


def _values_of(option: str, arguments: Sequence[str]) -> Iterator[list[str]]:
    """Yield the values of each time that an option is given, however it is spelt."""
    values: list[str] | None = None
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if argument == "--":
            break
        if argument.startswith("-C") and len(argument) > 2:
            name, equals, value = "-C", "=", argument[2:].removeprefix("=")
        if not argument.startswith("-"):
            if values is not None:
                values.append(argument)
            continue
        if values is not None:
            yield values
        is_meant = SPELLINGS.get(name, name) == option
        values = ([value] if equals else []) if is_meant else None
    if values is not None:
        yield values
