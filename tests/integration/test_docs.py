"""What the documentation names exists."""

import ast
import re
from importlib import import_module
from textwrap import dedent

from pipeline_src.config import Config
from pipeline_src.config.section import section_of

FILE_ENDINGS = (".csv", ".json", ".npy", ".py", ".safetensors", ".tar", ".yaml")
OPEN_KEYS = {"model.overrides"}  # its keys are those of the method's network


def test_every_test_that_the_decisions_name_exists(root):
    named = set(re.findall(r"`(test_\w+)`", (root / "docs/decisions.md").read_text()))
    assert len(named) > 20
    files = (root / "tests").rglob("test_*.py")
    written = {
        name for path in files for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    assert named - written == set()


def test_every_guard_of_the_security_page_has_its_test(root):
    rows = [line for line in (root / "SECURITY.md").read_text().splitlines() if line[:2] == "| "]
    named = [re.findall(r"`(?:tests/([\w/]+)/)?(test_\w+\.py)`", row) for row in rows[1:]]
    assert all(named)
    for tests in named:
        folder = ""
        for given, name in tests:
            folder = given or folder
            assert (root / "tests" / folder / name).is_file(), name


def configuration_keys(section, prefix=""):
    """Yield the dotted keys of a section and of the sections in it."""
    for name in section.model_fields:
        yield f"{prefix}{name}"
        if below := section_of(section, name):
            yield from configuration_keys(below, f"{prefix}{name}.")


def unknown_keys(text):
    """Return backticked ``section.key`` of a text that the configuration does not have."""
    known = set(configuration_keys(Config))
    sections = {name for name in Config.model_fields if section_of(Config, name)}
    sections |= set(Config.old_keys)
    named = re.findall(r"`(\w+(?:\.\w+)+)(?=[`:= ])", text)
    keys = {name for name in named if name.split(".")[0] in sections}
    keys = {key for key in keys if not key.endswith(FILE_ENDINGS)}
    return {key for key in keys if key not in known and key.rpartition(".")[0] not in OPEN_KEYS}


def test_every_key_that_the_documentation_names_exists(root):
    pages = [root / "README.md", root / "SECURITY.md", *sorted((root / "docs").glob("*.md"))]
    unknown = {page.name: unknown_keys(page.read_text()) for page in pages}
    assert {name: keys for name, keys in unknown.items() if keys} == {}
    text = "`network.max_pauses`, `plan.json`, `plan.chunk_size: 10`, `audio.hop`"
    assert unknown_keys(text) == {"network.max_pauses", "audio.hop"}


def test_every_page_is_linked_from_the_readme_or_the_architecture(root):
    pages = {path.name for path in (root / "docs").glob("*.md")}
    linked = set(re.findall(r"\]\(docs/(\w+\.md)", (root / "README.md").read_text()))
    linked |= set(re.findall(r"\]\((\w+\.md)", (root / "docs/architecture.md").read_text()))
    assert pages - linked == set()


def imported_names(code):
    """What a block of Python imports from the package: module and name."""
    try:
        tree = ast.parse(dedent(code))
    except SyntaxError:  # a part of a file
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pipeline_src"):
            yield from ((node.module, alias.name) for alias in node.names)


def test_what_the_documentation_imports_is_there(root):
    pages = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
    blocks = [
        block
        for page in pages
        for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.S)
    ]
    wanted = {one for block in blocks for one in imported_names(block) if ".toy." not in one[0]}
    assert len(wanted) > 20
    assert not [one for one in wanted if not hasattr(import_module(one[0]), one[1])]
