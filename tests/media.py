"""Synthetic clips with a known answer, and short ways to run the data stages.

Frame n of a clip is a flat grey of level 16 + LEVEL_STEP * n; the sound is a tone in a given span.
"""

import csv
import io
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline_src.config.data import (
    AudioConfig,
    DownloadConfig,
    MediaConfig,
    RateLimitConfig,
    ShardsConfig,
)
from pipeline_src.datasets.chunk_plan import PLAN_COLUMNS
from pipeline_src.download.chunk import download_chunk
from pipeline_src.download.source_choices import ClipSources
from pipeline_src.logmel.chunk import extract_chunk
from pipeline_src.manifest.chunks import ChunkId, ChunkManifest, Clip, read_chunk
from pipeline_src.manifest.ledger import LedgerRow, read_ledger
from pipeline_src.manifest.rows import FetchRow
from pipeline_src.manifest.tars import read_samples
from pipeline_src.shards.index import write_index
from pipeline_src.shards.write import pack_chunk
from pipeline_src.system.url_secrets import hide_secrets
from pipeline_src.transcode.ffmpeg import find_ffmpeg
from pipeline_src.transcode.transcode import transcode_chunk

LEVEL_STEP = 8
CODECS = ("-c:v", "mpeg4", "-q:v", "1", "-c:a", "aac", "-movflags", "+faststart")
QUICK = RateLimitConfig(
    requests_per_second=0, backoff_seconds=0.01, pause_seconds=0.1, max_pause_seconds=0.4
)
SMALL = MediaConfig(num_frames=4, frame_size=32)


def make_clip(
    path: Path,
    *,
    seconds: float = 1.0,
    fps: int = 10,
    tone: tuple[float, float] | None = (0.0, 100.0),
    video_seconds: float | None = None,
    has_video: bool = True,
    is_static: bool = False,
    sample_rate_hz: int = 16000,
    size: str = "64x48",
    options: Sequence[str] = CODECS,
) -> Path:
    """Write a clip with ffmpeg.

    Args:
        tone: span of the 1 kHz tone in seconds; None = no audio stream.
        video_seconds: where the video ends; None = with the audio.
        options: of the output: codecs, filters, container.
    """
    level = "128" if is_static else f"16+{LEVEL_STEP}*N"
    video = f"color=s={size}:r={fps}:d={video_seconds or seconds},geq=lum='{level}':cb=128:cr=128"
    arguments: list[str] = []
    if has_video:
        arguments += ["-f", "lavfi", "-i", video]
    if tone is not None:
        sound = f"0.5*sin(2*PI*1000*t)*between(t,{tone[0]},{tone[1]})"
        arguments += ["-f", "lavfi", "-i", f"aevalsrc='{sound}':s={sample_rate_hz}:d={seconds}"]
    return run_ffmpeg(*arguments, *options, output=path)


def run_ffmpeg(*arguments: str, output: Path) -> Path:
    """Write a file with ffmpeg."""
    command = [find_ffmpeg(), "-y", "-loglevel", "error", *arguments, f"file:{output}"]
    subprocess.run(command, check=True, timeout=300, stdin=subprocess.DEVNULL)
    return output


