"""Plan a clip list of AudioSet-2M's form and size with the real command, and time the parsing.

Makes 2,000,000 rows as the official CSV has them in a temporary folder and runs ``snakemake -n`` on
them: first with nothing planned, then with the chunks on disk, which is what every later call and
every job on a cluster does. Wall seconds depend on what else the machine does, CPU seconds less.
Prints a table and writes benchmarks/results/scale.json.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pipeline_src.runs.provenance import git_commit  # noqa: E402
from pipeline_src.system.atomic import write_json  # noqa: E402

OUTPUT = ROOT / "benchmarks" / "results" / "scale.json"
GOALS = {"plan_seconds": 60.0, "plan_megabytes": 1500.0, "parse_seconds": 1.0}
NUM_CLASSES = 527
NUM_TEST = 20_000
CLIP_SECONDS = 10
REPEATS = 5
NAME = "synthetic_2m"
ID_CHARS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
DESCRIPTION = f"""\
name: {NAME}
task: multilabel
format: audioset
clip_list: {{train: train.csv, test: test.csv}}
class_names: classes.csv
"""
# What a job does before its work: the data set is known, its chunks are on disk.
CATALOG = """\
import sys, time
started = time.perf_counter()
from pathlib import Path
from pipeline_src.catalog import Catalog
from pipeline_src.config import read_config
imported = time.perf_counter()
config = read_config([Path("config/config.yaml"), Path(sys.argv[1])])
catalog = Catalog(config, Path("config/datasets"))
catalog.num_chunks(sys.argv[2])
print(imported - started, time.perf_counter() - imported)
"""


@dataclass(frozen=True)
class Usage:
    """What one command took."""

    seconds: float
    cpu_seconds: float
    max_megabytes: float


def write_list(path: Path, first: int, num_clips: int, rng: random.Random) -> None:
    """An official AudioSet list: three comment lines, then YTID, start, end and labels."""
    with path.open("w") as stream:
        stream.write(f"# Segments csv\n# num_ytids={num_clips}\n")
        stream.write("# YTID, start_seconds, end_seconds, positive_labels\n")
        for number in range(first, first + num_clips):
            digits = "".join(ID_CHARS[(number >> shift) & 63] for shift in (18, 12, 6, 0))
            start = rng.randrange(600)
            classes = rng.sample(range(NUM_CLASSES), rng.choice((1, 2, 2, 3)))
            labels = ",".join(f"/m/{index:05x}" for index in classes)
            end = start + CLIP_SECONDS
            stream.write(f'-{digits}000000, {start}.000, {end}.000, "{labels}"\n')


def make_dataset(folder: Path, num_clips: int, chunk_size: int) -> Path:
    """Write lists, classes and description; return the overlay of the configuration."""
    rng = random.Random(0)
    write_list(folder / "train.csv", 0, num_clips - NUM_TEST, rng)
    write_list(folder / "test.csv", num_clips - NUM_TEST, NUM_TEST, rng)
    rows = [f'{index},/m/{index:05x},"Class {index}, a sound"' for index in range(NUM_CLASSES)]
    (folder / "classes.csv").write_text("\n".join(["index,mid,display_name", *rows]) + "\n")
    (folder / "dataset.yaml").write_text(DESCRIPTION)
    overlay = {
        "datasets": [str(folder / "dataset.yaml")],
        "results": str(folder / "results"),
        "plan": {"chunk_size": chunk_size},
    }
    (folder / "overlay.yaml").write_text(json.dumps(overlay))
    return folder / "overlay.yaml"


def measure(*command: str) -> Usage:
    """Run a command from the repository's root; the largest process counts."""
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    seconds = time.perf_counter() - started
    cpu_seconds = used.ru_utime + used.ru_stime
    return Usage(round(seconds, 2), round(cpu_seconds, 2), round(used.ru_maxrss / 1000, 1))


def median(*command: str) -> Usage:
    """The median of several runs, each quantity for itself."""
    runs = [asdict(measure(*command)) for _ in range(REPEATS)]
    return Usage(**{name: statistics.median(run[name] for run in runs) for name in runs[0]})


def time_catalog(overlay: Path) -> dict[str, float]:
    """Seconds that the project's own share of the parsing takes: imports, and the known plan."""
    command = [sys.executable, "-c", CATALOG, str(overlay), NAME]
    runs = []
    for _ in range(REPEATS):
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        runs.append([float(text) for text in result.stdout.split()])
    imports, catalog = (round(statistics.median(column), 4) for column in zip(*runs, strict=True))
    return {"import_seconds": imports, "catalog_and_plan_seconds": catalog}


def run_all(num_clips: int, chunk_size: int) -> dict[str, object]:
    """Plan the list, and parse with it planned."""
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        overlay = make_dataset(Path(name), num_clips, chunk_size)
        dry_run = [sys.executable, "-m", "snakemake", "-n", "--quiet", "--configfile"]
        dry_run += [str(overlay), "--"]
        one_chunk = f"{name}/results/{NAME}/download/train/00000.json"
        usage = {"first_all": measure(*dry_run, "all")}
        usage["again_all"] = measure(*dry_run, "all")
        usage["again_shards"] = measure(*dry_run, f"shards_{NAME}")
        usage["one_chunk"] = median(*dry_run, one_chunk)
        usage["import_snakemake"] = median(sys.executable, "-c", "import snakemake.cli")
        catalog = time_catalog(overlay)
        num_chunks = len(list(Path(name, "results", NAME, "plan").glob("*/*.csv")))
    parse_seconds = usage["one_chunk"].cpu_seconds - usage["import_snakemake"].cpu_seconds
    return {
        "num_clips": num_clips,
        "num_chunks_per_stage": num_chunks,
        "commands": {name: asdict(used) for name, used in usage.items()},
        **catalog,
        "parse_seconds": round(parse_seconds, 2),
        "goals": GOALS,
    }


def describe_machine() -> dict[str, object]:
    """What the seconds depend on."""
    return {
        "num_cores": os.cpu_count(),
        "load_average_before": [round(value, 2) for value in os.getloadavg()],
        "python": platform.python_version(),
        "git_commit": git_commit(),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=2_000_000, help="rows of the list")
    parser.add_argument("--chunk-size", type=int, default=1000, help="plan.chunk_size")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="JSON file")
    options = parser.parse_args(arguments)
    machine = describe_machine()
    found = run_all(options.clips, options.chunk_size)
    write_json(options.output, {**machine, **found})
    print(f"{'command':18} {'seconds':>8} {'CPU s':>8} {'MB':>8}")
    for name, used in found["commands"].items():  # type: ignore[attr-defined]
        print(f"{name:18} {used['seconds']:8} {used['cpu_seconds']:8} {used['max_megabytes']:8}")
    print(f"parsing once planned: {found['parse_seconds']} s of CPU beyond importing Snakemake")


if __name__ == "__main__":
    main()
