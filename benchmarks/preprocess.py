"""Time the way from raw clips to packed shards, in two parts.

On a busy machine CPU seconds tell more than wall seconds.

``demo``, the demo archive (3,000 one-second clips): runs the functions that the workflow's rules
call, chunk by chunk in two processes of one thread, as ``snakemake --cores 2`` does, and beside it
``ffmpeg -i clip -f null -``, one process per clip: what merely decoding costs without batching.
Writes benchmarks/results/preprocess.json.

``clips``, transcoding of ten-second clips beside decoding and the usual scripts' way, see
``clip_costs.py``. Writes benchmarks/results/preprocess_clips.json.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.costs import Cost, timed  # noqa: E402
from pipeline_src import versions  # noqa: E402
from pipeline_src.config import default_config  # noqa: E402
from pipeline_src.datasets.chunk_plan import ensure_plan  # noqa: E402
from pipeline_src.datasets.dataset import load_dataset  # noqa: E402
from pipeline_src.manifest.chunks import ChunkId, read_chunk  # noqa: E402
from pipeline_src.runs.provenance import git_commit  # noqa: E402
from pipeline_src.shards.index import write_index  # noqa: E402
from pipeline_src.system.atomic import write_json  # noqa: E402
from pipeline_src.transcode.ffmpeg import find_ffmpeg  # noqa: E402

# Stages import inside their functions: each process pays for what its rule imports, and no more.
DATASET = ROOT / "config" / "datasets" / "avdigits.yaml"
RESULTS = ROOT / "benchmarks" / "results"
FREE_CLIPS = ROOT / "tests" / "assets"
SETTINGS = default_config()
GOAL_SECONDS = 90.0


@dataclass(frozen=True)
class Chunk:
    """One unit of work below ``folder``."""

    folder: Path
    split: str
    number: str

    def path(self, stage: str, suffix: str = ".json") -> Path:
        """A stage's file of this chunk."""
        return self.folder / stage / self.split / f"{self.number}{suffix}"

    def outputs(self, stage: str) -> dict[str, Path]:
        """Manifest and ledger, as every stage takes them."""
        return {
            "manifest_path": self.path(stage),
            "ledger_path": self.path(stage, ".ledger.csv"),
        }


def download(chunk: Chunk) -> None:
    from pipeline_src.download.chunk import download_chunk
    from pipeline_src.download.source_choices import ClipSources

    download_chunk(
        chunk_csv=chunk.path("plan", ".csv"),
        id=ChunkId("avdigits", chunk.split, chunk.number),
        sources=ClipSources(load_dataset(DATASET).root),
        raw_folder=chunk.path("raw", ""),
        limits_folder=chunk.folder / ".hosts",
        config=SETTINGS.download,
        rate_limits=SETTINGS.rate_limits,
        ffmpeg=find_ffmpeg(),
        version=versions.DOWNLOAD,
        **chunk.outputs("download"),
    )


def transcode(chunk: Chunk) -> None:
    from pipeline_src.transcode.transcode import transcode_chunk

    transcode_chunk(
        download_manifest=chunk.path("download"),
        media=SETTINGS.media,
        num_workers=1,
        version=versions.TRANSCODE,
        **chunk.outputs("transcode"),
    )


def logmel(chunk: Chunk) -> None:
    from pipeline_src.logmel.chunk import extract_chunk

    extract_chunk(
        transcode_manifest=chunk.path("transcode"),
        audio=SETTINGS.audio,
        sample_rate_hz=SETTINGS.media.sample_rate_hz,
        num_workers=1,
        version=versions.LOGMEL,
        **chunk.outputs("logmel"),
    )


def pack(chunk: Chunk) -> None:
    from pipeline_src.shards.write import pack_chunk

    pack_chunk(
        logmel_manifest=chunk.path("logmel"),
        transcode_manifest=chunk.path("transcode"),
        shard_path=chunk.path("shards").with_name(f"{chunk.split}-{chunk.number}.tar"),
        shards=SETTINGS.shards,
        version=versions.PACK,
        **chunk.outputs("shards"),
    )


def write_indexes(folder: Path, chunks: Sequence[Chunk]) -> None:
    train = [chunk.path("shards") for chunk in chunks if chunk.split == "train"]
    for split in sorted({chunk.split for chunk in chunks}):
        write_index(
            shard_manifests=[chunk.path("shards") for chunk in chunks if chunk.split == split],
            train_manifests=train,
            earlier_manifests=[],
            exclude_duplicates=False,
            index_path=folder / "shards" / split / "index.json",
            dataset_path=DATASET,
            split=split,
            max_failed_fraction=0.0,
            audio=SETTINGS.audio,
            media=SETTINGS.media,
            version=versions.PACK,
        )