def make_broken_clips(folder: Path) -> dict[str, str]:
    """Write one bad file of each kind; return name -> the reason it must be given up for."""
    whole = make_clip(folder / "whole.mp4", seconds=3).read_bytes()
    (folder / "truncated.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    (folder / "text.mp4").write_text("this is no video\n" * 20)
    (folder / "empty.mp4").write_bytes(b"")
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nwhole.mp4\n#EXT-X-ENDLIST\n"
    (folder / "playlist.mp4").write_text(playlist)
    make_clip(folder / "mute.mp4", tone=None)
    make_clip(folder / "blind.mp4", has_video=False)
    make_clip(folder / "blink.mp4", seconds=0.1)
    return {
        "truncated.mp4": "corrupt",
        "text.mp4": "corrupt",
        "empty.mp4": "corrupt",
        "playlist.mp4": "corrupt",
        "mute.mp4": "no_audio",
        "blind.mp4": "no_video",
        "blink.mp4": "too_short",
        "nowhere.mp4": "unavailable",
    }


def write_plan_chunk(path: Path, clips: Sequence[Mapping[str, object]]) -> Path:
    """Write a plan chunk, without tokens; a clip needs ``source`` and may give other columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, PLAN_COLUMNS)
        writer.writeheader()
        for line, clip in enumerate(clips, start=2):
            defaults = {"clip_id": clip["source"], "labels": "0", "line": line}
            source = hide_secrets(str(clip["source"]))
            writer.writerow({**defaults, **clip, "source": source})
    return path


def write_clip_list(path: Path, clips: Sequence[Mapping[str, object]]) -> Path:
    """Write the list that ``write_plan_chunk``'s clips stand in, which alone holds tokens."""
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("clip_id", "source", "start_seconds", "end_seconds", "labels", "split"))
        for clip in clips:
            name = clip.get("clip_id", clip["source"])
            writer.writerow((name, clip["source"], "", "", "a", "train"))
    return path


def download(
    folder: Path,
    clips: Sequence[Mapping[str, object]],
    config: DownloadConfig | None = None,
    network: RateLimitConfig = QUICK,
    split: str = "train",
    **places: str | bool,
) -> Path:
    """Run the download stage on clips below ``folder``; return the manifest."""
    manifest_path = folder / "results" / "download" / "00000.json"
    if any(hide_secrets(str(clip["source"])) != clip["source"] for clip in clips):
        places.setdefault("clip_list", str(folder / "listed.csv"))
        write_clip_list(folder / "listed.csv", clips)
    download_chunk(
        chunk_csv=write_plan_chunk(folder / "results" / "plan" / "00000.csv", clips),
        id=ChunkId("toy", split, "00000"),
        sources=ClipSources(folder, **places),
        raw_folder=folder / "results" / "raw",
        limits_folder=folder / "results" / ".hosts",
        manifest_path=manifest_path,
        ledger_path=manifest_path.with_suffix(".ledger.csv"),
        config=config or DownloadConfig(max_attempts=2),
        rate_limits=network,
        ffmpeg=find_ffmpeg(),
        version=1,
    )
    return manifest_path


def transcode(download_manifest: Path, media: MediaConfig = SMALL, name: str = "transcode") -> Path:
    """Run the transcode stage after ``download``; return the manifest."""
    manifest_path = download_manifest.parent.parent / name / "00000.json"
    transcode_chunk(
        download_manifest=download_manifest,
        manifest_path=manifest_path,
        ledger_path=manifest_path.with_suffix(".ledger.csv"),
        media=media,
        num_workers=1,
        version=1,
    )
    return manifest_path


def transcode_one(
    folder: Path, config: MediaConfig = SMALL, **clip: object
) -> tuple[Clip, dict[str, bytes]]:
    """Download and transcode one clip that must be fine; return its entry and its members."""
    manifest_path = transcode(download(folder, [clip]), config)
    manifest, samples = read_transcoded(manifest_path)
    assert not manifest.dropped, read_ledger(manifest_path.with_suffix(".ledger.csv"))
    return manifest.clips[0], samples[manifest.clips[0]["key"]]


def lose_one(folder: Path, config: MediaConfig = SMALL, **clip: object) -> LedgerRow:
    """Download and transcode one clip that must fail in transcoding; return its row."""
    manifest_path = transcode(download(folder, [clip]), config)
    (row,) = read_ledger(manifest_path.with_suffix(".ledger.csv"))
    assert row.status == "failed"
    return row


def read_transcoded(manifest_path: Path) -> tuple[ChunkManifest, dict[str, dict[str, bytes]]]:
    """The manifest, and the members of each clip by key."""
    samples = read_samples(manifest_path.with_suffix(".tar"))
    return read_chunk(manifest_path, "transcode"), dict(samples)


