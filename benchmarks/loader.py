"""Time the loader on packed clips of 10 s: 224x224 JPEG frames and a log-mel of 998 x 128.

Three ways through the same shards with the same number of processes, in alternating rounds:
``ours`` (``ClipDataset`` through ``training_batches``, whole batches arrive in the parent),
``bare`` (each process reads whole samples in the same order and decodes the same JPEG frames; no
log-mel, no batches, nothing leaves the process) and ``webdataset`` (its own pipeline: shuffled
shards, the same frames, log-mel padded, batches arrive in the parent). Normalisation, which is the
device's, is in none of them.

CPU seconds tell more than wall seconds on a busy machine. Prints a table and writes
benchmarks/results/loader.json. ``goal_ratio`` is for all frames of a clip, where decoding weighs
most; ``--frames`` chooses others.
"""

import argparse
import io
import itertools
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import default_collate
from torchvision.io import ImageReadMode, decode_jpeg
from webdataset.compat import WebDataset, WebLoader

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.costs import timed  # noqa: E402
from benchmarks.preprocess import describe_machine  # noqa: E402
from pipeline_src.config.phases import even_schedule  # noqa: E402
from pipeline_src.loader.batches import training_batches  # noqa: E402
from pipeline_src.loader.clip_format import ClipFormat, even_frames  # noqa: E402
from pipeline_src.loader.dataset import ClipDataset  # noqa: E402
from pipeline_src.loader.sampler import EpochSampler  # noqa: E402
from pipeline_src.logmel.chunk import npy_bytes  # noqa: E402
from pipeline_src.shards.samples import Sample  # noqa: E402
from pipeline_src.shards.shard_set import ShardSet  # noqa: E402
from pipeline_src.shards.tars import ShardWriter  # noqa: E402
from pipeline_src.system.atomic import write_json  # noqa: E402
from pipeline_src.train.memory import keep_freed_memory  # noqa: E402
from pipeline_src.transcode.ffmpeg import find_ffmpeg  # noqa: E402

OUTPUT = ROOT / "benchmarks" / "results" / "loader.json"
GOAL_RATIO = 0.85
NUM_STORED, IMG_SIZE, TARGET_LENGTH, NUM_MEL_BINS = 10, 224, 1024, 128
LOGMEL_FRAMES, FLAC_BYTES = 998, 180_000
BATCH_SIZE = 32
MEAN, STD = -5.0, 4.5


def make_frames(folder: Path, num_frames: int) -> list[bytes]:
    """JPEG files as transcoding writes them, of a picture with edges, gradients and some noise."""
    picture = f"mandelbrot=s={IMG_SIZE}x{IMG_SIZE}:rate=10,noise=alls=8:all_seed=1"
    command = [find_ffmpeg(), "-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", picture]
    command += ["-frames:v", str(num_frames), "-q:v", "2", str(folder / "%04d.jpg")]
    subprocess.run(command, check=True, timeout=120)
    return [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]


def make_shards(folder: Path, num_clips: int) -> ShardSet:
    """Shards of ``num_clips`` clips that share some hundred pictures."""
    rng = np.random.default_rng(0)
    frames = make_frames(folder, 200)
    samples: list[Sample] = []
    with ShardWriter(folder / "train-00000.tar", 100_000_000) as writer:
        for number in range(num_clips):
            chosen = [frames[(number * 7 + k) % len(frames)] for k in range(NUM_STORED)]
            logmel = rng.normal(MEAN, STD, (LOGMEL_FRAMES, NUM_MEL_BINS)).astype(np.float16)
            members = {f"frame_{k:02d}.jpg": jpeg for k, jpeg in enumerate(chosen)}
            members |= {"logmel.npy": npy_bytes(logmel), "flac": rng.bytes(FLAC_BYTES)}
            writer.write(f"clip{number:06d}", {"json": b"{}", **members})
    holders = (folder / one.file for one in writer.files for _ in range(one.num_samples))
    for number, (path, span) in enumerate(zip(holders, writer.spans, strict=True)):
        key = f"clip{number:06d}"
        place = (span.offset_bytes, span.size_bytes)
        samples.append(Sample(path, key, *place, (number % 10,), key, span.crc32))
    names = tuple(str(k) for k in range(10))
    return ShardSet(samples, "multiclass", names, NUM_MEL_BINS, MEAN, STD)


def clip_format(num_frames: int) -> ClipFormat:
    return ClipFormat(
        target_length=TARGET_LENGTH,
        img_size=IMG_SIZE,
        num_frames=num_frames,
        logmel_mean=MEAN,
        logmel_std=STD,
        training=True,
    )


def run_ours(shards: ShardSet, num_frames: int, num_steps: int, num_workers: int) -> int:
    sampler = _sampler(shards, num_steps)
    batches = training_batches(
        ClipDataset(shards, clip_format(num_frames)),
        sampler,
        first_step=0,
        last_step=num_steps,
        num_workers=num_workers,
    )
    return sum(len(batch["frames"]) for batch in batches)


def _sampler(shards: ShardSet, num_steps: int) -> EpochSampler:
    epochs = num_steps * BATCH_SIZE / len(shards)
    return EpochSampler(len(shards), even_schedule(len(shards), BATCH_SIZE, epochs), seed=0)


def _path(sample: Sample) -> Path:
    assert isinstance(sample.shard, Path)  # nothing here lies at a URL
    return sample.shard


class Read(NamedTuple):
    """One clip as the bare way reads it, and where the frames to decode lie in what it reads."""

    shard: Path
    offset_bytes: int
    size_bytes: int
    frames: tuple[tuple[int, int], ...]


