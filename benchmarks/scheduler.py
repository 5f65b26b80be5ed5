"""What the Slurm path costs: the tiny run on a three-node Slurm of this machine and without it.

python benchmarks/scheduler.py [--output benchmarks/results/scheduler.json]

The work is the same and takes seconds, so the difference is submission, queue, polling and one more
start of Python and torch per job. Needs slurm-wlm and munge.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pipeline_src.runs.provenance import git_commit, machine  # noqa: E402
from pipeline_src.system.atomic import write_json  # noqa: E402
from tests.slurm.cluster import Cluster  # noqa: E402
from tests.workspace import Workspace  # noqa: E402

TINY = ("--workflow-profile", "test", "all")
SLURM = ("--profile", "slurm", "--configfile", "config/test/tiny.yaml")
ONE_CORE = ("--set-resources", "pretrain_model:cpus_per_task=1", "finetune_model:cpus_per_task=1")
NUM_CLUSTER_JOBS = 4 * 4 + 2 + 2  # chunks of four stages, two evaluations, two trainings


def timed(workspace: Workspace, *arguments: str) -> float:
    """Wall seconds of one snakemake call."""
    started = time.monotonic()
    workspace.snakemake(*arguments)
    return time.monotonic() - started


def measure(folder: Path) -> dict[str, object]:
    """Build the tiny run both ways, each in a fresh copy."""
    for name in ("local", "slurm"):
        (folder / name).mkdir()
    cluster = Cluster(folder / "cluster")
    cluster.start()
    try:
        local = timed(Workspace.make(folder / "local", dict(os.environ)), *TINY)
        env = {**os.environ, **cluster.env}
        slurm = timed(Workspace.make(folder / "slurm", env), *SLURM, *ONE_CORE, "--", "all")
    finally:
        cluster.stop()
    return {
        "local_seconds": round(local, 1),
        "slurm_seconds": round(slurm, 1),
        "overhead_seconds": round(slurm - local, 1),
        "num_cluster_jobs": NUM_CLUSTER_JOBS,
        "load_average_before": os.getloadavg()[0],
        "git_commit": git_commit(),
        "machine": machine(),
    }


def main() -> None:
    """Measure and write the record."""
    parser = argparse.ArgumentParser(description="What the Slurm path costs.")
    default = ROOT / "benchmarks/results/scheduler.json"
    parser.add_argument("--output", type=Path, default=default)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scheduler-", dir="/tmp") as folder:
        record = measure(Path(folder))
    write_json(arguments.output, record)
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
