"""Read YAML as people mean it: a key twice is an error, and words are words.

PyYAML keeps the last of two equal keys without a word, takes ``no`` and ``on`` for booleans, dates
for dates, ``1:30`` for 90, ``010`` for 8 and ``1e-3`` for text (YAML 1.1). Here two equal keys are
refused with both lines, and scalars are those of YAML 1.2, which DVC reads ``config/config.yaml``
as.
"""

import copy
import re
from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from pipeline_src.errors import ConfigError, shown

TAG = "tag:yaml.org,2002:"
MERGE_TAG = f"{TAG}merge"
# Plain words that are no text, beside null and <<. Underscores may stand between digits.
SCALARS = {
    "bool": (r"(?:true|True|TRUE|false|False|FALSE)", "tTfF"),
    "int": (r"(?:[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+)", "-+0123456789"),
    "float": (
        r"(?:[-+]?(?:\.[0-9]|[0-9][0-9_]*\.?)[0-9_]*(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))",
        "-+0123456789.",
    ),
}
REPLACED_TAGS = (*(TAG + kind for kind in SCALARS), f"{TAG}timestamp")
BASES = {"0o": 8, "0x": 16}
MAX_INTEGER_CHARS = 300  # beyond that no float holds it; beyond 4300 digits Python prints none
MAX_VALUES = 200_000  # of one file; a class list or clip list is a CSV file
NULLS_OF_PYTHON = "None"  # Snakemake's help asks for values in the format of Python


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with these differences, and a bound on what aliases spell out."""

    def get_single_data(self) -> Any:
        node = self.get_single_node()
        if node is None:
            return None
        _count_values(node, {})
        # Before merge keys are unfolded, which changes the nodes: what << brings may be set anew.
        self._refuse_twice(node, set())
        return self.construct_document(node)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Return what a node means.

        Raises:
            YAMLError: its text is nothing of the kind that it is said, or seems, to be.
        """
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, TypeError) as error:
            raise yaml.YAMLError(
                f"line {node.start_mark.line + 1}: {shown(node.value)} is no "
                f"{node.tag.removeprefix(TAG)} ({error})"
            ) from None

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Return an integer; leading zeros mean nothing.

        Raises:
            ValueError: it is none, or too long.
        """
        text = self.construct_scalar(node).replace("_", "")
        if len(text) > MAX_INTEGER_CHARS:
            raise ValueError(f"{len(text)} digits, at most {MAX_INTEGER_CHARS} are read")
        return int(text, BASES.get(text[:2], 10))

    def _refuse_twice(self, node: yaml.Node, seen: set[int]) -> None:
        """Refuse a mapping with two equal keys; equal is what they mean, not how they are spelt.

        Raises:
            _KeyTwiceError: names the key and both lines.
            YAMLError: a key has its value stuck to it.
        """
        if id(node) in seen or not isinstance(node, yaml.CollectionNode):
            return
        seen.add(id(node))
        first: dict[Hashable, int] = {}
        for part in node.value:
            if isinstance(part, tuple):
                key, line = part[0], part[0].start_mark.line + 1
                if isinstance(key, yaml.ScalarNode):
                    if node.flow_style:
                        _refuse_stuck(key, part[1])
                    meant = self._meaning(key)
                    if meant in first:
                        raise _KeyTwiceError(key.value, first[meant], line)
                    first[meant] = line
            for below in part if isinstance(part, tuple) else (part,):
                self._refuse_twice(below, seen)

    def _meaning(self, key: yaml.ScalarNode) -> Hashable:
        if key.tag == MERGE_TAG:
            return (MERGE_TAG,)
        return self.construct_object(key, deep=True)


_Loader.yaml_implicit_resolvers = {
    letter: [rule for rule in rules if rule[0] not in REPLACED_TAGS]
    for letter, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for kind, (pattern, letters) in SCALARS.items():  # in this order: an integer looks like a float
    _Loader.add_implicit_resolver(TAG + kind, re.compile(f"^{pattern}$"), list(letters))
_Loader.add_constructor(f"{TAG}int", _Loader.construct_yaml_int)


def _refuse_stuck(key: yaml.ScalarNode, value: yaml.Node) -> None:
    """Refuse ``{a:b}``, which is the key ``a:b`` without a value.

    Raises:
        YAMLError: says how to write it.
    """
    name, colon, text = key.value.partition(":")
    if key.style is None and colon and value.tag == f"{TAG}null" and not value.value:
        raise yaml.YAMLError(
            f"line {key.start_mark.line + 1}: {key.value!r} has no blank behind its colon; write "
            f"{f'{name}: {text}'!r}"
        )


class _KeyTwiceError(Exception):
    """One mapping has a key twice."""

    def __init__(self, key: str, first: int, second: int) -> None:
        self.key, self.first, self.second = key, first, second
        super().__init__(f"{key!r} stands twice, in line {first} and in line {second}")


def _count_values(node: yaml.Node, known: dict[int, int]) -> int:
    """Count the values of a node with its aliases spelt out: a page of text can mean 10^9.

    Raises:
        YAMLError: too many, or it holds itself.
    """
    if id(node) in known:
        if not known[id(node)]:
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: an alias stands inside itself")
        return known[id(node)]
    known[id(node)] = 0
    below = node.value if isinstance(node, yaml.CollectionNode) else ()
    parts = (part for one in below for part in (one if isinstance(one, tuple) else (one,)))
    total = 1 + sum(_count_values(part, known) for part in parts)
    if total > MAX_VALUES:
        raise yaml.YAMLError(
            f"line {node.start_mark.line + 1}: more than {MAX_VALUES} values, aliases spelt out"
        )
    known[id(node)] = total
    return total


def parse_yaml(text: str, name: str) -> Any:
    """Return the value of a YAML text.

    Args:
        name: the file, or whatever the text is from; errors begin with it.
    Raises:
        ConfigError: no YAML, or a mapping in it has a key twice; names the lines.
    """
    try:
        return copy.deepcopy(_parsed(text))
    except _KeyTwiceError as error:
        raise ConfigError(
            f"{name}: {error}, and only one of them could count; keep one, with everything that "
            "belongs to it below it"
        ) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not valid YAML: {error}") from error
    except RecursionError:
        raise ConfigError(f"{name}: not valid YAML: nested too deeply") from None


@lru_cache(maxsize=32)  # a command reads config.yaml for its values, for their origins, to compare
def _parsed(text: str) -> Any:
    return yaml.load(text, _Loader)


def read_yaml(path: Path) -> Any:
    """Return the value of a YAML file.

    Raises:
        ConfigError: it cannot be read, is no YAML, or a mapping in it has a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not valid YAML: no UTF-8 text ({error})") from error
    return parse_yaml(text, str(path))


