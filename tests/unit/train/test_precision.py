"""``amp: auto``: which precision a machine gets; a training continues in the one it began with."""

import json
import shutil

import pytest
import torch

from pipeline_src.commands.doctor import check_precision
from pipeline_src.config import OptimConfig
from pipeline_src.train.precision import native_precision, pick_precision
from pipeline_src.train.run import run_training
from pipeline_src.train.stop import StopFlag
from tests.unit.train.test_run import index_path, pretrain_spec, rows  # noqa: F401

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
ZEN3 = {"avx2": True, "fma3": True, "cpu_name": "AMD EPYC", "avx512_bf16": False}
ZEN5 = ZEN3 | {"avx512_bf16": True}


@pytest.fixture
def processor(monkeypatch):
    """Have torch report a processor with these capabilities."""
    for switch in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(switch, raising=False)

    def report(capabilities):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)

    return report


@pytest.mark.parametrize(
    ("capabilities", "name", "reason"),
    [
        (ZEN5, "bfloat16", "has avx512_bf16"),
        ({"amx_bf16": True, "avx512_bf16": True}, "bfloat16", "has amx_bf16"),
        ({"AVX512_BF16": True}, "bfloat16", "has avx512_bf16"),
        (ZEN3, "float32", "no amx_bf16 or avx512_bf16"),
        ({"avx512_f": True, "avx512_vnni": True}, "float32", "no amx_bf16"),
        ({"neon": True, "bf16": True}, "float32", "no amx_bf16"),
        ({}, "float32", "no amx_bf16"),
    ],
)
def test_auto_is_bfloat16_where_the_processor_computes_in_it(processor, capabilities, name, reason):
    processor(capabilities)
    found = pick_precision("auto", CPU)
    assert (found.name, found.is_mixed) == (name, name == "bfloat16")
    assert reason in found.reason
    (line,) = check_precision()
    assert (line.state, found.reason in line.text) == ("ok", True)


def test_a_torch_that_cannot_tell_gets_fp32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert native_precision(CPU).name == "float32"


@pytest.mark.parametrize(
    ("level", "name"), [("avx2", "float32"), ("AVX512_CORE", "float32"), ("ALL", "bfloat16")]
)
def test_instructions_that_onednn_may_not_use_do_not_count(processor, monkeypatch, level, name):
    processor(ZEN5)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", level)
    assert native_precision(CPU).name == name


@pytest.mark.parametrize("capabilities", [ZEN3, ZEN5])
@pytest.mark.parametrize(("amp", "name"), [(True, "bfloat16"), (False, "float32")])
def test_a_named_precision_is_taken_on_every_machine(processor, capabilities, amp, name):
    processor(capabilities)
    assert pick_precision(amp, CPU).name == name
    assert pick_precision(amp, CPU, begun="float32").name == name


def test_other_devices_get_fp32():
    assert native_precision(torch.device("mps")).name == "float32"


@pytest.mark.parametrize(("given", "read"), [("true", True), ("False", False), ("auto", "auto")])
def test_words_of_the_command_line_are_read(given, read):
    assert OptimConfig(amp=given).amp == read


def test_a_training_continues_in_the_precision_it_began_with(index_path, tmp_path, processor):  # noqa: F811
    states, curves, marks = {}, {}, set()
    for name, capabilities in (("bfloat16", ZEN5), ("float32", ZEN3)):
        processor(capabilities)
        keeps = {"save_every_seconds": 1e-6, "keep_checkpoints": 100, "log_every": 1}
        spec = pretrain_spec(index_path, tmp_path / name, epochs=2, amp="auto", **keeps)
        marks.add(spec.fingerprint())
        done = run_training(spec, StopFlag())
        states[name] = json.loads((done.parent / "checkpoint/state.json").read_text())
        curves[name] = [row["loss"] for row in rows(tmp_path / name)]
        assert json.loads(done.read_text())["precision"] == states[name]["precision"] == name
    assert len(marks) == 1  # the same configuration on every machine
    assert curves["bfloat16"] != curves["float32"]
    for begun, capabilities in (("bfloat16", ZEN3), ("float32", ZEN5)):
        processor(capabilities)
        folder = tmp_path / begun
        for step in (3, 4):
            shutil.rmtree(folder / f"checkpoints/step_{step:08d}")
        (folder / "done.json").unlink()
        spec = spec.model_copy(update={"run_dir": folder})
        done = run_training(spec, StopFlag())
        assert json.loads(done.read_text())["precision"] == begun
        assert [row["loss"] for row in rows(folder)] == curves[begun]
