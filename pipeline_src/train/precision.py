"""Which precision a training computes in: its recipe's ``amp``, and for ``auto`` what is native.

A processor without bfloat16 instructions computes it in software: a step of the demo then takes 9
times as long as in fp32 with AVX2 and 1.2 times with AVX-512; with avx512_bf16 it takes half
(``benchmarks/precision.py``). So ``auto`` asks for the instructions, not for the type.
"""

import os
from typing import Literal, NamedTuple

import torch

from pipeline_src.runs.checkpoint import Checkpoint
from pipeline_src.train.distributed import Ranks, from_main

Amp = Literal["auto"] | bool
PrecisionName = Literal["bfloat16", "float32"]
CPU_INSTRUCTIONS = ("amx_bf16", "avx512_bf16")
# oneDNN, which multiplies matrices here, can be told to leave newer instructions unused.
ONEDNN_SWITCHES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
ONEDNN_LEVELS_WITHOUT = {
    "SSE41",
    "AVX",
    "AVX2",
    "AVX2_VNNI",
    "AVX2_VNNI_2",
    "AVX512_CORE",
    "AVX512_CORE_VNNI",
}


class Precision(NamedTuple):
    """The type of matrix products in training, and one clause that says why."""

    name: PrecisionName
    reason: str

    @property
    def is_mixed(self) -> bool:
        """Whether the step runs under autocast."""
        return self.name == "bfloat16"


def pick_precision(amp: Amp, device: torch.device, begun: str | None = None) -> Precision:
    """Choose the precision of a training on ``device``.

    Args:
        begun: what state.json of the checkpoint that it continues says; None at its start.
    """
    if amp != "auto":
        return Precision("bfloat16" if amp else "float32", f"amp: {str(amp).lower()}")
    native = native_precision(device)
    if begun is None or begun == native.name:
        return native
    name: PrecisionName = "bfloat16" if begun == "bfloat16" else "float32"
    return Precision(name, f"the training began in it; {native.name} would be native here")


def agree_on_precision(amp: Amp, ranks: Ranks, resumed: Checkpoint | None) -> Precision:
    """Return what rank 0 finds, on every rank: their machines may differ."""
    found = pick_precision(amp, ranks.device, resumed.state.get("precision") if resumed else None)
    if from_main(int(found.is_mixed), ranks) != found.is_mixed:
        return Precision("float32" if found.is_mixed else "bfloat16", "rank 0 has it")
    return found


def native_precision(device: torch.device) -> Precision:
    """Return what ``amp: auto`` means on a device: bfloat16 where it has instructions for it."""
    if device.type == "cuda":
        gpu = torch.cuda.get_device_name(device)
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Precision("bfloat16", f"{gpu} computes in it")
        return Precision("float32", f"{gpu} has no bfloat16")
    if device.type != "cpu":
        return Precision("float32", f"bfloat16 is not tried on {device.type}")
    found = [name for name in CPU_INSTRUCTIONS if _cpu_capabilities().get(name)]
    if not found:
        return Precision("float32", f"this processor has no {' or '.join(CPU_INSTRUCTIONS)}")
    for switch in ONEDNN_SWITCHES:
        if (level := os.environ.get(switch, "").upper()) in ONEDNN_LEVELS_WITHOUT:
            return Precision("float32", f"{switch}={level} leaves {found[0]} unused")
    return Precision("bfloat16", f"this processor has {found[0]}")


def _cpu_capabilities() -> dict[str, object]:
    """Return the instruction sets by name; empty where this build of torch cannot tell."""
    ask = getattr(torch.cpu, "get_capabilities", dict)
    return {str(name).lower(): value for name, value in ask().items()}
