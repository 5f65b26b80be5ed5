"""The code that each step reaches, as one hash beside the step's version.

Snakemake and DVC see ``pipeline_src/versions.py`` and no other code, so a step whose code changed
and whose version did not would keep what it made. ``reached.json`` holds the hash of everything
that a step's functions reach, by following names, and the strings "pipeline_src.module:name" that
stand for them in a registry, through the package; a test compares. Followed are functions, classes
and constants, not whole modules, so that code beside them may change. A field of the configuration
is left out where its value is in the params of a rule anyway: not a ``LATER`` one, which is there
only off its default, and not one of a network, whose params name method, size and overrides alone.
``av-pipeline versions`` compares and records.
"""

import ast
import hashlib
import io
import json
import re
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

from pipeline_src import versions
from pipeline_src.system.atomic import write_text
from pipeline_src.system.checkout import CHECKOUT

PACKAGE = "pipeline_src"
RECORD = CHECKOUT / PACKAGE / "dvc/reached.json"
# Step -> the functions that make its results, the scripts that call them, folders whose files do.
TRAINING = ("train.run:run_training",)
ENTRY_POINTS: dict[str, tuple[str, ...]] = {
    "PLAN": ("datasets.chunk_plan:ensure_plan",),
    "DOWNLOAD": ("download.chunk:download_chunk", "download_clips.py"),
    "TRANSCODE": ("transcode.transcode:transcode_chunk", "transcode_clips.py"),
    "LOGMEL": ("logmel.chunk:extract_chunk", "extract_logmel.py"),
    "PACK": ("shards.write:pack_chunk", "pack_shard.py"),
    "INDEX": (
        *("shards.index:write_index", "pack_index.py"),
        *("shards.fetch:fetch_index", "fetch_index.py"),
    ),
    "PRETRAIN": (*TRAINING, "pretrain_model.py"),
    "FINETUNE": (*TRAINING, "finetune_model.py"),
    "EVALUATE": (
        *("evaluate.finetuned:evaluate_finetuned", "evaluate_finetuned.py"),
        *("evaluate.pretrained:evaluate_pretrained", "evaluate_pretrained.py"),
        *("evaluate.folds:average_folds", "evaluate_folds.py"),
    ),
    "REPORT": ("report.build:build_report", "report_results.py", "report/templates/"),
}
# No result depends on what these do: sentences, logs, records of origin, how jobs are sent.
NOT_FOLLOWED = re.compile(
    r"(errors|versions|commands|submit|system\.(joblog|renamed)|runs\.provenance)(\.|$)"
)
# Values of its fields, but for those that came later, are in params; of networks' they are not.
CONFIGURED = re.compile(r"config\.")
SECTION = ("config.section", "Section")
LATER = "LATER"
# What a registry imports when it is asked for: "pipeline_src.module:name".
LAZY = re.compile(rf"{PACKAGE}\.([\w.]+):(\w+)")


class Unit(NamedTuple):
    """A top-level definition of a module of the package."""

    module: str
    name: str


@dataclass
class Module:
    """What a module defines and imports.

    Args:
        units: name -> the statements that define it. imports: name in the module -> what it is of.
        loose: statements that run on import and define nothing.
        named, texts: of units that were asked for; several steps reach the same.
    """

    source: str
    units: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, Unit] = field(default_factory=dict)
    loose: list[ast.stmt] = field(default_factory=list)
    named: dict[Unit, list[Unit]] = field(default_factory=dict)
    texts: dict[Unit, list[str]] = field(default_factory=dict)


@cache
def read_module(name: str) -> Module | None:
    """Return the module of the package, ``""`` for the package itself; None where there is none."""
    base = CHECKOUT.joinpath(PACKAGE, *filter(None, name.split(".")))
    path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    if not path.is_file():
        return None
    source = path.read_text(encoding="utf-8")
    module, tree = Module(source), ast.parse(source)
    for statement in tree.body:
        names = list(_defined(statement))
        for one in names:
            module.units.setdefault(one, []).append(statement)
        is_import = isinstance(statement, ast.Import | ast.ImportFrom)
        if not names and not is_import and not _is_text(statement):
            module.loose.append(statement)
    for node in ast.walk(tree):
        module.imports |= dict(_imported(node))
    return module


def _defined(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    if isinstance(statement, ast.AnnAssign | ast.AugAssign):
        targets = [statement.target]
    for target in targets:
        yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name))


def _imported(node: ast.AST) -> Iterator[tuple[str, Unit]]:
    """Yield names that an import of the package binds: a module (no name) or what one defines."""
    if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith(PACKAGE):
        return
    module = (node.module or "").removeprefix(PACKAGE).lstrip(".")
    for alias in node.names:
        below = f"{module}.{alias.name}".lstrip(".")
        unit = Unit(module, alias.name)
        yield alias.asname or alias.name, Unit(below, "") if read_path(below) else unit


