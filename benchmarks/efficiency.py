"""What DiffMAViL's parts and their controls save: operations, steps, time and memory.

    python benchmarks/efficiency.py           # minutes on a GPU; on two CPU cores about an hour

Operations of base size in closed form and counted on the real network, forward and backward;
optimiser steps that the adaptive batch saves. Then training steps of every variant in turn in one
process, so that a busy machine slows all alike: base size on a GPU, else tiny, where the CPU time
with --threads 1 says most. Inputs are random and in memory: loading is not timed. A curriculum is
timed at the ratios and batches of ``--timed-epochs`` epochs. Peak memory is measured on a GPU; for
a CPU the bytes of a step are counted. Writes benchmarks/results/efficiency.json.
"""

import argparse
import os
import sys
from pathlib import Path
from statistics import median

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.timed_steps import Trainer, timed_round  # noqa: E402
from benchmarks.variants import (  # noqa: E402
    NUM_MEL_BINS,
    REFERENCE,
    VARIANTS,
    closed_form,
    steps_saved,
)
from pipeline_src.runs.provenance import git_commit, machine  # noqa: E402
from pipeline_src.system.atomic import write_json  # noqa: E402
from pipeline_src.train.measure import training_cost  # noqa: E402
from pipeline_src.train.memory import keep_freed_memory  # noqa: E402

OUTPUT = ROOT / "benchmarks" / "results" / "efficiency.json"
TOLERANCE = 0.02
MILLION = 1e6
QUICK = (REFERENCE, "reconstruction", "several ratios alone")


