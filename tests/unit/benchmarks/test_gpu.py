"""The GPU command, rehearsed on a CPU with the six packages that it needs and what they bring."""

import json
import subprocess
import sys

import pytest

from benchmarks.gpu_steps.plan import steps

# Run in a process of its own: all that other distributions bring cannot be imported there.
ONLY_SIX = """
import re, runpy, sys
from importlib import metadata
from importlib.machinery import PathFinder
from packaging.requirements import Requirement

def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()

allowed, waiting = set(), ["torch", "torchvision", "timm", "numpy", "pydantic", "pyyaml"]
while waiting:
    name = waiting.pop()
    if name in allowed:
        continue
    allowed.add(name)
    try:
        needs = [Requirement(line) for line in metadata.requires(name) or []]
    except metadata.PackageNotFoundError:
        continue
    waiting += [plain(n.name) for n in needs if not n.marker or n.marker.evaluate({"extra": ""})]
refused = {
    module
    for module, holders in metadata.packages_distributions().items()
    if module not in ("pipeline_src", "benchmarks") and not allowed & {plain(h) for h in holders}
}
assert {"snakemake", "av", "webdataset", "requests", "torchaudio", "pytest"} <= refused

class Only:
    find_distributions = PathFinder.find_distributions
    invalidate_caches = PathFinder.invalidate_caches

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in refused:
            return None
        return PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Only
if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


def call(root, tmp_path, out):
    """The quick form, by a script whose directory is not the project's."""
    script = tmp_path / "only_six.py"
    script.write_text(ONLY_SIX)
    command = [sys.executable, str(script), str(root / "benchmarks/gpu.py"), "--device", "cpu"]
    command += ["--quick", "--seconds", "400", "--out", str(out)]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout


@pytest.mark.slow
def test_the_command_measures_every_step_and_does_none_twice(root, tmp_path):
    out = tmp_path / "gpu.json"
    printed = call(root, tmp_path, out)
    record = json.loads(out.read_text())
    assert record.keys() >= {"device", "driver", "torch", "git_commit", "code_sha256", "goals"}
    assert {name: step.get("error") for name, step in record["steps"].items()} == {
        step.name: None for step in steps() if step.is_quick
    }
    found = {name: step["result"] for name, step in record["steps"].items()}
    assert all(one["agrees"] for one in found.values() if "agrees" in one)
    assert found["resume"]["bit_equal"]
    assert found["loop waits"]["per_step"] == 0
    assert found["steps avsiam_base, packed"]["utilisation"] > 0
    assert "ceilings (" in printed
    assert "speed over the released order of work: " in printed

    del record["steps"]["ceilings"]
    out.write_text(json.dumps(record))
    again = call(root, tmp_path, out)
    assert [line.split(" (")[0] for line in again.splitlines() if " s): " in line] == ["ceilings"]
    assert json.loads(out.read_text())["steps"].keys() == found.keys()


def test_figures_of_other_code_are_set_aside(tmp_path):
    from benchmarks.gpu_steps.record import IDENTITY, Record

    path, header = tmp_path / "gpu.json", dict.fromkeys(IDENTITY, "one")
    Record.begin(path, dict(header)).write("ceilings", {"result": {}})
    assert not Record.begin(path, dict(header)).is_due("ceilings")
    assert Record.begin(path, {**header, "code_sha256": "two"}).is_due("ceilings")
    assert (tmp_path / "gpu.before.json").is_file()


def test_a_step_that_fails_or_ends_the_process_is_tried_twice(tmp_path):
    from benchmarks.gpu_steps.record import IDENTITY, Record

    path, header = tmp_path / "gpu.json", dict.fromkeys(IDENTITY, "one")
    for attempt in range(2):
        record = Record.begin(path, dict(header))
        assert record.is_due("resume"), attempt
        record.begun("resume")
    assert not Record.begin(path, dict(header)).is_due("resume")