def read_path(name: str) -> bool:
    """Tell whether the package has a module of that name."""
    base = CHECKOUT.joinpath(PACKAGE, *name.split("."))
    return base.with_suffix(".py").is_file() or (base / "__init__.py").is_file()


def reached(entries: Iterable[Unit]) -> set[Unit]:
    """Return every definition that these reach, themselves included."""
    waiting, found = list(entries), set()
    while waiting:
        unit = _home(waiting.pop())
        if unit is None or unit in found or NOT_FOLLOWED.match(unit.module):
            continue
        found.add(unit)
        known = _module_of(unit).named
        if unit not in known:
            known[unit] = list(_named(unit))
        waiting += known[unit]
    return found


def list_reached(step: str) -> list[str]:
    """Return what a step reaches as ``pipeline_src.module:name``, sorted."""
    return [f"{PACKAGE}.{module}:{name}" for module, name in sorted(reached(_entries(step)))]


def _home(unit: Unit) -> Unit | None:
    """Find where something is defined that a module may pass on; None outside the package."""
    module = read_module(unit.module)
    if module is None:
        return None
    if not unit.name or unit.name in module.units:
        return unit
    further = module.imports.get(unit.name)
    return _home(further) if further and further != unit else None


def _named(unit: Unit) -> Iterator[Unit]:
    """Yield what the statements of a unit name in their module and in others."""
    module = _module_of(unit)
    statements = [*_statements(module, unit), *module.loose]
    for node in (node for statement in statements for node in ast.walk(statement)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            source = module.imports.get(node.value.id)
            if source and not source.name:
                yield Unit(source.module, node.attr)
        elif isinstance(node, ast.Name):
            if node.id in module.units:
                yield Unit(unit.module, node.id)
            elif (source := module.imports.get(node.id)) and source.name:
                yield source
        elif isinstance(node, ast.ImportFrom):
            yield from (unit for _, unit in _imported(node) if unit.name)
        elif isinstance(node, ast.Constant) and (lazy := LAZY.fullmatch(str(node.value))):
            yield Unit(lazy[1], lazy[2])


def _module_of(unit: Unit) -> Module:
    module = read_module(unit.module)
    assert module is not None
    return module


def _statements(module: Module, unit: Unit) -> list[ast.stmt]:
    return module.units[unit.name] if unit.name else []


def step_hash(step: str) -> str:
    """Hash the code that a step reaches; the same for every version of Python."""
    units = reached(_entries(step))
    texts = {f"{unit.module}:{unit.name}": _unit_texts(unit) for unit in units}
    for path in _scripts(step):
        source = path.read_text(encoding="utf-8")
        texts[path.name] = [code_text(source, part) for part in ast.parse(source).body]
    texts |= {path.name: [path.read_text(encoding="utf-8")] for path in _other_files(step)}
    return hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()[:16]


def _unit_texts(unit: Unit) -> list[str]:
    module = _module_of(unit)
    if unit not in module.texts:
        parts, in_params = [*_statements(module, unit), *module.loose], _in_params(unit)
        module.texts[unit] = [code_text(module.source, p, in_params=in_params) for p in parts]
    return module.texts[unit]


def _entries(step: str) -> list[Unit]:
    names = [entry.split(":") for entry in ENTRY_POINTS[step] if ":" in entry]
    units = [Unit(module, name) for module, name in names]
    for unit in units:
        if _home(unit) is None:  # nothing would be followed, and no change of it seen
            raise ValueError(f"ENTRY_POINTS[{step!r}]: no {unit.name} in {PACKAGE}.{unit.module}")
    return units


def _scripts(step: str) -> list[Path]:
    return [
        CHECKOUT / "workflow/scripts" / entry
        for entry in ENTRY_POINTS[step]
        if entry.endswith(".py")
    ]


def _other_files(step: str) -> list[Path]:
    folders = [CHECKOUT / PACKAGE / entry for entry in ENTRY_POINTS[step] if entry.endswith("/")]
    return [path for folder in folders for path in sorted(folder.iterdir()) if path.is_file()]


def _in_params(unit: Unit) -> bool:
    """Tell whether a class is a section of the configuration, whose values are in params."""
    return bool(CONFIGURED.match(unit.module)) and _is_section(unit)


def _is_section(unit: Unit) -> bool:
    home = _home(unit)
    module = read_module(home.module) if home else None
    if home is None or module is None or home == SECTION:
        return home == SECTION
    classes = [one for one in _statements(module, home) if isinstance(one, ast.ClassDef)]
    bases = [base.id for one in classes for base in one.bases if isinstance(base, ast.Name)]
    return any(_is_section(Unit(home.module, base)) for base in bases)


def code_text(source: str, statement: ast.stmt, *, in_params: bool = False) -> str:
    """Return the statement's source without comments, docstrings, fields' descriptions and layout.

    From the text and not from a dump of the tree, whose form differs between versions of Python.

    Args:
        in_params: it is a class whose fields' values are in params: they are left out but for
            those that came later.
    """
    if _is_text(statement):
        return ""
    first = min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", []))])
    lines = list(_lines(source))
    fields = []
    for node in ast.walk(statement):
        for dropped in _docstring(node):
            _blank(lines, dropped)
        for one, call in _fields(node):
            _blank(lines, one)
            if not in_params or _came_later(call):
                fields += _field_texts(source, one, call)
    text = b"".join(lines[first - 1 : statement.end_lineno]).decode()
    return " ".join(" ".join([_without_comments(text), *fields]).split())


@lru_cache(maxsize=8)  # asked for once for each definition of a module
def _lines(source: str) -> tuple[bytes, ...]:
    return tuple(source.encode().splitlines(keepends=True))


def _segment(source: str, node: ast.expr) -> str:
    """Return the text of a node; ``ast.get_source_segment`` splits the source each time."""
    end_line, end_column = node.end_lineno or node.lineno, node.end_col_offset or 0
    lines = list(_lines(source)[node.lineno - 1 : end_line])
    lines[-1] = lines[-1][:end_column]  # before the start, which may stand in the same line
    lines[0] = lines[0][node.col_offset :]
    return b"".join(lines).decode()


def _docstring(node: ast.AST) -> Iterator[ast.stmt]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield from (statement for statement in node.body[:1] if _is_text(statement))


def _fields(node: ast.AST) -> Iterator[tuple[ast.AnnAssign, ast.Call]]:
    """Yield the fields of a class: ``name: type = Field(...)``."""
    for statement in node.body if isinstance(node, ast.ClassDef) else []:
        call = statement.value if isinstance(statement, ast.AnnAssign) else None
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "Field":
            assert isinstance(statement, ast.AnnAssign)
            yield statement, call


def _came_later(call: ast.Call) -> bool:
    return any(getattr(keyword.value, "id", "") == LATER for keyword in call.keywords)


def _field_texts(source: str, statement: ast.AnnAssign, call: ast.Call) -> Iterator[str]:
    """Yield the parts of a field, however it is laid out, without its description."""
    for node in (statement.target, statement.annotation, *call.args):
        yield _segment(source, node)
    for keyword in call.keywords:
        if keyword.arg != "description":
            yield f"{keyword.arg}={_segment(source, keyword.value)}"


def _is_text(statement: ast.stmt) -> bool:
    value = getattr(statement, "value", None)
    is_text = isinstance(value, ast.Constant) and isinstance(value.value, str)
    return isinstance(statement, ast.Expr) and is_text


def _blank(lines: list[bytes], node: ast.stmt) -> None:
    """Put blanks over a node, so that the places of all others stay."""
    end_line, end_column = node.end_lineno or node.lineno, node.end_col_offset or 0
    for number in range(node.lineno, end_line + 1):
        line = lines[number - 1]
        start = node.col_offset if number == node.lineno else 0
        end = end_column if number == end_line else len(line.rstrip(b"\r\n"))
        lines[number - 1] = line[:start] + b" " * (end - start) + line[end:]


def _without_comments(text: str) -> str:
    lines = text.splitlines(keepends=True)
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, IndentationError):
        return text
    for token in tokens:
        if token.type == tokenize.COMMENT:
            number, column = token.start
            lines[number - 1] = lines[number - 1][:column] + "\n"
    return "".join(lines)


