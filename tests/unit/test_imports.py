"""Imports point one way, and what only one package may know stays there."""

import ast
from pathlib import Path

import pytest

BASE = {
    "progress",
    "architectures",
    "atomic",
    "config",
    "connections",
    "cores",
    "errors",
    "ledger",
    "own_folder",
    "parent",
    "provenance",
    "versions",
}
# Package -> packages of the project that it may import.
ALLOWED = {
    "architectures": {"errors"},
    "config": {"errors", "atomic", "architectures"},
    "manifest": BASE,
    "catalog": BASE | {"manifest", "lock"},
    "download": BASE | {"manifest", "media"},
    "media": BASE | {"manifest"},
    "features": BASE | {"manifest", "media"},
    "shards": BASE | {"manifest", "media", "features"},
    "data": BASE | {"manifest", "media", "features", "shards"},
    "models": {"errors", "architectures"},
    "objectives": {"errors", "architectures", "models"},
    "runs": BASE | {"data", "manifest", "models", "shards"},
    "eval": BASE | {"data", "models", "objectives", "runs", "shards"},
    "train": BASE | {"data", "models", "objectives", "runs", "shards", "eval"},
    "submit": BASE | {"runs", "train", "executor"},
    "report": BASE | {"eval"},
    "stages": BASE | {"catalog", "download", "manifest", "runs", "shards"},
    "commands": BASE
    | {
        "cli",
        "download",
        "listing",
        "preview",
        "proposal",
        "doctor",
        "estimate",
        "manifest",
        "report",
        "reproduce",
        "runs",
        "shards",
    }
    | {"stages", "train", "workload"},
}
ONLY_IN = {
    "submitit": "submit",
    "ffmpeg": "media",
    "snakemake": "nobody",
    "torchaudio": "features",
    "timm": "models",
    "yt_dlp": "download",
    "pyarrow": "manifest",
}


def imported_modules(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def package_files(root: Path) -> list[tuple[str, Path]]:
    source = root / "pipeline_src"
    return [(p.relative_to(source).parts[0], p) for p in sorted(source.rglob("*.py"))]


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_imports_point_one_way(root, package):
    files = [path for name, path in package_files(root) if name == package]
    assert files
    for path in files:
        for module in imported_modules(path):
            parts = module.split(".")
            if parts[0] == "pipeline_src" and len(parts) > 1:
                assert parts[1] in ALLOWED[package] | {package}, f"{path} imports {module}"


def test_every_package_has_its_place(root):
    packages = {path.name for path in (root / "pipeline_src").iterdir() if path.is_dir()}
    assert packages - {"__pycache__"} == set(ALLOWED)


def test_each_tool_is_known_in_one_place(root):
    for package, path in package_files(root):
        for module in imported_modules(path):
            owner = ONLY_IN.get(module.split(".")[0])
            assert owner in (None, package), f"{path} imports {module}"
