"""The GPU command, rehearsed on a CPU with the six packages that it needs and what they bring."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
import torch

from benchmarks.gpu import SECONDS
from benchmarks.gpu_steps import agreement, networks, throughput
from benchmarks.gpu_steps.goals import CHECKS, GOALS, broken_checks, verdicts
from benchmarks.gpu_steps.plan import steps
from benchmarks.gpu_steps.record import IDENTITY, Record
from benchmarks.gpu_steps.setting import Setting
from benchmarks.timed_steps import Trainer
from pipeline_src.methods import METHODS

CPU = torch.device("cpu")
MOST_OPERATIONS = 5e7  # of a clip of a rehearsal, which a core does in a hundredth of a second

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


def call(root, tmp_path, out, *, fails=False):
    """The quick form, by a script whose directory is not the project's."""
    script = tmp_path / "only_six.py"
    script.write_text(ONLY_SIX)
    command = [sys.executable, str(script), str(root / "benchmarks/gpu.py"), "--device", "cpu"]
    command += ["--quick", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == (1 if fails else 0), done.stderr[-3000:]
    return done.stdout


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_command_measures_every_step_and_does_none_twice(root, tmp_path):
    out = tmp_path / "gpu.json"
    printed = call(root, tmp_path, out)
    record = json.loads(out.read_text())
    assert record.keys() >= {"device", "driver", "torch", "git_commit", "code_sha256", "goals"}
    assert datetime.now(UTC) - datetime.fromisoformat(record["date"]) < timedelta(hours=1)
    assert record["command"] == f"python {root}/benchmarks/gpu.py --device cpu --quick --out {out}"
    assert {name: step.get("error") for name, step in record["steps"].items()} == {
        step.name: None for step in steps() if step.is_quick
    }
    found = {name: step["result"] for name, step in record["steps"].items()}
    assert {name for name, one in found.items() if one.get("agrees")} == set(CHECKS) - {
        "tests marked gpu"
    }
    assert found["resume"]["bit_equal"]
    for method in METHODS:
        kinds = found[f"agreement {method}"]["bf16"]
        assert {"features", "predictions"} <= kinds.keys()
        assert all(0 < one["cpu"] < 0.05 for one in kinds.values())
    assert found["loop waits"]["per_step"] == 0
    assert found["steps avsiam_base, packed"]["utilisation"] > 0
    for name in ("avsiam_base, packed", "cav_mae_base, eager"):
        one = found[f"steps {name}"]
        assert 0 < one["teraflops"] * 1e12 / one["clips_per_second"] < MOST_OPERATIONS
    assert "ceilings (" in printed
    assert "speed over the released order of work: " in printed
    assert "resume: agrees\n" in printed
    assert "fastest first: " in printed

    del record["steps"]["ceilings"]
    record["steps"]["resume"]["result"]["agrees"] = False
    out.write_text(json.dumps(record))
    again = call(root, tmp_path, out, fails=True)
    assert "resume: DISAGREES\n" in again
    assert [line.split(" (")[0] for line in again.splitlines() if " s): " in line] == ["ceilings"]
    assert json.loads(out.read_text())["steps"].keys() == found.keys()


def test_one_call_has_time_for_every_step():
    assert sum(step.seconds for step in steps()) <= SECONDS


def make_record(tmp_path, **results):
    header = dict.fromkeys(IDENTITY, "one") | {"quick": False}
    made = {name: {"result": result} for name, result in results.items()}
    return Record(tmp_path / "gpu.json", header, made)


def test_a_check_that_disagrees_or_fails_is_broken(tmp_path):
    record = make_record(tmp_path, **{name: {"agrees": True} for name in CHECKS})
    assert broken_checks(record) == []
    record.steps["one rank ddp"] = {"result": {"agrees": False}}
    record.steps["agreement cav_mae_sync"] = {"error": "RuntimeError: no kernel"}
    record.steps["tests marked gpu"] = {"result": {"skipped": "pytest is not installed here"}}
    del record.steps["resume"]
    assert broken_checks(record) == ["agreement cav_mae_sync", "one rank ddp"]
    lines = verdicts(record)
    assert "one rank ddp: DISAGREES" in lines
    assert "agreement cav_mae_sync: failed, RuntimeError: no kernel" in lines
    assert {"resume: not measured", "tests marked gpu: not measured"} <= set(lines)


def test_other_weights_do_not_agree(tmp_path, monkeypatch):
    def copy(setting, name, reference, pack="auto"):
        other = original(setting, name, reference, pack)
        with torch.no_grad():
            other.objective.model.pos_embed_v.mul_(1.3)
        return other

    original = agreement._copy
    monkeypatch.setattr(agreement, "_copy", copy)
    found = agreement.method(Setting(CPU, True, make_record(tmp_path)), "cav_mae")
    assert not found["agrees"]
    assert found["fp32"]["features"]["distance"] > agreement.TOLERANCE["bf16"]


def test_the_fastest_kernel_is_one_with_the_right_output(tmp_path):
    times = {"varlen": 2.0, "flex": 1.0, "nested": 3.0}
    record = make_record(tmp_path, **{
        f"attention {kernel}": {"milliseconds": taken, "largest_difference": 0.01}
        for kernel, taken in times.items()
    })  # fmt: skip
    line = "attention in packed sequences, fastest first: {}"
    assert line.format("flex 1 ms, varlen 2 ms, nested 3 ms") in verdicts(record)
    record.steps["attention flex"]["result"]["largest_difference"] = 1.0
    del record.steps["attention nested"]
    assert line.format("varlen 2 ms, flex gives another output, nested not measured") in verdicts(
        record
    )


class LittleMemory(Trainer):
    """Separate encoders have room for one clip, a shared one for four."""

    def step(self, phase, batch):
        room = 1 if self.model.overrides.get("encoders") == "separate" else 4
        if phase.batch_size > room:
            raise torch.OutOfMemoryError
        super().step(phase, batch)


@pytest.mark.slow
def test_memory_is_compared_at_the_batch_size_that_fits_both(tmp_path, monkeypatch):
    monkeypatch.setitem(networks.WAYS, "packed", (LittleMemory, {"pack_sequences": "always"}))
    record = make_record(tmp_path)
    setting = Setting(CPU, True, record)
    shared, separate = "avsiam_large", "avsiam_large_separate"
    for name, beside in ((shared, None), (separate, (shared, "packed"))):
        found = throughput.measure(setting, name, "packed", beside)
        record.steps[f"steps {name}, packed"] = {"result": found}
    found = [record.result(f"steps {name}, packed") for name in (shared, separate)]
    assert [found[0]["batch_size"], found[1]["batch_size"]] == [2, 1]
    assert found[1]["beside"]["batch_size"] == 1
    (goal,) = (goal for goal in GOALS if "memory" in goal.text)
    assert goal.measure(record) is None  # a CPU has no peak
    figures = {"batch_size": 2, "peak_memory_gb": 8.0}
    record.steps[f"steps {separate}, packed"] = {"result": figures}
    record.steps[f"steps {shared}, packed"] = {"result": {"batch_size": 4, "peak_memory_gb": 7.0}}
    assert goal.measure(record) is None
    figures["beside"] = {"batch_size": 2, "peak_memory_gb": 4.0}
    assert goal.measure(record) == 0.5


def test_figures_of_other_code_are_set_aside(tmp_path):
    path, header = tmp_path / "gpu.json", dict.fromkeys(IDENTITY, "one")
    Record.begin(path, dict(header)).write("ceilings", {"result": {}})
    assert not Record.begin(path, dict(header)).is_due("ceilings")
    assert Record.begin(path, {**header, "code_sha256": "two"}).is_due("ceilings")
    assert (tmp_path / "gpu.before.json").is_file()


def test_a_step_that_fails_or_ends_the_process_is_tried_twice(tmp_path):
    path, header = tmp_path / "gpu.json", dict.fromkeys(IDENTITY, "one")
    for attempt in range(2):
        record = Record.begin(path, dict(header))
        assert record.is_due("resume"), attempt
        record.begun("resume")
    assert not Record.begin(path, dict(header)).is_due("resume")
