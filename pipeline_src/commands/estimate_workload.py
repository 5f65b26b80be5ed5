"""What processing a data set will take per stage: jobs, files, gigabytes and hours.

Bytes and hours follow from chunks of the data set that have been made already, else from the
recorded benchmark where its clips are as long. What nobody has measured stays unknown.
"""

import csv
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline_src.catalog.steps import CHUNK_STAGES
from pipeline_src.config import Config
from pipeline_src.manifest.chunks import ChunkManifest, read_chunk
from pipeline_src.shards.files import shard_files

BENCHMARK = Path("benchmarks/results/preprocess_clips.json")
# Manifest, ledger, log and timing of a job; Snakemake's two records; fetched.jsonl or the tar.
FILES_PER_JOB = 7
SAMPLED_CHUNKS = 20
LENGTH_TOLERANCE = 0.2
BYTES_PER_GB = 1e9
SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True)
class StageLoad:
    """One stage of a data set.

    Args:
        gigabytes: of its tars. hours: of one core, or of its jobs as they were run; None = unknown.
        basis: where the two come from.
    """

    stage: str
    num_jobs: int
    num_files: int
    gigabytes: float | None
    hours: float | None
    basis: str


@dataclass(frozen=True)
class Rates:
    """What one clip takes, where it is known."""

    bytes: float | None
    seconds: float | None
    basis: str


def workload(
    config: Config, name: str, clips_per_split: Mapping[str, int], seconds: float
) -> list[StageLoad]:
    """Estimate jobs, files, bytes and hours of every stage.

    Args:
        clips_per_split: by the clip list. seconds: mean length of a clip by the list, 0 = unknown.
    """
    size = config.plan.chunk_size
    num_jobs = sum(math.ceil(count / size) for count in clips_per_split.values())
    num_clips = sum(clips_per_split.values())
    loads = []
    for stage in CHUNK_STAGES:
        rates = _measured(Path(config.results), name, stage) or _recorded(stage, seconds)
        loads.append(
            StageLoad(
                stage,
                num_jobs,
                num_jobs * (FILES_PER_JOB + (stage == "download")),  # its plan
                None if rates.bytes is None else num_clips * rates.bytes / BYTES_PER_GB,
                None if rates.seconds is None else num_clips * rates.seconds / SECONDS_PER_HOUR,
                rates.basis,
            )
        )
    return loads


def _measured(results: Path, name: str, stage: str) -> Rates | None:
    """Average over the first chunks of this data set that a job has made and timed."""
    folder = results / "benchmarks" / CHUNK_STAGES[stage].rule / name
    num_clips: list[int] = []
    num_bytes: list[int] = []
    seconds: list[float] = []
    for timing in sorted(folder.glob("*/*.tsv"))[:SAMPLED_CHUNKS]:
        path = results / name / stage / timing.relative_to(folder).with_suffix(".json")
        if path.is_file():
            manifest = read_chunk(path, CHUNK_STAGES[stage].recorded_name)
            num_clips.append(manifest.num_in)
            num_bytes.append(tar_bytes(manifest))
            seconds.append(_job_seconds(timing))
    if not num_clips:
        return None
    num_in = sum(num_clips)
    size = None if stage == "download" else sum(num_bytes) / num_in
    return Rates(size, sum(seconds) / num_in, f"jobs of {len(num_clips)} chunks")


def tar_bytes(manifest: ChunkManifest) -> int:
    """Count the bytes of the tar, or of all shards, that a manifest names."""
    if manifest.stage == "pack":
        return sum(shard.bytes for shard in shard_files(manifest))
    return manifest.tar.bytes if manifest.tar else 0


def _job_seconds(timing: Path) -> float:
    """Average a job's repeated timings."""
    with timing.open(newline="", encoding="utf-8") as stream:
        return statistics.fmean(float(row["s"]) for row in csv.DictReader(stream, delimiter="\t"))


def _recorded(stage: str, seconds: float) -> Rates:
    """Return CPU seconds and bytes of the benchmark, of clips of the same length only."""
    for record in _read_benchmark():
        if abs(record["clip_seconds"] - seconds) <= LENGTH_TOLERANCE * seconds:
            key, num_clips = CHUNK_STAGES[stage].recorded_name, record["num_clips"]
            if key in record["cpu_seconds"]:
                return Rates(
                    record["bytes"][key] / num_clips,
                    record["cpu_seconds"][key] / num_clips,
                    f"{num_clips} clips of {record['clip_seconds']:g} s, CPU",
                )
    return Rates(None, None, "unknown")


def _read_benchmark() -> Sequence[Mapping]:
    """Return the sets of clips that were timed, with their seconds and bytes by stage."""
    if not BENCHMARK.is_file():
        return []
    return json.loads(BENCHMARK.read_text(encoding="utf-8")).get("by_clip_seconds", [])


def describe_workload(loads: Sequence[StageLoad], num_raw: int) -> Iterable[str]:
    """Yield the table.

    Args:
        num_raw: raw files that are fetched.
    """
    yield f"{'stage':12} {'jobs':>8} {'files':>10} {'GB':>9} {'hours':>9}  measured on"
    for load in loads:
        num_files = load.num_files + (num_raw if load.stage == "download" else 0)
        size = "?" if load.gigabytes is None else f"{load.gigabytes:.1f}"
        hours = "?" if load.hours is None else f"{load.hours:.1f}"
        row = f"{load.stage:12} {load.num_jobs:8} {num_files:10} {size:>9} {hours:>9}"
        yield f"{row}  {load.basis}"
