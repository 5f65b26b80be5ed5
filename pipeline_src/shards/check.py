"""What is wrong with a shard: its bytes, its headers, and the members of chosen samples."""

import hashlib
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline_src.config.data import AudioConfig
from pipeline_src.errors import MediaError, SampleError, shown
from pipeline_src.logmel.fbank import num_window_samples
from pipeline_src.shards.files import ShardFile
from pipeline_src.shards.members import check_frame_size, load_array
from pipeline_src.shards.reader import Members, parse_members
from pipeline_src.shards.samples import Sample
from pipeline_src.transcode.audio import read_flac

BLOCK_BYTES = 1 << 20
REQUIRED = {"json", "logmel.npy"}
FRAME_PREFIX = "frame_"


@dataclass(frozen=True)
class ShardTask:
    """One shard to check.

    Args:
        manifest: to be deleted so that the shard is made again.
        samples: all of the shard in their order, duplicates too.
        decoded: clip ids of the samples whose members are decoded.
        index: index.json, which says what the members must be like.
    """

    path: Path
    manifest: Path
    shard: ShardFile
    samples: tuple[Sample, ...]
    decoded: frozenset[str]
    index: Mapping[str, Any]

    def defect(self, what: str, clip_id: str = "") -> str:
        """Describe a defect in one line: file, clip, and the next step."""
        clip = f"clip {clip_id}: " if clip_id else ""
        return f"{self.path}: {clip}{what}; delete {self.manifest} and run again"


def check_shard(task: ShardTask) -> list[str]:
    """Return every defect of a shard, a line each; one pass over its bytes."""
    if not task.path.is_file():
        return [task.defect("is missing")]
    size = task.path.stat().st_size
    if size != task.shard.bytes:
        return [task.defect(f"has {size} bytes instead of {task.shard.bytes}")]
    defects: list[str] = []
    digest = hashlib.sha256()
    with task.path.open("rb") as stream:
        position = 0
        for sample in task.samples:
            if sample.offset_bytes != position:
                gap = f"begins at {sample.offset_bytes}, the clip before it ends at {position}"
                defects.append(task.defect(gap, sample.clip_id))
                stream.seek(sample.offset_bytes)
            data = stream.read(sample.size_bytes)
            position = sample.offset_bytes + sample.size_bytes
            digest.update(data)
            defects += [task.defect(what, sample.clip_id) for what in _check(task, sample, data)]
        is_padding = True
        while block := stream.read(BLOCK_BYTES):
            digest.update(block)
            is_padding = is_padding and not any(block)
    if not is_padding:
        defects.append(task.defect("holds more than its manifest lists"))
    if digest.hexdigest() != task.shard.sha256 and not defects:
        defects.append(task.defect("has another sha256 than its manifest says"))
    return defects


def _check(task: ShardTask, sample: Sample, data: bytes) -> Iterator[str]:
    if zlib.crc32(data) != sample.crc32:
        yield "its bytes have changed (CRC-32)"
        return
    try:
        members = parse_members(sample, memoryview(data))
    except SampleError as error:
        yield str(error)
        return
    if missing := REQUIRED - members.keys():
        yield f"has no {' and no '.join(sorted(missing))}"
        return
    if sample.clip_id in task.decoded:
        yield from check_members(sample, members, task.index)


def check_members(sample: Sample, members: Members, index: Mapping[str, Any]) -> Iterator[str]:
    """Decode every member of a sample; yield what is wrong."""
    try:
        metadata = json.loads(bytes(members["json"]))
    except (ValueError, RecursionError) as error:
        yield f"json is not readable: {error}"
        return
    if not isinstance(metadata, dict):
        yield f"json holds {shown(metadata)}, not what is known of the clip"
        return
    expected = {"clip_id": sample.clip_id, "labels": list(sample.labels)}
    for key, value in expected.items():
        if metadata.get(key) != value:
            yield f"json has {key} {shown(metadata.get(key))}, its manifest {shown(value)}"
    if not all(0 <= label < len(index["class_names"]) for label in sample.labels):
        yield f"labels {list(sample.labels)} are not all below {len(index['class_names'])}"
    yield from _check_frames(members, metadata, index["frame_size"])
    yield from _check_sound(members, index)


def _check_frames(members: Members, metadata: Mapping[str, Any], side: int) -> Iterator[str]:
    names = sorted(name for name in members if name.startswith(FRAME_PREFIX))
    seconds = metadata.get("frame_seconds") or ()
    listed = len(seconds) if isinstance(seconds, list | tuple) else 0
    if len(names) != listed:
        yield f"{len(names)} frames, json has the times of {listed}"
    for name in names:
        try:
            check_frame_size(members[name], side)
            image = Image.open(io.BytesIO(members[name]))
            image.load()
        except (OSError, SyntaxError, ValueError) as error:
            yield f"{name} cannot be decoded: {error}"
            continue
        if min(image.size) != side:  # the longer one is free: media.frame_fit
            yield f"{name} is {image.size[0]} x {image.size[1]}, its shorter side not {side}"


def _check_sound(members: Members, index: Mapping[str, Any]) -> Iterator[str]:
    try:
        logmel = load_array(members["logmel.npy"])
    except ValueError as error:
        yield f"logmel.npy cannot be read: {error}"
        return
    num_bins = index["num_mel_bins"]
    if logmel.ndim != 2 or not len(logmel) or logmel.shape[1] != num_bins:
        yield f"logmel.npy has the shape {logmel.shape}, not (frames, {num_bins})"
    elif logmel.dtype != np.float16 or not np.isfinite(logmel).all():
        yield "logmel.npy holds values that are not finite float16"
    if "flac" not in members:
        return
    try:
        num_samples = len(read_flac(bytes(members["flac"])))
    except MediaError as error:
        yield f"flac cannot be decoded: {error}"
        return
    if not num_samples:
        yield "flac cannot be decoded: it holds no sound"
        return
    rate, audio = index["sample_rate_hz"], AudioConfig.model_validate(index["audio"])
    hop = int(rate * audio.hop_length_ms * 0.001)
    num_frames = 1 + (num_samples - num_window_samples(audio, rate)) // hop
    if logmel.ndim == 2 and num_frames != len(logmel):
        yield f"flac is as long as {num_frames} log-mel frames, logmel.npy has {len(logmel)}"
