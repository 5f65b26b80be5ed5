"""How long programs take to begin: what they import, beside torch alone, which each of them needs.

    python benchmarks/start.py [--rounds N]

A process per row and round, the rows in turn; medians of the seconds and of the processor time, and
the ratio to ``import torch``.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROGRAMS = {
    "torch alone": "torch",
    "av-pipeline embed, classify, search": "pipeline_src.inference.model",
    "a training": "pipeline_src.train.run",
    "an evaluation of classes": "pipeline_src.evaluate.finetuned",
    "the report": "pipeline_src.report.build",
    "planning": "pipeline_src.catalog",
}


def time_import(module: str) -> tuple[float, float]:
    """Return the seconds and the processor seconds of a process that imports a module."""
    before, began = os.times(), time.monotonic()
    subprocess.run([sys.executable, "-c", f"import {module}"], cwd=ROOT, check=True)
    seconds, after = time.monotonic() - began, os.times()
    used = after.children_user + after.children_system
    return seconds, used - before.children_user - before.children_system


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    for module in PROGRAMS.values():
        time_import(module)  # files into the page cache
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in PROGRAMS}
    for _ in range(rounds):
        for name, module in PROGRAMS.items():
            taken[name].append(time_import(module))
    print("| program | begins after, s | processor, s | to torch alone |\n|---|---|---|---|")
    alone = statistics.median(wall for wall, _ in taken["torch alone"])
    for name, times in taken.items():
        wall, cpu = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"| {name} | {wall:.2f} | {cpu:.2f} | {wall / alone:.2f} |")


if __name__ == "__main__":
    main()
