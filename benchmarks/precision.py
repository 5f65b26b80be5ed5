"""Time the demo's training steps in bfloat16 and in fp32: which of them should ``amp: auto`` take?

Pre-training and fine-tuning steps of config/config.yaml on random clips that are in memory, the
two precisions in turn, so that a busy machine slows both alike; with one thread, the CPU seconds
say most. Other kinds of processor can be tried with oneDNN's and torch's own switches, which leave
instructions unused that this processor has:

    ONEDNN_MAX_CPU_ISA=AVX512_CORE python benchmarks/precision.py     # AVX-512 without bfloat16
    ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 python benchmarks/precision.py

Adds to benchmarks/results/precision.json what was measured, under the switches that were set.
"""

import argparse
import json
import os
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pipeline_src.config import Config, read_config, resolve_run  # noqa: E402
from pipeline_src.config.phase_plan import plan_phases  # noqa: E402
from pipeline_src.config.training import FinetuneConfig, ModelConfig, PretrainConfig  # noqa: E402
from pipeline_src.runs.build import build_model  # noqa: E402
from pipeline_src.runs.provenance import git_commit, machine  # noqa: E402
from pipeline_src.system.atomic import write_json  # noqa: E402
from pipeline_src.train.memory import keep_freed_memory  # noqa: E402
from pipeline_src.train.optim import build_optimizers  # noqa: E402
from pipeline_src.train.parallel import clip_gradients  # noqa: E402
from pipeline_src.train.task import make_task  # noqa: E402

OUTPUT = ROOT / "benchmarks" / "results" / "precision.json"
NUM_CLASSES = 10
SWITCHES = ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS")
PRECISIONS = {"bfloat16": True, "float32": False}


class Steps:
    """Training steps of one recipe on one network, as the loop takes them."""

    def __init__(
        self, config: Config, model: ModelConfig, recipe: PretrainConfig | FinetuneConfig
    ) -> None:
        stage = "finetune" if isinstance(recipe, FinetuneConfig) else "pretrain"
        task = make_task(model, recipe)
        bins, frames = config.audio.num_mel_bins, recipe.num_frames
        network = build_model(
            model,
            num_classes=NUM_CLASSES if stage == "finetune" else 0,
            num_mel_bins=bins,
            num_frames=frames,
            seed=0,
        )
        self.recipe = recipe
        self.ratios = None
        if isinstance(recipe, PretrainConfig):
            self.ratios = plan_phases(network.config, recipe)[0].ratios
        self.objective = task.objective(network, "multiclass")
        self.optimizers = build_optimizers(
            recipe,
            network.named_parameters(),
            self.objective.passes,
            partial(task.lr_factor, network),
        )
        self.generator = torch.Generator().manual_seed(0)
        side = model.img_size
        self.batch = {
            "logmel": torch.randn(recipe.batch_size, model.target_length, bins),
            "frames": torch.randn(recipe.batch_size, frames, 3, side, side),
            "targets": torch.eye(NUM_CLASSES)[torch.arange(recipe.batch_size) % NUM_CLASSES],
            "index": torch.arange(recipe.batch_size),
        }

    def take(self, *, amp: bool) -> float:
        """Take one step; return its CPU seconds."""
        started = time.process_time()
        size = self.recipe.batch_size
        plan = self.objective.draw(size, self.ratios, self.generator)
        for step_pass, optimizer in self.optimizers.items():
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=amp):
                loss: Tensor = self.objective(self.batch, plan, step_pass)["loss"]
            loss.backward()
            clip_gradients(self.objective.parameters(), self.recipe.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return time.process_time() - started


def measure(steps: Steps, repeats: int) -> dict[str, float]:
    """Median CPU seconds of a step per precision, and their ratio; two rounds warm up."""
    taken: dict[str, list[float]] = {name: [] for name in PRECISIONS}
    for turn in range(repeats + 2):
        for name, amp in PRECISIONS.items():
            seconds = steps.take(amp=amp)
            if turn > 1:
                taken[name].append(seconds)
    pairs = zip(*taken.values(), strict=True)
    ratio = median(bfloat16 / float32 for bfloat16, float32 in pairs)
    rounded = {name: round(median(values), 4) for name, values in taken.items()}
    return {**rounded, "bfloat16_over_float32": round(ratio, 3)}


def main() -> None:
    """Measure both recipes of the first run and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, nargs="*", default=[ROOT / "config/config.yaml"])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    config = read_config(options.config)
    run = resolve_run(config, config.run_names[0])
    result = {
        "machine": machine(),
        "capabilities": [name for name, has in torch.cpu.get_capabilities().items() if has is True],
        "git_commit": git_commit(),
        "torch": torch.__version__,
        "cpu_seconds_per_step": {
            stage: measure(Steps(config, run.model, recipe), options.repeats)
            for stage, recipe in (("pretrain", run.pretrain), ("finetune", run.finetune))
        },
    }
    switches = [f"{name}={os.environ[name]}" for name in SWITCHES if name in os.environ]
    known = json.loads(options.output.read_text()) if options.output.exists() else {}
    write_json(options.output, {**known, " ".join(switches) or "native": result})
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
