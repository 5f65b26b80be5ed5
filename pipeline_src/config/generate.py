"""The text of config/config.yaml, config/schema.json and config/README.md, from the sections."""

import json
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path
from typing import Any

import yaml
from pydantic.fields import FieldInfo

from pipeline_src.config.load import default_config
from pipeline_src.config.root import Config
from pipeline_src.config.section import MARK, OPERATIONAL, Section

YAML_HEADER = """\
# yaml-language-server: $schema=schema.json
# Every key with its default: the demo. Generated from pipeline_src/config and
# config/experiments/demo.yaml by `make config`.
# Change values here (dvc repro, dvc exp run -S), in an overlay (--configfile) or by
# --config 'finetune={lr: 1e-3}'. `make config` brings the defaults back.
"""
NOTHING_AGAIN = "; *operational*"
README_HEADER = """\
# Configuration

`config.yaml` holds every key with its default: the demo. An overlay given with `--configfile` and
`--config 'section={key: value}'` are merged on top, and an unknown key or a value out of bounds is
refused before any job runs. `runs` maps a run's name to the values in which it differs from the
sections `model`, `pretrain`, `finetune` and `evaluate`. Threads, memory and accounts belong to
`profiles`. Keys that are marked *operational*, and all of `submit`, `rate_limits` and
`remote`, say how a result is made and not what it is: nothing is made again when they change.

This page is generated from `pipeline_src/config` and `config/experiments/demo.yaml` by
`make config`.
"""


def rendered_files() -> dict[str, str]:
    """Map each file name in ``config/`` to its text."""
    schema = Config.model_json_schema()
    return {
        "config.yaml": YAML_HEADER + "".join(_yaml_lines(default_config(), indent="")),
        "schema.json": json.dumps(schema, indent=1) + "\n",
        "README.md": README_HEADER + "".join(_readme_lines(default_config(), "")),
    }


def drifted_files(folder: Path) -> list[str]:
    """Return names of files in ``folder`` that differ from what would be generated."""
    return [
        name
        for name, text in rendered_files().items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
    ]


def _yaml_lines(section: Section, indent: str) -> Iterator[str]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            yield f"{indent}{name}:\n"
            yield from _yaml_lines(value, indent + "  ")
        else:
            yield f"{indent}{name}: {_inline(value)}  # {field.description}\n"


def _inline(value: Any) -> str:
    """Write a leaf as YAML of one line."""
    plain = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, width=10_000)
    return text.strip().removesuffix("...").strip()


def _readme_lines(section: Section, prefix: str) -> Iterator[str]:
    leaves = {n: f for n, f in type(section).model_fields.items() if not _is_section(section, n)}
    yield f"\n## {prefix or 'top level'}\n\n{cleandoc(type(section).__doc__ or '')}\n\n"
    if leaves:
        yield "| key | default | allowed | meaning |\n|---|---|---|---|\n"
    for name, field in leaves.items():
        default = _inline(getattr(section, name)).replace("|", "\\|")
        yield f"| `{name}` | `{default}` | {_bounds(field)} | {_meaning(field)} |\n"
    for name in type(section).model_fields:
        if _is_section(section, name):
            yield from _readme_lines(getattr(section, name), f"{prefix}.{name}".lstrip("."))


def _meaning(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    is_operational = isinstance(extra, dict) and extra.get(MARK) == OPERATIONAL[MARK]
    return _cell(field.description or "") + (NOTHING_AGAIN if is_operational else "")


def _is_section(section: Section, name: str) -> bool:
    return isinstance(getattr(section, name), Section)


def _bounds(field: FieldInfo) -> str:
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    limits = [
        f"{sign} {getattr(rule, name)}"
        for rule in field.metadata
        for name, sign in signs.items()
        if getattr(rule, name, None) is not None
    ]
    is_literal = "Literal" in str(field.annotation) and "tuple" not in str(field.annotation)
    choices = getattr(field.annotation, "__args__", ()) if is_literal else ()
    return _cell(", ".join(limits) or " or ".join(map(_inline, choices)))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