def frame_numbers(members: Mapping[str, bytes]) -> list[int]:
    """Which source frame each stored frame is, by its grey level."""
    frames = [members[name] for name in sorted(members) if name.startswith("frame_")]
    levels = [np.asarray(Image.open(io.BytesIO(frame)).convert("L")).mean() for frame in frames]
    # JPEG is full range, the source is not.
    return [round((level * 219 / 255) / LEVEL_STEP) for level in levels]


def rows_of(path: Path) -> dict[str, FetchRow]:
    """Ledger rows of a fetched chunk by clip id."""
    rows = read_ledger(path.with_suffix(".ledger.csv"), FetchRow)
    return {row.clip_id: row for row in rows}


def clips_of(path: Path) -> dict[str, bytes]:
    """Contents of a fetched chunk by clip id."""
    clips = read_chunk(path, "download").clips
    return {clip["clip_id"]: (path.parent / clip["path"]).read_bytes() for clip in clips}


def download_one(folder, source, config=None, **more):
    """Fetch one source; return its ledger row and content."""
    path = download(folder, [{"clip_id": "a", "source": source}], config, **more)
    return rows_of(path)["a"], clips_of(path).get("a")


def make_shards(
    folder: Path,
    clips: Sequence[Mapping[str, object]],
    audio: AudioConfig,
    num_classes: int = 4,
    media: MediaConfig = SMALL,
    split: str = "train",
) -> Path:
    """Run every data stage on clips below ``folder``; return the index of the one split."""
    transcode_path = transcode(download(folder, clips), media)
    logmel_path = folder / "results" / "logmel" / "00000.json"
    extract_chunk(
        transcode_manifest=transcode_path,
        manifest_path=logmel_path,
        ledger_path=logmel_path.with_suffix(".ledger.csv"),
        audio=audio,
        sample_rate_hz=media.sample_rate_hz,
        num_workers=1,
        version=1,
    )
    rows = [f"{n},class{n},Class {n}" for n in range(num_classes)]
    (folder / "classes.csv").write_text("\n".join(["index,id,display_name", *rows]) + "\n")
    lines = ["name: toy", "task: multilabel", "clip_list: toy.csv", "class_names: classes.csv"]
    if not media.has_frames:
        lines.append("modalities: [audio]")
    (folder / "toy.yaml").write_text("\n".join(lines))
    return pack_shards(folder, audio, media=media, split=split)


def pack_shards(
    folder: Path,
    audio: AudioConfig,
    name: str = "shards",
    media: MediaConfig = SMALL,
    split: str = "train",
    **shards: bool,
) -> Path:
    """Pack what ``make_shards`` has extracted, with other ``ShardsConfig``; return the index."""
    manifest_path = folder / "results" / name / "00000.json"
    pack_chunk(
        logmel_manifest=folder / "results" / "logmel" / "00000.json",
        transcode_manifest=folder / "results" / "transcode" / "00000.json",
        manifest_path=manifest_path,
        ledger_path=manifest_path.with_suffix(".ledger.csv"),
        shard_path=manifest_path.parent / f"{split}-00000.tar",
        shards=ShardsConfig(**shards),
        version=1,
    )
    path = manifest_path.parent / "index.json"
    write_index(
        shard_manifests=[manifest_path],
        train_manifests=[manifest_path],
        earlier_manifests=[],
        index_path=path,
        dataset_path=folder / "toy.yaml",
        exclude_duplicates=False,
        split=split,
        max_failed_fraction=0.5,
        audio=audio,
        media=media,
        version=1,
    )
    return path


def copy_apart(clip: Path, path: Path) -> Path:
    """Copy an MP4 as a file of its own bytes: a box that players skip holds the new path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = os.fsencode(path)
    path.write_bytes(clip.read_bytes() + (8 + len(mark)).to_bytes(4, "big") + b"free" + mark)
    return path
