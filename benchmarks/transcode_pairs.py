"""CPU seconds of transcoding a chunk by this checkout and by another one, in turn.

    git worktree add ../before fe4743d                      # version 0.1
    python -m benchmarks.transcode_pairs ../before results/avdigits/download/train/00000.json

The second argument is the download manifest of a finished chunk. Both run in this environment with
the demo's settings and one worker, each time in a process of its own. Writes
benchmarks/results/transcode_pairs.json.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.preprocess import describe_machine
from pipeline_src.system.atomic import write_json

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "benchmarks" / "results" / "transcode_pairs.json"
# Run by either checkout, so it names what both have. Version 0.1 had the module elsewhere.
ONE = """
import hashlib, json, os, sys, tempfile
from pathlib import Path
if Path("pipeline_src/transcode").is_dir():  # an installed checkout answers for what this one lacks
    from pipeline_src.transcode.transcode import transcode_chunk
else:
    from pipeline_src.media.transcode import transcode_chunk
from pipeline_src.config.data import MediaConfig
with tempfile.TemporaryDirectory() as folder:
    out = Path(folder, "transcode")
    out.mkdir()
    before = os.times()
    transcode_chunk(
        download_manifest=Path(sys.argv[1]).resolve(), manifest_path=out / "00000.json",
        ledger_path=out / "00000.ledger.csv", num_workers=1, version=1,
        media=MediaConfig(num_frames=10, frame_size=32),
    )
    after = os.times()
    tars = hashlib.sha256(b"".join(p.read_bytes() for p in sorted(out.rglob("*.tar"))))
own, children = (sum(after[k:k + 2]) - sum(before[k:k + 2]) for k in (0, 2))
print(json.dumps({"python": own, "ffmpeg": children, "sha256": tars.hexdigest()}))
"""


def measure(checkout: Path, manifest: Path) -> dict[str, Any]:
    """Transcode once with the code of ``checkout``; CPU seconds and the hash of the tars."""
    command = [sys.executable, "-c", ONE, str(manifest.resolve())]
    env = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(
        command, cwd=checkout, env=env, check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(answer.stdout.splitlines()[-1])


def main() -> None:
    """Measure pairs and record them with their ratios."""
    parser = argparse.ArgumentParser(description="Transcode a chunk by two checkouts in turn.")
    parser.add_argument("other", type=Path, help="checkout to compare with")
    parser.add_argument("manifest", type=Path, help="download manifest of a chunk")
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    checkouts = {"this": ROOT, "other": options.other.resolve()}
    pairs = []
    for number in range(options.pairs):
        names = sorted(checkouts, reverse=number % 2 == 0)  # who is first takes turns
        pairs.append({name: measure(checkouts[name], options.manifest) for name in names})
        print(json.dumps(pairs[-1]), file=sys.stderr, flush=True)
    seconds = [{name: one[name]["python"] + one[name]["ffmpeg"] for name in one} for one in pairs]
    ratios = sorted(one["this"] / one["other"] for one in seconds)
    hashes = {one[name]["sha256"] for one in pairs for name in checkouts}
    figures = {
        "cpu_ratio": round(median(ratios), 3),
        "range": [round(ratios[0], 3), round(ratios[-1], 3)],
        "same_bytes": len(hashes) == 1,
        "pairs": pairs,
    }
    write_json(OUTPUT, {**describe_machine(), **figures})
    print("CPU seconds over the other's:", figures["cpu_ratio"], figures["range"])


if __name__ == "__main__":
    main()
