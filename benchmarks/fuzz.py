"""Damage the free clips of tests/assets in a thousand ways and transcode each.

Every input must end as ok, with what is shown and heard at its true time, or as a row with a
reason: no exception, no time-out passed, no process left, memory bounded. Inputs follow from their
seeds. Writes benchmarks/results/fuzz.json; ``--first`` and ``--count`` do a part and add to it.
"""

import argparse
import csv
import json
import logging
import os
import random
import resource
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.damage import Damaged, damage  # noqa: E402
from benchmarks.preprocess import describe_machine  # noqa: E402
from benchmarks.truth import Recording, read_picture, wrong_picture, wrong_sound  # noqa: E402
from pipeline_src.config.data import DownloadConfig, MediaConfig, RateLimitConfig  # noqa: E402
from pipeline_src.datasets.chunk_plan import PLAN_COLUMNS  # noqa: E402
from pipeline_src.download.chunk import download_chunk  # noqa: E402
from pipeline_src.download.source_choices import ClipSources  # noqa: E402
from pipeline_src.manifest.chunks import ChunkId, read_chunk  # noqa: E402
from pipeline_src.manifest.ledger import read_ledger  # noqa: E402
from pipeline_src.manifest.tars import read_samples  # noqa: E402
from pipeline_src.system.atomic import write_json  # noqa: E402
from pipeline_src.transcode.audio import read_flac, to_float  # noqa: E402
from pipeline_src.transcode.ffmpeg import find_ffmpeg  # noqa: E402
from pipeline_src.transcode.transcode import transcode_chunk  # noqa: E402

ASSETS = ROOT / "tests" / "assets"
RECORDINGS = (
    "frog_audio_ends_2s.mp4",
    "frog_hevc_opus.mkv",
    "frog_theora_vorbis.ogv",
    "frog_vfr.mp4",
)
RESULT = ROOT / "benchmarks" / "results" / "fuzz.json"
BATCH_SIZE = 20
# Uneven frames of a recording are shown for up to a third of a second.
SLACK_SECONDS = 0.15
KEY_SLACK_SECONDS = 0.3
SHORT_SECONDS = 0.1
HOLES = {"gaps", "decode_errors"}
# Of a file that lost its beginning all times count from what is left.
BEGIN_LOST = {"short", "gaps"}
OFFSET_STEP_SECONDS = 0.05
MAX_PROCESS_BYTES = 600_000_000


@dataclass(frozen=True)
class Input:
    """One damaged file and the clip that is cut from it, the whole file where there is no end."""

    seed: int
    recording: str
    damaged: Damaged
    start_seconds: float | None
    end_seconds: float | None

    @property
    def name(self) -> str:
        """Clip id, and file."""
        return f"{self.seed:06d}.bin"


