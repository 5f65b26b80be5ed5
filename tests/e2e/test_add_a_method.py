"""The page "Add a method", followed to the letter in a copy of the tiny run."""

import json
import re
import shlex

import pytest

pytestmark = pytest.mark.e2e

FILE = re.compile(r"^`([\w./]+)`\n\n```\w+\n(.*?)^```$", re.M | re.S)
LINE = re.compile(r"^In `METHODS` of `([\w./]+)`:\n\n```python\n(.*?)^```$", re.M | re.S)
COMMAND = re.compile(r"^```\n(snakemake .*)\n```$", re.M)


@pytest.fixture(scope="module")
def followed(built, root, tmp_path_factory):
    """A copy with the page's files and its line in the registry; the page's command."""
    workspace = built.copied_to(tmp_path_factory.mktemp("toy"))
    page = (root / "docs/add_a_method.md").read_text()
    files = dict(FILE.findall(page))
    assert {name.rsplit("/", 1)[-1] for name in files} == {
        "__init__.py", "config.py", "network.py", "objective.py", "runs.yaml",
    }  # fmt: skip
    for name, text in files.items():
        path = workspace.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    ((name, line),) = LINE.findall(page)
    registry = workspace.root / name
    text = registry.read_text()
    registry.write_text(text.replace("METHODS = {\n", f"METHODS = {{\n{line}", 1))
    assert line in registry.read_text()
    (command,) = COMMAND.findall(page)
    return workspace, shlex.split(command)


def test_a_method_is_a_folder_and_a_line(followed):
    workspace, command = followed
    workspace.run(*command)
    run = workspace.root / "results/test/toy_tiny/pretrain"
    done = json.loads((run / "done.json").read_text())
    assert done["cost"]["parameters"] > 0
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["step"] == last["num_steps"]
    assert {"contrast_loss", "reconstruct_loss"} <= set(last)


def test_its_code_is_code_of_the_training(followed):
    workspace, _ = followed
    program = "python", "-m", "pipeline_src", "versions", "--list", "PRETRAIN"
    assert "pipeline_src.methods.toy.network:Toy" in workspace.run(*program).splitlines()


@pytest.mark.exhaustive
def test_the_tests_of_every_method_take_it_up(followed):
    workspace, _ = followed
    files = ["tests/integration/train/test_host_sync.py", "tests/unit/inference/test_export.py"]
    files += ["tests/integration/methods/test_fake_gpu.py", "tests/unit/test_methods.py"]
    files += ["tests/unit/methods/common/test_registers.py"]
    program = "python", "-m", "pytest", "-n", "0", "-rA", "-k", "toy and not paper", *files
    passed = set(re.findall(r"^PASSED .*::(\w+)\[toy", workspace.run(*program), re.M))
    assert passed >= {
        "test_a_step_reads_no_value", "test_a_step_stays_on_the_gpu",
        "test_reconstruction_stays_on_the_gpu", "test_every_method_has_them_by_its_configuration",
        "test_they_train",
    }  # fmt: skip


def test_the_page_is_written_as_the_rest_of_the_code(followed):
    workspace, _ = followed
    files = [str(path) for path in (workspace.root / "pipeline_src/methods/toy").glob("*.py")]
    workspace.run("ruff", "check", *files)
    workspace.run("ruff", "format", "--check", *files)
