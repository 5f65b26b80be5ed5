"""Time `av-pipeline embed` over many clips beside merely decoding them, kill it once, and go on.

    nice python benchmarks/embed.py --clips 600

The clips are the demo archive's (one second each), the network is of the demo's size with random
weights unless ``--model`` names a checkpoint: time goes into files, not into products. Three ways,
each with all that it starts, on all cores: ``decode_only`` is ``ffmpeg -i clip -f null -``, a
process per clip; ``start`` is the command for one clip, ``whole`` for all; ``killed`` is the
command stopped by SIGKILL once a third of the rows are there, and the same command again. Every
file must have one row then, and those that had one must not have been looked at again. Writes
benchmarks/results/embed.json.
"""

import argparse
import csv
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.costs import Cost, timed  # noqa: E402
from benchmarks.preprocess import decode_only, describe_machine  # noqa: E402
from pipeline_src.system.atomic import write_json  # noqa: E402
from pipeline_src.system.cores import num_cores  # noqa: E402
from tests.checkpoints import make_checkpoint  # noqa: E402

ARCHIVE = ROOT / "config" / "datasets" / "avdigits.tar"
OUTPUT = ROOT / "benchmarks" / "results" / "embed.json"
KILLED_AT = 1 / 3  # of the rows
POLL_SECONDS = 0.02


def main() -> None:
    """Measure the three ways and print them."""
    parser = argparse.ArgumentParser(description="Time the embedding of many clips.")
    add = parser.add_argument
    add("--clips", type=int, default=3000, help="of the demo archive")
    add("--model", type=Path, help="a checkpoint; left out: random weights of the demo's size")
    add("--output", type=Path, default=OUTPUT, help="JSON file to write")
    options = parser.parse_args()
    machine = describe_machine()
    with tempfile.TemporaryDirectory(prefix="embed-") as name:
        folder = Path(name)
        clips = unpack(folder / "clips", options.clips)
        model = options.model or make_demo_model(folder / "model")
        write_json(options.output, {**machine, **measure(model, clips, folder)})


def unpack(folder: Path, count: int) -> list[Path]:
    """Write the first clips of the demo archive."""
    with tarfile.open(ARCHIVE) as archive:
        members = archive.getmembers()[:count]
        archive.extractall(folder, members, filter="data")
    return [folder / member.name for member in members]


def make_demo_model(folder: Path) -> Path:
    """Write random weights of a network of the demo's size."""
    return make_checkpoint(folder, classes=(), embed_dim=128, depth=4, num_heads=4, num_mel_bins=64)


def measure(model: Path, clips: Sequence[Path], folder: Path) -> dict[str, Any]:
    """Run all ways and return their figures."""
    first, listed = (
        write_list(folder / "first.txt", clips[:1]),
        write_list(folder / "all.txt", clips),
    )
    decode = timed(lambda: decode_only(clips, num_cores()))
    start = timed(lambda: finish(embed(model, first, folder / "first.csv")))
    whole = timed(lambda: finish(embed(model, listed, folder / "whole.csv")))
    check_rows(folder / "whole.csv", clips)
    work_cpu_seconds = whole.cpu_seconds - start.cpu_seconds
    result = {
        "num_clips": len(clips),
        "num_cores_used": num_cores(),
        "decode_only": figures(decode, len(clips)),
        "start": figures(start, 1),
        "whole": figures(whole, len(clips)),
        "ratio_to_decode_only": round(whole.seconds / decode.seconds, 2),
        "cpu_ratio_to_decode_only": round(whole.cpu_seconds / decode.cpu_seconds, 2),
        "cpu_ratio_without_start": round(work_cpu_seconds / decode.cpu_seconds, 2),
        "killed": kill_and_go_on(model, listed, folder / "killed.csv", clips),
    }
    print(json.dumps(result, indent=1))
    return result


def write_list(path: Path, clips: Sequence[Path]) -> Path:
    """Write a list of inputs."""
    path.write_text("".join(f"{clip}\n" for clip in clips))
    return path


def figures(cost: Cost, num_clips: int) -> dict[str, float]:
    """Return seconds and rates of a way; of CPU seconds the rate of one core."""
    return {
        "seconds": round(cost.seconds, 2),
        "cpu_seconds": round(cost.cpu_seconds, 2),
        "clips_per_second": round(num_clips / cost.seconds, 1),
        "clips_per_cpu_second": round(num_clips / cost.cpu_seconds, 1),
    }


def embed(model: Path, listed: Path, output: Path) -> subprocess.Popen[str]:
    """Start the command."""
    words = ["embed", model, "--list", listed, "--output", output, "--device", "cpu"]
    command = [sys.executable, "-m", "pipeline_src", *map(str, words)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for the command and return what it said.

    Raises:
        RuntimeError: it failed.
    """
    said = process.communicate()[1]
    if process.returncode:
        raise RuntimeError(f"embed ended with {process.returncode}: {said[-2000:]}")
    return said


def kill_and_go_on(
    model: Path, listed: Path, output: Path, clips: Sequence[Path]
) -> dict[str, Any]:
    """Stop the command by SIGKILL within its work, run it again and count what it did.

    Raises:
        RuntimeError: it ended before, or a file has no row or two.
    """
    process = embed(model, listed, output)
    while num_rows(output) < KILLED_AT * len(clips):
        if process.poll() is not None:
            raise RuntimeError("embed ended before it could be killed; name more --clips")
        time.sleep(POLL_SECONDS)
    process.kill()
    process.communicate()
    said = ""

    def go_on() -> None:
        nonlocal said
        said = finish(embed(model, listed, output))

    cost = timed(go_on)
    check_rows(output, clips)
    kept = int((re.search(r"(\d+) of \d+ are done", said) or ["", "0"])[1])
    made = int((re.search(r"(\d+) inputs; refused", said) or ["", "0"])[1])
    if not kept or kept + made != len(clips):
        raise RuntimeError(f"{kept} rows kept and {made} made of {len(clips)}")
    return {
        "rows_kept": kept,
        "rows_made": made,
        "seconds_again": round(cost.seconds, 2),
    }


def num_rows(path: Path) -> int:
    """Count whole lines below the header."""
    return path.read_bytes().count(b"\n") - 1 if path.is_file() else 0


def check_rows(path: Path, clips: Sequence[Path]) -> None:
    """Refuse a table in which a file has no row, two, or one without vectors.

    Raises:
        RuntimeError: names one.
    """
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    counts = Counter(row["source"] for row in rows)
    wrong = [str(clip) for clip in clips if counts[str(clip)] != 1]
    wrong += [f"{row['source']} ({row['reason']})" for row in rows if row["reason"]]
    if wrong or len(rows) != len(clips):
        raise RuntimeError(f"{path}: {len(wrong)} files without one row of vectors: {wrong[:1]}")


if __name__ == "__main__":
    main()
