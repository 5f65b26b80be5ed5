"""Runs that start from others or follow them: what the keys that name a run may name."""

from collections.abc import Iterator
from typing import Any

from pipeline_src.config.root import Config, RunConfig
from pipeline_src.errors import ConfigError
from pipeline_src.methods import METHODS, find_method

TEACHER = "pretrain.teacher_run"
START = "pretrain.checkpoint_run"


def check_sources(config: Config, name: str, run: RunConfig) -> None:
    """Refuse a run that names another which is not there or cannot serve it.

    Raises:
        ConfigError: names the keys and their values.
    """
    source = run.finetune.checkpoint_run
    if source and config.runs.get(source) is None:
        raise ConfigError(f"runs.{name}.finetune.checkpoint_run = {source!r} is not a listed run")
    # Not asked by the section itself: specs of finished trainings hold both, and are read.
    if source and run.finetune.init == "scratch":
        raise ConfigError(
            f"run {name}: finetune.init: scratch starts from no pre-training, so "
            f"finetune.checkpoint_run = {source!r} has no meaning; remove one of them"
        )
    _check_start(config, name, run)
    _check_teacher(config, name, run)


def _check_start(config: Config, name: str, run: RunConfig) -> None:
    recipe = run.pretrain
    if recipe.checkpoint_run and recipe.checkpoint:
        raise ConfigError(
            f"run {name}: {START} = {recipe.checkpoint_run!r} and pretrain.checkpoint = "
            f"{recipe.checkpoint!r}: a checkpoint stands for the whole pre-training; to "
            "continue it, give it to a run of its own and name that run"
        )
    for follower, source in _chain(config, name, START):
        theirs, own = (_value(config, one, "model", "method") for one in (source, follower))
        if theirs != own:
            raise ConfigError(
                f"runs.{follower}.{START} = {source!r} is a run of {theirs}, {follower} one of "
                f"{own}; a pre-training continues with the same network"
            )


def _check_teacher(config: Config, name: str, run: RunConfig) -> None:
    follows = run.model.overrides.get("predicts") == "features"
    if bool(run.pretrain.teacher_run) != follows:
        raise ConfigError(
            f"run {name}: {TEACHER}={run.pretrain.teacher_run!r} and model.overrides.predicts="
            f"{run.model.overrides.get('predicts', 'patches')!r}: a second stage needs a teacher "
            "and predicts: features, the first neither"
        )
    for follower, teacher in _chain(config, name, TEACHER):
        method = _value(config, teacher, "model", "method")
        if not find_method(method).config.teacher_keys:
            allowed = [name for name in METHODS if find_method(name).config.teacher_keys]
            raise ConfigError(
                f"runs.{follower}.{TEACHER} = {teacher!r} is a run of {method}; allowed "
                f"methods: {', '.join(allowed)}"
            )


def _chain(config: Config, name: str, key: str) -> Iterator[tuple[str, str]]:
    """Yield each run and the one that its ``key`` names, from ``name`` to one that names none.

    Raises:
        ConfigError: a run is not listed, or the chain comes back to itself.
    """
    seen = [name]
    while source := _value(config, seen[-1], *key.split(".")):
        if source in seen or config.runs.get(source) is None:
            problem = "leads back to itself" if source in seen else "is not a listed run"
            raise ConfigError(f"runs.{seen[-1]}.{key} = {source!r} {problem}")
        yield seen[-1], source
        seen.append(source)


def _value(config: Config, name: str, section: str, key: str) -> Any:
    """Return a key of a run, unchecked as yet: of its overlay, else of the whole configuration."""
    overlay = (config.runs.get(name) or {}).get(section) or {}
    return overlay.get(key, getattr(getattr(config, section), key))
