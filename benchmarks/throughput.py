"""Clips per second, peak memory and model FLOPs utilisation of pre-training steps, on a GPU.

    python benchmarks/throughput.py           # minutes on a GPU
    python benchmarks/throughput.py --quick   # a try anywhere: tiny networks, a batch of 5

The published comparisons (arXiv:2403.19638, second-hand): AVSiam-Base against CAV-MAE-Base in
clips/s, shared against separate encoders at size large in memory, several mask ratios against 25 %
alone in time. Networks and recipes are those of config/experiments; each takes steps at every batch
of ``--batch-sizes`` and at the largest power of two that fits. Inputs are random and in memory:
loading is not timed. The utilisation is counted operations, nothing computed twice, over the
maker's peak. Writes benchmarks/results/throughput.json.
"""

import argparse
import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.timed_steps import Trainer, make_spec, timed_step  # noqa: E402
from pipeline_src.config import ModelConfig, PretrainConfig, read_config, resolve_run  # noqa: E402
from pipeline_src.config.variants import NUM_MEL_BINS  # noqa: E402
from pipeline_src.runs.provenance import git_commit, machine  # noqa: E402
from pipeline_src.system.atomic import write_json  # noqa: E402
from pipeline_src.train.cost import PEAK_FLOPS  # noqa: E402
from pipeline_src.train.measure import training_cost  # noqa: E402

OUTPUT = ROOT / "benchmarks" / "results" / "throughput.json"
EXPERIMENTS = ROOT / "config" / "experiments"
# Name here -> experiment file and its run.
RUNS = {
    "avsiam_base": ("avsiam_ablations", "multi_ratio"),
    "avsiam_base_fixed_25": ("avsiam_ablations", "fixed_25"),
    "avsiam_large": ("avsiam_ablations", "large_shared"),
    "avsiam_large_separate": ("avsiam_ablations", "large_separate"),
    "cav_mae_base": ("cav_mae_vggsound", "cav_mae_base"),
}


Batches = dict[int, dict[str, float]]


class Goal(NamedTuple):
    """A published ratio of two runs at the first batch size."""

    quantity: str
    run: str
    reference: str
    published: float


GOALS = (
    Goal("clips_per_second", "avsiam_base", "cav_mae_base", 3.35),
    Goal("peak_memory_gb", "avsiam_large", "avsiam_large_separate", 0.53),
    Goal("seconds_per_clip", "avsiam_base", "avsiam_base_fixed_25", 0.44),
)


def sections(name: str, options: argparse.Namespace) -> tuple[ModelConfig, PretrainConfig]:
    """Network, random weights, and recipe of a run; ``--quick`` makes both networks tiny."""
    file, run_name = RUNS[name]
    run = resolve_run(read_config([EXPERIMENTS / f"{file}.yaml"]), run_name)
    size = {"size": "tiny"} if options.quick else {}
    return (
        run.model.model_copy(update={"init": "random", **size}),
        run.pretrain.model_copy(update={"compile": options.compile}),
    )


def measure(name: str, options: argparse.Namespace) -> Batches:
    """Figures of a run at every batch size that fits."""
    model, recipe = sections(name, options)
    cost = training_cost(name, make_spec(model, recipe), num_mel_bins=NUM_MEL_BINS, num_classes=0)
    trainer = Trainer(model, recipe, options.device)
    batches: Batches = {}
    for batch_size in batch_sizes(options):
        try:
            batches[batch_size] = timed(trainer, batch_size, options)
        except torch.OutOfMemoryError:
            print(f"{name}: {batch_size} clips do not fit", file=sys.stderr)
            break
        finally:
            gc.collect()
            torch.cuda.empty_cache()
        figures = batches[batch_size]
        figures["teraflops"] = cost.flops * figures["clips_per_second"] / 1e12
        if options.peak:
            figures["utilisation"] = figures["teraflops"] * 1e12 / options.peak
        print(f"{name}, {batch_size} clips: {figures}", file=sys.stderr, flush=True)
    return batches


def batch_sizes(options: argparse.Namespace) -> Iterator[int]:
    """The wanted ones in order, then on a GPU powers of two above them until none fits."""
    yield from options.batch_sizes
    batch_size = 1 << max(options.batch_sizes).bit_length()
    while options.device.type == "cuda" and not options.quick:
        yield batch_size
        batch_size *= 2


def timed(trainer: Trainer, batch_size: int, options: argparse.Namespace) -> dict[str, float]:
    """Median over steps; the first ones warm up and are left out."""
    phase = trainer.phases[0]._replace(batch_size=batch_size)
    num_frames = trainer.recipe.num_frames
    taken = [timed_step(trainer, phase, num_frames) for _ in range(options.repeats + 2)][2:]
    seconds = median(step.wall for step in taken)
    figures = {"clips_per_second": 1 / seconds, "seconds_per_clip": seconds}
    if options.device.type == "cuda":
        figures["peak_memory_gb"] = max(step.peak for step in taken) / 1e9
    return figures


def ratios(runs: dict[str, Batches], batch_size: int) -> dict[str, dict[str, float]]:
    """Each goal's measured and published ratio where both runs were measured at the batch."""
    found = {}
    for goal in GOALS:
        ours, theirs = (
            runs.get(name, {}).get(batch_size, {}).get(goal.quantity)
            for name in (goal.run, goal.reference)
        )
        if ours and theirs:
            label = f"{goal.run} : {goal.reference}, {goal.quantity}"
            found[label] = {"measured": ours / theirs, "published": goal.published}
    return found


def parse_options() -> argparse.Namespace:
    """Command line, with what depends on the device or on ``--quick`` filled in."""
    parser = argparse.ArgumentParser(description="Clips/s and memory of pre-training steps.")
    add = parser.add_argument
    add("--runs", nargs="+", choices=list(RUNS), default=list(RUNS))
    add("--batch-sizes", type=int, nargs="+", default=[96], help="measured before larger ones")
    add("--repeats", type=int, default=10, help="timed steps")
    add("--gpu", choices=sorted(PEAK_FLOPS), help="whose peak; default: by the device's name")
    add("--compile", action="store_true", help="torch.compile the blocks, as pretrain.compile")
    add("--quick", action="store_true", help="a try: tiny networks, a batch of 5, one step")
    add("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    options.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if options.quick:
        options.batch_sizes, options.repeats = [5], 1
    elif options.device.type != "cuda":
        parser.error("no GPU here; --quick tries the script without one")
    options.name = torch.cuda.get_device_name() if options.device.type == "cuda" else "cpu"
    gpu = options.gpu or next((key for key in PEAK_FLOPS if key in options.name.lower()), None)
    options.peak = PEAK_FLOPS[gpu] if gpu else None
    return options


def main() -> None:
    """Measure every run, write the JSON, print the ratios."""
    options = parse_options()
    runs = {name: measure(name, options) for name in options.runs}
    found = ratios(runs, options.batch_sizes[0])
    record = {
        "device": options.name,
        "machine": machine(),
        "torch": torch.__version__,
        "git_commit": git_commit(),
        "compiled": options.compile,
        "quick": options.quick,
        "peak_flops": options.peak,
        "ratios": found,
        "runs": runs,
    }
    write_json(options.output, record)
    for label, values in found.items():
        print(f"{label}: {values['measured']:.2f}, published {values['published']}")


if __name__ == "__main__":
    main()