def counted_costs(num_frames: int, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Operations, steps and counted memory of every variant at ``options.counted_size``."""
    rows = {}
    for name, variant in options.variants.items():
        size, epochs = options.counted_size, options.counted_epochs
        model, recipe = variant.sections(num_frames, size, epochs=epochs)
        cost = training_cost(model, recipe, num_mel_bins=NUM_MEL_BINS, num_classes=0)
        flops = closed_form(model, recipe)
        rows[name] = {
            "closed_form_gflop": flops / 1e9,
            "counted_gflop": cost.flops / 1e9,
            "counted_over_closed_form": cost.flops / flops,
            "steps_saved": steps_saved(model, recipe),
            "counted_memory_gb": cost.memory_bytes(recipe.batch_size) / 1e9,
        }
        print(f"{num_frames} frames, {name}: counted", file=sys.stderr, flush=True)
    for row in rows.values():
        for kind in ("closed_form", "counted"):
            row[f"{kind}_saved"] = 1 - row[f"{kind}_gflop"] / rows[REFERENCE][f"{kind}_gflop"]
    return rows


def make_trainers(num_frames: int, options: argparse.Namespace) -> dict[str, Trainer]:
    """Every variant, ready to take steps."""
    changes = {"epochs": options.timed_epochs, "batch_size": options.batch_size}
    trainers = {}
    for name, variant in options.variants.items():
        model, recipe = variant.sections(num_frames, options.size, batch_multiple=1, **changes)
        trainers[name] = Trainer(model, recipe, options.device)
    return trainers


def timed_costs(num_frames: int, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Hours per million clips, ratios to MAViL and peak memory; the first round warms up."""
    trainers = make_trainers(num_frames, options)
    rounds = [timed_round(trainers, num_frames) for _ in range(options.repeats + 1)][1:]
    flops = {name: closed_form(one.model, one.recipe) for name, one in trainers.items()}
    rows = {}
    for name in trainers:
        taken = [one[name] for one in rounds]
        rows[name] = {
            "timed_flops_saved": 1 - flops[name] / flops[REFERENCE],
            "hours_per_million_clips": median(t.wall for t in taken) * MILLION / 3600,
        }
        for clock in ("wall", "cpu"):
            ratios = [getattr(r[name], clock) / getattr(r[REFERENCE], clock) for r in rounds]
            rows[name] |= {
                f"{clock}_over_mavil": median(ratios),
                f"{clock}_over_mavil_lowest": min(ratios),
                f"{clock}_over_mavil_highest": max(ratios),
            }
        if options.device.type == "cuda":
            rows[name]["peak_memory_gb"] = max(t.peak for t in taken) / 1e9
    return rows


def table(rows: dict[str, dict[str, float]], title: str) -> str:
    """Operations and steps on the left, what was timed on the right."""
    peak = "peak_memory_gb" if "peak_memory_gb" in rows[REFERENCE] else "counted_memory_gb"
    columns = {
        "closed_form_gflop": ("GFLOP", ".0f"),
        "counted_gflop": ("counted", ".0f"),
        "counted_saved": ("saved", ".1%"),
        "steps_saved": ("steps saved", ".1%"),
        "timed_flops_saved": ("timed: saved", ".1%"),
        "wall_over_mavil": ("wall clock", ".3f"),
        "cpu_over_mavil": ("CPU time", ".3f"),
        peak: ("memory GB", ".1f"),
    }
    lines = [f"{title:<32}" + "".join(f"{head:>14}" for head, _ in columns.values())]
    for name, row in rows.items():
        cells = (f"{row[key]:{form}}" for key, (_, form) in columns.items())
        lines.append(f"{name:<32}" + "".join(f"{cell:>14}" for cell in cells))
    return "\n".join(lines)


def parse_options() -> argparse.Namespace:
    """Command line, with what depends on the device or on ``--quick`` filled in."""
    parser = argparse.ArgumentParser(description="What DiffMAViL's parts save.")
    add = parser.add_argument
    add("--frames", type=int, nargs="+", default=[8, 16])
    add("--repeats", type=int, default=5, help="timed rounds; the first round is left out")
    add("--timed-epochs", type=int, default=3, help="ratios of a curriculum that are timed")
    add("--batch-size", type=int, default=0, help="0 = 60 on a GPU, 5 on a CPU")
    add("--threads", type=int, default=torch.get_num_threads())
    add("--shared", action="store_true", help="note that others used the machine")
    add("--quick", action="store_true", help="a try: tiny size, 2 frames, one round, short counts")
    add("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    options.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = options.device.type == "cuda"
    options.size = "base" if on_gpu and not options.quick else "tiny"
    options.batch_size = options.batch_size or (60 if on_gpu else 5)
    options.counted_size, options.counted_epochs, options.variants = "base", 20, VARIANTS
    if options.quick:
        options.variants = {name: VARIANTS[name] for name in QUICK}
        options.frames, options.repeats, options.timed_epochs = [2], 1, 2
        options.counted_size, options.counted_epochs, options.batch_size = "tiny", 2, 5
    return options


def off_the_closed_form(frames: dict[int, dict[str, dict[str, float]]]) -> list[str]:
    """Variants whose count is more than the tolerance from the closed form."""
    return [
        f"{name} at {num_frames} frames: {row['counted_over_closed_form']:.3f}"
        for num_frames, rows in frames.items()
        for name, row in rows.items()
        if abs(row["counted_over_closed_form"] - 1) > TOLERANCE
    ]


def main() -> None:
    """Count, time, write the JSON, print the tables; a count off the closed form is an error."""
    options = parse_options()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    result: dict[str, object] = {
        "device": torch.cuda.get_device_name() if options.device.type == "cuda" else "cpu",
        "machine": machine(),
        "torch": torch.__version__,
        "git_commit": git_commit(),
        "num_threads": options.threads,
        "load_average_before": [round(value, 2) for value in os.getloadavg()],
        "machine_was_shared": options.shared,
        "counted_size": options.counted_size,
        "timed_size": options.size,
        "timed_batch_size": options.batch_size,
        "repeats": options.repeats,
    }
    frames: dict[int, dict[str, dict[str, float]]] = {}
    for num_frames in options.frames:
        counted, timed = counted_costs(num_frames, options), timed_costs(num_frames, options)
        frames[num_frames] = {name: counted[name] | timed[name] for name in counted}
        print(table(frames[num_frames], f"{num_frames} frames"))
    write_json(options.output, result | {"frames": frames})
    print(
        f"GFLOP, saved: a clip at size {options.counted_size}, forward and backward. Clocks: size "
        f"{options.size} on {result['device']}, over MAViL's. Memory: "
        + ("measured." if options.device.type == "cuda" else "counted, a step of 64 clips, fp32.")
    )
    if not options.quick and (apart := off_the_closed_form(frames)):
        sys.exit(f"closed form and count differ by more than {TOLERANCE:.0%}: {'; '.join(apart)}")


if __name__ == "__main__":
    main()
