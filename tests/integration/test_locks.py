"""The two lock files: one set of versions, and no test tool in the one that users install."""

import re
import sys
from importlib.metadata import packages_distributions

import pytest

from tests.integration.test_imports import imported_modules

PIN = re.compile(r"^([A-Za-z0-9._-]+)==(.*) \\((?:\n    --hash=.*)+)", re.MULTILINE)
TOOLS = {"pytest", "pytest-xdist", "playwright", "pyright", "ruff", "snakefmt", "moto"}
TOOLS |= {"flask", "flask-cors"}


def pins(path):
    """Of every entry: distribution, version with marker, hashes."""
    text = path.read_text()
    found = PIN.findall(text)
    assert len(found) == len(re.findall(r"^\S", text, re.MULTILINE))
    return found


def names(path):
    return {name.lower() for name, _, _ in pins(path)}


def test_the_runtime_lock_is_a_part_of_the_other(root):
    runtime, everything = root / "requirements.lock", root / "requirements-dev.lock"
    locked = set(pins(everything))
    for name, version, hashes in pins(runtime):
        # A tool may need everywhere what users need on some machines alone.
        anywhere = (name, version.partition(" ;")[0], hashes)
        assert locked & {(name, version, hashes), anywhere}, name
    assert not TOOLS & names(runtime)
    assert names(everything) >= TOOLS


@pytest.mark.slow
def test_what_the_project_imports_is_in_the_runtime_lock(root):
    distributions = packages_distributions()
    locked = names(root / "requirements.lock")
    sources = [
        path for folder in ("pipeline_src", "workflow") for path in (root / folder).rglob("*.py")
    ]
    imported = {name.split(".")[0] for path in sources for name in imported_modules(path)}
    foreign = imported - set(sys.stdlib_module_names) - {"pipeline_src", "__future__"}
    assert {"torch", "snakemake", "yt_dlp"} & foreign
    for module in sorted(foreign):
        origins = {name.lower().replace("_", "-") for name in distributions[module]}
        assert origins & locked, f"{module} comes from {origins}, which no user installs"
