"""Mean accuracy over seeds of the runs of an experiment.

    python benchmarks/seeds.py results > benchmarks/results/label_efficiency.md
    python benchmarks/seeds.py results results/seed1 results/seed2

The last column is the contrast's accuracy in the batch, over the last tenth of the pre-training, in
multiples of chance: below 3 the contrast has hardly begun, and the arm says nothing.

Runs that differ in ``_seed<n>`` at the end of their name, and runs of one name in several result
folders, are seeds of one row; the interval is the range over them.
"""

import argparse
import json
import math
import re
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from pipeline_src.runs.spec import SPEC_FILE

IN_BATCH = "in_batch"
PLATEAU = 3
MODALITIES = ("audio", "video", "audio_video")


def collect(folders: Sequence[Path], dataset: str) -> dict[str, list[dict[str, float]]]:
    """Run without its seed -> accuracy by modality, one entry per seed, in the order of names."""
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for folder in folders:
        for path in sorted(folder.glob(f"*/eval/{dataset}/metrics.json")):
            metrics = json.loads(path.read_text(encoding="utf-8"))
            scores = {name: metrics[name]["accuracy"]["value"] for name in MODALITIES}
            scores[IN_BATCH] = over_chance(path.parents[2])
            found[re.sub(r"_seed\d+$", "", path.parts[-4])].append(scores)
    return found


def over_chance(run_dir: Path) -> float:
    """Give the accuracy of the contrast in the batch over chance; NaN where there is none.

    Chance is 1 / batch_size in an adaptive batch too, whose negatives are as many (fixed).
    """
    path = run_dir / "pretrain" / "metrics.jsonl"
    if not path.exists():
        return math.nan
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found = [row["contrast_accuracy"] for row in rows if "contrast_accuracy" in row]
    spec = json.loads((path.parent / SPEC_FILE).read_text(encoding="utf-8"))
    last = found[-max(1, len(found) // 10) :]
    return spec["recipe"]["batch_size"] * statistics.mean(last) if last else math.nan


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Mean accuracy over seeds.")
    parser.add_argument("results", type=Path, nargs="+", help="results folders of the experiment")
    parser.add_argument("--dataset", default="avdigits")
    options = parser.parse_args()
    found = collect(options.results, options.dataset)
    if not found:
        raise SystemExit(
            f"no <run>/eval/{options.dataset}/metrics.json here; run the experiment first"
        )
    print("| run | seeds | audio | video | audio + video | in the batch, x chance |")
    print("|---|---|---|---|---|---|")
    for run, seeds in found.items():
        cells = []
        for modality in MODALITIES:
            values = [scores[modality] for scores in seeds]
            mean = statistics.mean(values)
            cells.append(f"{mean:.3f} ({min(values):.3f} to {max(values):.3f})")
        reached = statistics.mean(scores[IN_BATCH] for scores in seeds)
        cells.append(f"{reached:.1f}" + (" (plateau)" if reached < PLATEAU else ""))
        print(f"| {run} | {len(seeds)} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