def decode_only(paths: Sequence[Path], num_workers: int) -> None:
    """One ffmpeg process per clip, nothing written."""

    def decode(path: Path) -> None:
        command = [
            find_ffmpeg(),
            "-nostdin",
            "-loglevel",
            "error",
            "-threads",
            "1",
            "-i",
            str(path),
        ]
        subprocess.run([*command, "-f", "null", "-"], check=True, timeout=60)

    with ThreadPoolExecutor(num_workers) as pool:
        list(pool.map(decode, paths))


def run(folder: Path, num_workers: int) -> tuple[dict[str, Cost], int]:
    """Cost of each stage, and the number of clips packed."""
    plan = ensure_plan(
        load_dataset(DATASET),
        chunk_size=SETTINGS.plan.chunk_size,
        max_seconds=SETTINGS.media.max_seconds,
        folder=folder / "plan",
    )
    chunks = [Chunk(folder, split, f"{n:05d}") for split in plan for n in range(plan[split])]
    costs = {
        stage.__name__: timed(lambda stage=stage: run_stage(stage, chunks, num_workers))
        for stage in (download, transcode, logmel, pack)
    }
    costs["index"] = timed(lambda: write_indexes(folder, chunks))
    packed = sum(len(read_chunk(chunk.path("shards"), "pack").clips) for chunk in chunks)
    raw = sorted((folder / "raw").glob("*/*/*.mp4"))
    costs["decode_only"] = timed(lambda: decode_only(raw, num_workers))
    return costs, packed


def run_stage(stage: Callable[[Chunk], None], chunks: Sequence[Chunk], num_workers: int) -> None:
    """A fresh process per chunk, as the workflow starts one: imports are part of the time."""
    with ProcessPoolExecutor(
        num_workers, mp_context=get_context("spawn"), max_tasks_per_child=1
    ) as pool:
        list(pool.map(stage, chunks))


def describe_machine() -> dict[str, object]:
    """What the figures depend on; the load tells whether others were at work."""
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text().splitlines() if cpu_info.is_file() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), "")
    return {
        "cpu": model or platform.processor(),
        "num_cores": os.cpu_count(),
        "load_average_before": [round(load, 2) for load in os.getloadavg()],
        "note": "others may have been at work: see the load, trust CPU seconds",
        "python": platform.python_version(),
        "git_commit": git_commit(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--part", choices=("demo", "clips", "all"), default="all")
    add("--workers", type=int, default=2, help="processes at a time (demo)")
    add("--rounds", type=int, default=3, help="of each way (clips)")
    add("--free", type=Path, default=FREE_CLIPS, help="folder of further clips (clips)")
    add("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    arguments = parser.parse_args()
    machine = describe_machine()
    with tempfile.TemporaryDirectory(prefix="preprocess-") as name:
        folder = Path(name)
        if arguments.part != "clips":
            result = run_demo(folder, arguments.workers)
            write_json(arguments.results / "preprocess.json", {**machine, **result})
        if arguments.part != "demo":
            from benchmarks.clip_costs import measure, report

            result = measure(folder, arguments.free, arguments.rounds)
            report({**machine, **result}, arguments.results / "preprocess_clips.json")
    print(json.dumps(machine))


def run_demo(folder: Path, num_workers: int) -> dict[str, object]:
    """Time all stages, print a table and return the figures."""
    costs, num_clips = run(folder, num_workers)
    decode = costs.pop("decode_only")
    total = Cost(*(sum(column) for column in zip(*costs.values(), strict=True)))
    print(f"{'stage':12} {'wall s':>8} {'cpu s':>8} {'clips/s':>8}")
    for name, cost in [*costs.items(), ("total", total), ("decode only", decode)]:
        rate = num_clips / cost.seconds
        print(f"{name:12} {cost.seconds:8.1f} {cost.cpu_seconds:8.1f} {rate:8.0f}")
    print(f"goal: {GOAL_SECONDS:g} s in all; decode only: one ffmpeg process per clip")
    return {
        "num_workers": num_workers,
        "num_clips": num_clips,
        "seconds": {name: round(cost.seconds, 2) for name, cost in costs.items()},
        "cpu_seconds": {name: round(cost.cpu_seconds, 2) for name, cost in costs.items()},
        "total_seconds": round(total.seconds, 2),
        "total_cpu_seconds": round(total.cpu_seconds, 2),
        "goal_seconds": GOAL_SECONDS,
        "clips_per_second": round(num_clips / total.seconds, 1),
        "decode_only_seconds": round(decode.seconds, 2),
        "decode_only_cpu_seconds": round(decode.cpu_seconds, 2),
        "ratio_to_decode_only": round(total.seconds / decode.seconds, 2),
        "cpu_ratio_to_decode_only": round(total.cpu_seconds / decode.cpu_seconds, 2),
    }


if __name__ == "__main__":
    main()
