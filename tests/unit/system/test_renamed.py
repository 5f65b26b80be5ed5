"""Module names of the release before are found, and what was never there is not."""

import importlib
import importlib.util
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline_src.system.renamed import DOORS, MOVED, PACKAGE, RENAMED, install, new_name

pytestmark = pytest.mark.slow


def test_every_old_name_leads_to_a_module_that_is_there():
    for old, new in RENAMED.items():
        assert importlib.util.find_spec(PACKAGE + new), f"{old} -> {new}"


# What it was is no module of its own any more.
GONE = {"config.demo", "config.variants", "objectives.setting"}


def test_every_module_of_the_release_before_is_found_by_its_name():
    names = Path(__file__).with_name("modules_of_0.1.txt").read_text().split()
    assert len(names) > 250
    missing = [name for name in names if not is_found(PACKAGE + (new_name(name) or name))]
    assert set(missing) == GONE


def is_found(module):
    with suppress(ModuleNotFoundError):
        return importlib.util.find_spec(module) is not None
    return False


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("media.probe", "transcode.probe"),
        ("atomic", "system.atomic"),
        ("manifest.plan", "datasets.chunk_plan"),
        ("listing", "commands.list_clips"),
        ("eval.metrics", "evaluate.metrics"),
    ],
)
def test_an_old_import_gives_the_module_of_the_new_name(old, new, monkeypatch):
    monkeypatch.delitem(sys.modules, PACKAGE + old, raising=False)
    with pytest.warns(DeprecationWarning, match=f"{PACKAGE}{old} is {PACKAGE}{new} now"):
        found = importlib.import_module(PACKAGE + old)
    assert found is importlib.import_module(PACKAGE + new)


@pytest.mark.parametrize("module", MOVED)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_name_that_lies_elsewhere_is_there_too(module, monkeypatch):
    monkeypatch.delitem(sys.modules, PACKAGE + module, raising=False)
    found = importlib.import_module(PACKAGE + module)
    for old, place in MOVED[module].items():
        home, _, new = place.rpartition(".")
        assert getattr(found, old) is getattr(importlib.import_module(PACKAGE + home), new)
    assert found.__name__ == PACKAGE + new_name(module)


@pytest.mark.parametrize("name", ["nothing", "media.nothing", "config.nothing"])
def test_a_name_that_was_never_there_is_not_found(name):
    with pytest.raises(ModuleNotFoundError, match="nothing"):
        importlib.import_module(PACKAGE + name)


def test_the_longest_old_name_decides():
    assert new_name("media.chains") == "transcode.filters"
    assert new_name("media.probe") == "transcode.probe"
    assert new_name("config.load") == ""


def test_a_second_install_changes_nothing():
    before = list(sys.meta_path)
    install()
    assert sys.meta_path == before


@pytest.mark.parametrize("door", DOORS)
def test_a_module_that_was_a_program_starts_its_command(door, root):
    done = subprocess.run(
        [sys.executable, "-m", PACKAGE + door, "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
    )
    assert f"usage: av-pipeline {DOORS[door]}" in done.stdout
    assert f"av-pipeline {DOORS[door]} is the name of this command now" in done.stderr


def test_a_module_that_was_no_program_is_none_now(root):
    command = [sys.executable, "-m", f"{PACKAGE}media.probe"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    assert done.returncode
    assert "pipeline_src.transcode.probe now and no program" in done.stderr