def read_sections(path: Path) -> dict[str, Any]:
    """Return a configuration file: a mapping, or nothing at all.

    Raises:
        ConfigError: as ``read_yaml``, or it holds something else.
    """
    values = read_yaml(path)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected sections such as finetune: ..., got {values!r:.60}")
    return values


def parse_assignments(arguments: Sequence[str]) -> dict[str, Any]:
    """Return what ``--config KEY=VALUE ...`` sets; values are YAML.

    Raises:
        ConfigError: a value is set twice, or is no YAML.
    """
    merged: dict[str, Any] = {}
    for argument in arguments:
        key, _, text = str(argument).partition("=")
        value = _python_nulls(parse_yaml(text, f"--config {key}"))
        if shared := _set_twice(_leaves({key: value}), _leaves(merged)):
            raise ConfigError(f"--config: {'.'.join(shared[0])} is set twice; keep one")
        merged = merge(merged, {key: value})
    return merged


def _python_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _python_nulls(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_python_nulls(below) for below in value]
    return None if value == NULLS_OF_PYTHON else value


def _leaves(tree: Mapping[str, Any], above: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    for key, value in tree.items():
        path = (*above, str(key))
        found |= _leaves(value, path) if isinstance(value, Mapping) and value else {path}
    return found


def _set_twice(new: set[tuple[str, ...]], old: set[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """List paths of which one sets the other, or what the other is a part of."""
    pairs = ((a[: len(b)], b[: len(a)]) for a in new for b in old)
    return sorted(a for a, b in pairs if a == b)


def merge(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two trees of mappings; leaves and lists of ``overlay`` win."""
    merged = dict(base)
    for key, value in overlay.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            value = merge(below, value)
        merged[key] = value
    return merged