@dataclass
class Outcome:
    """Outcomes of some inputs; ``faults`` are what must not be."""

    num_inputs: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    ends_by_rule: dict[str, Counter[str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    max_process_bytes: int = 0

    def add(self, item: Input, end: str, flags: Sequence[str], fault: str) -> None:
        """Add one input that ended as ``end``: ok, or a reason."""
        self.num_inputs += 1
        self.ends[end] += 1
        self.flags.update(flags)
        for rule in item.damaged.rules:
            self.ends_by_rule.setdefault(rule, Counter())[end] += 1
        if fault:
            rules = "+".join(item.damaged.rules)
            self.faults.append(f"seed {item.seed}, {item.recording}, {rules}: {fault}")


def make_input(seed: int) -> Input:
    """The input of a seed: half of the clips are whole files."""
    rng = random.Random(-seed - 1)
    name = rng.choice(RECORDINGS)
    start = end = None
    if rng.random() < 0.5:
        start = round(rng.uniform(0, 4), 3)
        end = round(start + rng.uniform(0.5, 3), 3)
    return Input(seed, name, damage(ASSETS / name, seed), start, end)


def media_of(batch: int) -> MediaConfig:
    """Settings by turns."""
    return MediaConfig(
        num_frames=8,
        frame_size=64,
        timeout_seconds=20,
        decode_errors=("reject", "tolerate")[batch % 2],
        frame_times=("exact", "keyframe")[batch // 2 % 2],
        clips_per_process=8,
    )


def run_batch(items: Sequence[Input], media: MediaConfig, folder: Path, outcome: Outcome) -> None:
    """Fetch and transcode some inputs as a chunk, and judge every clip."""
    for item in items:
        (folder / item.name).write_bytes(item.damaged.data)
    try:
        manifest_path = _transcode(items, media, folder)
    except Exception as error:
        if len(items) == 1:
            outcome.add(items[0], "exception", (), f"{type(error).__name__}: {error}")
            return
        for item in items:
            shutil.rmtree(folder / "results", ignore_errors=True)
            run_batch([item], media, folder, outcome)
        return
    rows = {row.clip_id: row for row in read_ledger(manifest_path.with_suffix(".ledger.csv"))}
    clips = {clip["clip_id"]: clip for clip in read_chunk(manifest_path, "transcode").clips}
    samples = dict(read_samples(manifest_path.with_suffix(".tar")))
    for item in items:
        row, clip = rows[item.name], clips.get(item.name)
        fault = "time-out" if row.reason == "timeout" else ""
        if clip is not None:
            fault = judge(item, clip, samples[clip["key"]], media)
        outcome.add(item, row.reason or "ok", clip["flags"] if clip else (), fault)


def judge(item: Input, clip: dict[str, Any], members: dict[str, bytes], media: MediaConfig) -> str:
    """What is wrong with a clip; empty if nothing is.

    Where flags say that something is missing at the end and within, it may be the beginning, and
    sound and picture are early by the same time, up to what is missing.
    """
    fault = judge_at(0.0, item, clip, members, media)
    if not fault or not set(clip["flags"]) >= BEGIN_LOST:
        return fault
    offsets = np.arange(OFFSET_STEP_SECONDS, clip["short_seconds"], OFFSET_STEP_SECONDS)
    later = (judge_at(float(offset), item, clip, members, media) for offset in offsets)
    return "" if "" in later else fault


def judge_at(
    lost_seconds: float,
    item: Input,
    clip: dict[str, Any],
    members: dict[str, bytes],
    media: MediaConfig,
) -> str:
    """What is wrong with a clip of a file that lost so much of its beginning; empty if nothing."""
    recording, start = recording_of(item.recording), clip["start_seconds"]
    samples = to_float(read_flac(members["flac"]))
    if item.end_seconds is not None and "short" not in clip["flags"]:
        missing = item.end_seconds - start - len(samples) / media.sample_rate_hz
        if missing > SHORT_SECONDS + 0.01:
            return f"{missing:.2f} s of sound are missing without a flag"
    heard = start + lost_seconds - item.damaged.audio_shift_seconds
    if fault := wrong_sound(samples, recording, heard):
        return fault
    if clip.get("num_repeated_frames"):  # said of pictures beyond the end of the video
        return ""
    # The flags say that pictures may be missing: the one before stands for them.
    may_be_earlier = "drop_packets" in item.damaged.rules or bool(HOLES & set(clip["flags"]))
    slack = SLACK_SECONDS if media.frame_times == "exact" else KEY_SLACK_SECONDS
    names = sorted(name for name in members if name.startswith("frame_"))
    for name, seconds in zip(names, clip["frame_seconds"], strict=True):
        shown = start + lost_seconds + seconds - item.damaged.video_shift_seconds
        fault = wrong_picture(
            read_picture(members[name]),
            recording,
            shown,
            slack_seconds=slack,
            may_be_earlier=may_be_earlier,
        )
        if fault and shown < recording.seconds_T[-1]:
            return fault
    return ""


@cache
def recording_of(name: str) -> Recording:
    """The undamaged recording."""
    return Recording.read(ASSETS / name)


def _transcode(items: Sequence[Input], media: MediaConfig, folder: Path) -> Path:
    plan = folder / "results" / "plan.csv"
    plan.parent.mkdir()
    with plan.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(PLAN_COLUMNS)
        for line, item in enumerate(items, start=2):
            writer.writerow([item.name, item.name, item.start_seconds, item.end_seconds, 0, line])
    download, transcode = (plan.with_name(f"{stage}.json") for stage in ("download", "transcode"))
    download_chunk(
        chunk_csv=plan,
        id=ChunkId("fuzz", "train", "00000"),
        sources=ClipSources(folder),
        raw_folder=folder / "results" / "raw",
        limits_folder=folder / "results" / ".hosts",
        manifest_path=download,
        ledger_path=download.with_suffix(".ledger.csv"),
        config=DownloadConfig(),
        rate_limits=RateLimitConfig(),
        ffmpeg=find_ffmpeg(),
        version=1,
    )
    transcode_chunk(
        download_manifest=download,
        manifest_path=transcode,
        ledger_path=transcode.with_suffix(".ledger.csv"),
        media=media,
        num_workers=1,
        version=1,
    )
    return transcode


def run(seeds: range, batch_size: int = BATCH_SIZE) -> Outcome:
    """Transcode the inputs of ``seeds`` and judge them."""
    outcome = Outcome()
    before, bytes_before = set(_children()), _largest_child_bytes()
    for number, first in enumerate(seeds[::batch_size]):
        batch = [make_input(seed) for seed in seeds if first <= seed < first + batch_size]
        with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
            run_batch(batch, media_of(first // batch_size), Path(name), outcome)
        print(f"{number * batch_size + len(batch)}: {dict(outcome.ends)}", file=sys.stderr)
    left = set(_children()) - before
    if left:
        outcome.faults.append(f"{len(left)} processes are left")
    outcome.max_process_bytes = _largest_child_bytes()
    # A child counts as large as this process until it is ffmpeg.
    own_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if outcome.max_process_bytes > max(own_bytes, bytes_before, MAX_PROCESS_BYTES):
        outcome.faults.append(f"a process took {outcome.max_process_bytes} bytes")
    return outcome


def _largest_child_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def _children() -> Iterator[int]:
    """Processes whose parent is this one."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            yield int(status.parent.name)


def merge(known: dict[str, Any], outcome: Outcome) -> dict[str, Any]:
    """The figures of an earlier part with those of ``outcome``."""
    rules = sorted({*known.get("ends_by_rule", {}), *outcome.ends_by_rule})
    by_rule = known.get("ends_by_rule", {})
    return {
        "num_inputs": known.get("num_inputs", 0) + outcome.num_inputs,
        "ends": _add(known.get("ends", {}), outcome.ends),
        "flags": _add(known.get("flags", {}), outcome.flags),
        "ends_by_rule": {
            rule: _add(by_rule.get(rule, {}), outcome.ends_by_rule.get(rule, Counter()))
            for rule in rules
        },
        "faults": [*known.get("faults", []), *outcome.faults],
        "max_process_bytes": max(known.get("max_process_bytes", 0), outcome.max_process_bytes),
    }


def _add(known: dict[str, int], counts: Counter[str]) -> dict[str, int]:
    return dict((Counter(known) + counts).most_common())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--first", type=int, default=0, help="first seed; 0 begins the record anew")
    add("--count", type=int, default=1000, help="inputs")
    add("--results", type=Path, default=RESULT, help="the record")
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    known: dict[str, Any] = {}
    if arguments.first and arguments.results.exists():
        known = json.loads(arguments.results.read_text())["figures"]
    outcome = run(range(arguments.first, arguments.first + arguments.count))
    figures = merge(known, outcome)
    write_json(arguments.results, {**describe_machine(), "figures": figures})
    print(json.dumps(figures, indent=1))
    if figures["faults"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
