"""Imports point one way, and what only one room may know stays there."""

import ast
import importlib.util
from functools import cache
from pathlib import Path

import pytest

# Each room may import those above it, and none below.
ORDER = {
    "errors": "what can go wrong, in sentences",
    "versions": "one number a step",
    "modalities": "the words that every room speaks: modalities, heads, kinds of labels",
    "system": "the machine: files, locks, processes, connections, logs",
    "methods": "networks, their losses and published weights; reads no configuration",
    "config": "what a person may set, and whether a run of it is possible",
    "datasets": "what YAML and lists say of the clips",
    "manifest": "what a chunk's step writes down: manifest, ledger, tar",
    "transcode": "files to frames and sound; everything that knows ffmpeg",
    "download": "sources to files",
    "logmel": "sound to log-mels",
    "shards": "packed clips: written, checked, read, fetched",
    "loader": "packed clips to batches",
    "runs": "what a training is on disk: spec, checkpoint, result",
    "evaluate": "a checkpoint and packed clips to figures",
    "train": "a spec to a checkpoint",
    "submit": "a spec to a job",
    "catalog": "every path, target and input of the workflow",
    "report": "figures to a page",
    "inference": "a checkpoint and files to vectors, classes, similarities",
    "dvc": "the same stages as DVC sees them",
    "workflow": "what Snakemake is given before its rules, and what it shows",
    "commands": "the one command and its subcommands, which may use everything",
}
ROOMS = list(ORDER)
ONLY_IN = {
    "submitit": "submit",
    "ffmpeg": "transcode",
    "snakemake": "nobody",
    "torchaudio": "logmel",
    "timm": "methods",
    "yt_dlp": "download",
    "pyarrow": "manifest",
}

# Names that two classes have, with the reason.
SHARED_NAMES = {
    # A method is a folder whose files and parts are called alike; each network gives other parts.
    "MaskedOutput": "of CAV-MAE and of MAViL: what one masked pass gives the losses",
}

# Functions of that name are what a program, or each command, is entered by.
ENTRIES = {"main", "run", "add_arguments"}


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@cache
def imported_modules(path: Path) -> set[str]:
    names: set[str] = set()
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room_files(root: Path) -> list[tuple[str, Path]]:
    source = root / "pipeline_src"
    found = [(p.relative_to(source).parts[0], p) for p in sorted(source.rglob("*.py"))]
    return [(name.removesuffix(".py"), p) for name, p in found if not name.startswith("__")]


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_one_way(root, room):
    above = ROOMS[: ROOMS.index(room) + 1]
    files = [path for name, path in room_files(root) if name == room]
    assert files
    for path in files:
        for module in imported_modules(path):
            parts = module.split(".")
            if parts[0] == "pipeline_src" and len(parts) > 1:
                assert parts[1] in above, f"{path} imports {module}, which is below {room}"


def test_every_room_has_its_place(root):
    assert {name for name, _ in room_files(root)} == set(ORDER)


def test_each_tool_is_known_in_one_place(root):
    for room, path in room_files(root):
        for module in imported_modules(path):
            owner = ONLY_IN.get(module.split(".")[0])
            assert owner in (None, room), f"{path} imports {module}"


def test_a_function_name_means_one_thing(root):
    places: dict[str, list[Path]] = {}
    for _, path in room_files(root):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(path)
    for name in places.keys() - ENTRIES:
        files = {path.relative_to(root / "pipeline_src") for path in places[name]}
        # Every method's folder has the same files, which have the same parts.
        is_part_of_methods = {path.parts[0] for path in files} == {"methods"}
        assert len({path.name for path in files}) == 1, (name, files)
        assert len(files) == 1 or is_part_of_methods, (name, files)


def test_a_class_name_means_one_thing(root):
    places: dict[str, list[Path]] = {}
    for _, path in room_files(root):
        for node in nodes_of(path):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(path)
    shared = {name: found for name, found in places.items() if len(found) > 1}
    assert shared.keys() == SHARED_NAMES.keys(), shared
    for name, found in shared.items():
        rooms = {path.relative_to(root / "pipeline_src").parts[0] for path in found}
        assert "inference" not in rooms, f"{name}: {found}"


def test_the_picture_of_the_rooms_shows_their_imports(root):
    path = root / "docs/draw_rooms.py"
    spec = importlib.util.spec_from_file_location("draw_rooms", path)
    picture = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(picture)
    drawn = picture.drawn_arrows(picture.PICTURE.read_text(encoding="utf-8"))
    assert drawn == picture.needed_arrows(picture.room_imports()), f"run python {path.name}"
    assert {room for rooms in picture.WINGS.values() for room in rooms} == set(ORDER)


def test_unit_tests_mirror_the_package(root):
    """A test of a module or room has its name; what tests several is in tests/integration."""
    unit, package = root / "tests/unit", root / "pipeline_src"
    for path in unit.rglob("test_*.py"):
        name = path.name.removeprefix("test_").removesuffix(".py")
        tested = package / path.relative_to(unit).parent / name
        assert tested.with_suffix(".py").is_file() or tested.is_dir(), path
