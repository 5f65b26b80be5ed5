"""Mean accuracy over seeds of the runs of config/experiments/avdigits_labels.yaml.

    python benchmarks/label_efficiency.py results > benchmarks/results/label_efficiency.md

Run names are <init>_<percent of labels>_seed<n>; the interval is the range over seeds.
"""

import argparse
import json
import re
import statistics
from collections import defaultdict
from pathlib import Path

RUN_NAME = re.compile(r"(pretrain|scratch)_(\d+)_seed(\d+)")
MODALITIES = ("audio", "video", "audio_video")


def collect(results: Path) -> dict[tuple[int, str], list[dict[str, float]]]:
    """(percent of labels, init) -> accuracy by modality, one entry per seed."""
    found: dict[tuple[int, str], list[dict[str, float]]] = defaultdict(list)
    for path in sorted(results.glob("*_seed*/eval/*/metrics.json")):
        match = RUN_NAME.fullmatch(path.parts[-4])
        if match:
            metrics = json.loads(path.read_text(encoding="utf-8"))
            scores = {name: metrics[name]["accuracy"]["value"] for name in MODALITIES}
            found[int(match[2]), match[1]].append(scores)
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="results folder of the experiment")
    found = collect(parser.parse_args().results)
    if not found:
        raise SystemExit("no run named <init>_<percent>_seed<n> here; run the experiment first")
    print("| labels | start | seeds | audio | video | audio + video |\n|---|---|---|---|---|---|")
    for (percent, init), seeds in sorted(found.items(), reverse=True):
        cells = []
        for modality in MODALITIES:
            values = [scores[modality] for scores in seeds]
            mean = statistics.mean(values)
            cells.append(f"{mean:.3f} ({min(values):.3f} to {max(values):.3f})")
        start = "pre-trained" if init == "pretrain" else "scratch"
        print(f"| {percent} % | {start} | {len(seeds)} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