def current() -> dict[str, dict[str, int | str]]:
    """Return step -> its version and the hash of the code that it reaches now."""
    return {
        step: {"version": getattr(versions, step), "code": step_hash(step)} for step in ENTRY_POINTS
    }


def recorded() -> dict[str, dict[str, int | str]]:
    """Return what ``reached.json`` holds."""
    return json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else {}


def problems() -> Iterator[str]:
    """Yield a sentence for each step that is not as recorded."""
    then = recorded()
    for step, now in current().items():
        before = then.get(step)
        if before == now:
            continue
        if before and before["version"] == now["version"]:
            yield (
                f"{step}: code that it reaches has changed, its version has not. Raise {step} in "
                "pipeline_src/versions.py where the bytes that it writes change, then "
                "`av-pipeline versions --write`; where they do not, "
                f"`av-pipeline versions --keeps-results {step}`"
            )
        else:
            yield f"{step}: a new version; `av-pipeline versions --write` records it"


def record(keeps_results: Iterable[str]) -> list[str]:
    """Write what is current for raised versions and for steps whose results stay; name the rest."""
    then, kept, left = recorded(), set(keeps_results), []
    for step, now in current().items():
        before = then.get(step)
        changed = before and before["version"] == now["version"] and before != now
        if changed and step not in kept:
            left.append(step)
        else:
            then[step] = now
    write_text(RECORD, json.dumps({step: then[step] for step in ENTRY_POINTS}, indent=1) + "\n")
    return left