def plan_reads(shards: ShardSet, num_frames: int, num_steps: int) -> list[list[Read]]:
    """The clips and frames that ``run_ours`` takes, step by step; not part of what is timed."""
    sampler, dataset = _sampler(shards, num_steps), ClipDataset(shards, clip_format(num_frames))
    members: dict[str, list[tuple[int, int]]] = {}
    for path in {_path(sample) for sample in shards.samples}:
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".jpg"):
                    place = (member.offset_data, member.size)
                    members.setdefault(member.name.partition(".")[0], []).append(place)
    steps = []
    for step in range(num_steps):
        reads = []
        for draw in sampler.batch(step):
            sample = shards.samples[draw.index]
            rng = np.random.default_rng((dataset.format.seed, draw.position))
            chosen = [members[sample.key][k] for k in dataset.format.spread(NUM_STORED, rng)]
            places = tuple((first - sample.offset_bytes, size) for first, size in chosen)
            reads.append(Read(_path(sample), sample.offset_bytes, sample.size_bytes, places))
        steps.append(reads)
    return steps


def run_bare(plan: Sequence[Sequence[Read]], num_workers: int) -> int:
    context = multiprocessing.get_context("fork")
    with context.Pool(num_workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return sum(pool.map(_read_and_decode, [plan[n::num_workers] for n in range(num_workers)]))


def _read_and_decode(steps: Sequence[Sequence[Read]]) -> int:
    files: dict[Path, int] = {}
    data = memoryview(bytearray(max(read.size_bytes for step in steps for read in step)))
    for read in (read for step in steps for read in step):
        if read.shard not in files:
            files[read.shard] = os.open(read.shard, os.O_RDONLY)
        os.preadv(files[read.shard], [data[: read.size_bytes]], read.offset_bytes)
        for first, size in read.frames:
            jpeg = torch.frombuffer(data, dtype=torch.uint8, count=size, offset=first)
            _decode(jpeg)
    return sum(map(len, steps))


def _decode(jpeg: torch.Tensor) -> torch.Tensor:
    image = decode_jpeg(jpeg, mode=ImageReadMode.RGB)
    assert isinstance(image, torch.Tensor)  # not a list: one file went in
    return image


def run_webdataset(shards: ShardSet, num_frames: int, num_steps: int, num_workers: int) -> int:
    def decode(sample: dict[str, Any]) -> dict[str, torch.Tensor]:
        names = sorted(name for name in sample if name.startswith("frame_"))
        chosen = [sample[names[k]] for k in even_frames(NUM_STORED, num_frames)]
        images = [_decode(torch.frombuffer(bytearray(one), dtype=torch.uint8)) for one in chosen]
        logmel = np.load(io.BytesIO(sample["logmel.npy"]))
        padded = np.pad(logmel, ((0, TARGET_LENGTH - len(logmel)), (0, 0)))
        return {"frames": torch.stack(images), "logmel": torch.from_numpy(padded)}

    urls = sorted({str(sample.shard) for sample in shards.samples})
    clips = WebDataset(urls, shardshuffle=len(urls), seed=0, repeat=True)
    clips = clips.shuffle(100).map(decode).batched(BATCH_SIZE, collation_fn=default_collate)
    loader = WebLoader(clips, batch_size=None, num_workers=num_workers)
    batches = itertools.islice(iter(loader), num_steps)
    return sum(len(batch["frames"]) for batch in batches)


def measure(shards: ShardSet, num_frames: int, options: argparse.Namespace) -> dict[str, Any]:
    """Rates of every way, as medians over rounds; each round runs all of them in turn."""
    num_steps, num_workers = options.steps, options.workers
    plan = plan_reads(shards, num_frames, num_steps)
    ways: dict[str, Callable[[], int]] = {
        "ours": lambda: run_ours(shards, num_frames, num_steps, num_workers),
        "bare": lambda: run_bare(plan, num_workers),
        "webdataset": lambda: run_webdataset(shards, num_frames, num_steps, num_workers),
    }
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, way in ways.items():
            counts: list[int] = []
            cost = timed(lambda way=way, counts=counts: counts.append(way()))
            rates[name].append((counts[0] / cost.seconds, counts[0] / cost.cpu_seconds))
    result: dict[str, Any] = {"num_frames": num_frames}
    for number, unit in enumerate(("clips_per_second", "clips_per_cpu_second")):
        medians = {name: statistics.median(r[number] for r in rates[name]) for name in ways}
        result[unit] = {name: round(value, 1) for name, value in medians.items()}
        ratios = [o[number] / b[number] for o, b in zip(rates["ours"], rates["bare"], strict=True)]
        result[f"{unit}_to_bare"] = round(statistics.median(ratios), 3)
        result[f"{unit}_to_bare_of_rounds"] = [round(ratio, 3) for ratio in ratios]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the loader.")
    add = parser.add_argument
    add("--workers", type=int, default=2, help="processes")
    add("--clips", type=int, default=400, help="clips in the shards")
    add("--steps", type=int, default=150, help=f"batches of {BATCH_SIZE} clips per round")
    add("--rounds", type=int, default=3, help="times that every way is run")
    add("--frames", type=int, nargs="*", default=[10, 1], help="frames of a clip")
    add("--output", type=Path, default=OUTPUT, help="JSON file to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as trainings do
    machine = describe_machine()
    folder = Path(tempfile.mkdtemp(prefix="loader-"))
    try:
        shards = make_shards(folder, options.clips)
        measured = [measure(shards, num_frames, options) for num_frames in options.frames]
    finally:
        shutil.rmtree(folder)
    kept = {"num_workers": options.workers, "batch_size": BATCH_SIZE, "rounds": options.rounds}
    result = {**machine, **kept, "goal_ratio": GOAL_RATIO, "measured": measured}
    write_json(options.output, result)
    print(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
