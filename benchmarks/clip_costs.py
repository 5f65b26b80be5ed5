"""What transcoding costs beside merely decoding, and beside the usual scripts' way.

Ways that are compared on the same clips, in CPU seconds of this process and all that it starts:

- decode: ``ffmpeg -i clip -map 0:v -f null -``, one process per clip;
- exact, keyframe: the transcode stage with that ``media.frame_times``, 224-pixel frames;
- usual: what training repositories do: one ffmpeg per clip for the sound, another for one channel
  of it (they use sox), ten seeks by OpenCV, each frame resized, cropped and saved by torchvision.
"""

import importlib.util
import random
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import torch
from PIL import Image
from torchvision import transforms
from torchvision.utils import save_image

from benchmarks.costs import timed
from pipeline_src import versions
from pipeline_src.commands.estimate_workload import tar_bytes
from pipeline_src.config.data import AudioConfig, MediaConfig, ShardsConfig
from pipeline_src.logmel.chunk import extract_chunk
from pipeline_src.manifest.chunks import ChunkId, ChunkManifest, clip_key, read_chunk, write_chunk
from pipeline_src.manifest.ledger import LedgerRow
from pipeline_src.shards.write import pack_chunk
from pipeline_src.system.atomic import write_json
from pipeline_src.transcode.ffmpeg import find_ffmpeg
from pipeline_src.transcode.transcode import transcode_chunk

CLIPS_PER_SIZE = 12
SECONDS = 10
GOP = 250
SIZES = ("256x144", "1280x720")
RATES = (25, 30)
NUM_FRAMES = 10
FRAME_SIZE = 224
GOALS = {"exact_to_decode": 1.3, "exact_to_keyframe": 5.0, "usual_to_exact": 2.5}
HAS_OPENCV = importlib.util.find_spec("cv2") is not None
SEEKS = "OpenCV" if HAS_OPENCV else "PyAV, because OpenCV (cv2) is not installed"


def make_clips(folder: Path) -> dict[str, list[Path]]:
    """Ten-second clips of moving, noisy pictures with noise and a tone, by size."""
    draw = random.Random(0)
    clips: dict[str, list[Path]] = {}
    for size in SIZES:
        clips[size] = []
        for number in range(CLIPS_PER_SIZE):
            rate, noise = RATES[number % 2], draw.randint(4, 10)
            start = round(draw.uniform(0, 3), 2)
            source = (
                f"testsrc2=s={size}:r={rate}",
                f"mandelbrot=s={size}:r={rate}:start_scale={start + 0.5}",
            )[number // 2 % 2]
            path = folder / f"{size}_{number:02d}.mp4"
            clips[size].append(make_clip(path, f"{source},noise=alls={noise}:allf=t", 300 + number))
    return clips


def make_clip(path: Path, video: str, tone_hz: int) -> Path:
    """H.264 with one key frame per ``GOP`` frames, AAC in stereo at 44.1 kHz."""
    sound = f"0.3*sin(2*PI*{tone_hz}*t)+0.1*random(0)|0.2*random(1)"
    inputs = ["-f", "lavfi", "-i", video, "-f", "lavfi", "-i", f"aevalsrc='{sound}':s=44100"]
    keys = ["-g", str(GOP), "-keyint_min", str(GOP), "-sc_threshold", "0"]
    codecs = ["-c:v", "libx264", "-preset", "veryfast", *keys, "-pix_fmt", "yuv420p", "-c:a", "aac"]
    run_ffmpeg(*inputs, "-t", str(SECONDS), *codecs, str(path))
    return path


def run_ffmpeg(*arguments: str) -> None:
    command = [find_ffmpeg(), "-nostdin", "-y", "-loglevel", "error", *arguments]
    subprocess.run(command, check=True, timeout=600)


def decode(clips: Sequence[Path]) -> None:
    for clip in clips:
        run_ffmpeg("-i", str(clip), "-map", "0:v", "-f", "null", "-")


def transcode(clips: Sequence[Path], **media: Any) -> list[str]:
    """Run the stage on one chunk of ``clips``; return the names of those that came through."""
    with tempfile.TemporaryDirectory(dir=clips[0].parent) as name:
        output = transcode_into(Path(name), list_clips(Path(name), clips), **media)
        return [clip["clip_id"] for clip in read_chunk(output, "transcode").clips]


def list_clips(folder: Path, clips: Sequence[Path]) -> Path:
    """The manifest that a download of ``clips`` would write."""
    entries = [
        {"clip_id": str(clip), "key": clip_key(str(clip)), "path": str(clip), "source": "",
         "sha256": "", "labels": [], "start_seconds": None, "end_seconds": None}
        for clip in clips
    ]  # fmt: skip
    chunk = ChunkId("benchmark", "train", "00000")
    manifest = ChunkManifest("download", chunk, 1, len(clips), None, {}, entries, [], "")
    rows = [LedgerRow(str(clip), "ok") for clip in clips]
    write_chunk(folder / "download.json", folder / "download.csv", manifest, rows)
    return folder / "download.json"


def transcode_into(folder: Path, listed: Path, **media: Any) -> Path:
    output = folder / "transcode.json"
    transcode_chunk(
        download_manifest=listed,
        manifest_path=output,
        ledger_path=output.with_suffix(".csv"),
        media=MediaConfig(num_frames=NUM_FRAMES, frame_size=FRAME_SIZE, **media),
        num_workers=1,
        version=versions.TRANSCODE,
    )
    return output


def stage_costs(clips: Sequence[Path]) -> dict[str, Any]:
    """CPU seconds and bytes of stages on clips of equal length, as ``media.plan`` reads them."""
    with tempfile.TemporaryDirectory(dir=clips[0].parent) as name:
        folder = Path(name)
        listed = list_clips(folder, clips)
        transcoded, features = folder / "transcode.json", folder / "logmel.json"
        packed = folder / "shards.json"

        def logmel() -> None:
            extract_chunk(
                transcode_manifest=transcoded,
                manifest_path=features,
                ledger_path=features.with_suffix(".csv"),
                audio=AudioConfig(),
                sample_rate_hz=MediaConfig().sample_rate_hz,
                num_workers=1,
                version=versions.LOGMEL,
            )

        def pack() -> None:
            pack_chunk(
                transcode_manifest=transcoded,
                logmel_manifest=features,
                shard_path=folder / "train-00000.tar",
                manifest_path=packed,
                ledger_path=folder / "shards.csv",
                shards=ShardsConfig(),
                version=versions.PACK,
            )

        stages: dict[str, tuple[Callable[[], object], Path]] = {
            "transcode": (lambda: transcode_into(folder, listed), transcoded),
            "logmel": (logmel, features),
            "pack": (pack, packed),
        }
        for first_use, _ in stages.values():
            first_use()  # imports and caches of a job, which has a thousand clips
        costs = {stage: timed(run).cpu_seconds for stage, (run, _) in stages.items()}
        sizes = {stage: tar_bytes(read_chunk(at, stage)) for stage, (_, at) in stages.items()}
    return {
        "clip_seconds": SECONDS,
        "num_clips": len(clips),
        "cpu_seconds": {stage: round(seconds, 2) for stage, seconds in costs.items()},
        "bytes": sizes,
    }


def usual(clips: Sequence[Path]) -> None:
    shrink = transforms.Compose([
        transforms.Resize(FRAME_SIZE, transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(FRAME_SIZE),
        transforms.ToTensor(),
    ])  # fmt: skip
    for clip in clips:
        with tempfile.TemporaryDirectory(dir=clip.parent) as name:
            folder = Path(name)
            run_ffmpeg("-i", str(clip), "-vn", "-ar", "16000", str(folder / "all.wav"))
            one = ["-af", "pan=mono|c0=c0", str(folder / "one.wav")]
            run_ffmpeg("-i", str(folder / "all.wav"), *one)
            for number, frame in enumerate(seek_frames(clip)):
                image = shrink(frame)
                assert isinstance(image, torch.Tensor)  # it ends in ToTensor
                save_image(image, folder / f"{number}.jpg")


def seek_frames(clip: Path) -> list[Image.Image]:
    """Ten evenly spaced frames, each by a seek of its own."""
    return _seek_opencv(clip) if HAS_OPENCV else _seek_pyav(clip)


def _seek_opencv(clip: Path) -> list[Image.Image]:
    import cv2  # pyright: ignore[reportMissingImports]

    video = cv2.VideoCapture(str(clip))
    count = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    frames = []
    for number in range(NUM_FRAMES):
        video.set(cv2.CAP_PROP_POS_FRAMES, int(number * count / NUM_FRAMES))
        is_read, frame = video.read()
        if is_read:
            frames.append(Image.fromarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)))
    video.release()
    return frames


def _seek_pyav(clip: Path) -> list[Image.Image]:
    frames = []
    with av.open(str(clip)) as container:
        video = container.streams.video[0]
        seconds = (container.duration or 0) / av.time_base
        for number in range(NUM_FRAMES):
            wanted = number * seconds / NUM_FRAMES
            container.seek(round(wanted * av.time_base))
            for frame in container.decode(video):
                if frame.time is None or frame.time >= wanted:
                    frames.append(frame.to_image())
                    break
    return frames


WAYS: dict[str, Callable[[Sequence[Path]], object]] = {
    "decode": decode,
    "exact": transcode,
    "keyframe": lambda clips: transcode(clips, frame_times="keyframe"),
    "usual": usual,
}


def measure(folder: Path, free: Path | None, rounds: int) -> dict[str, Any]:
    """CPU seconds of every way on every group of clips, the ways by turns in each round."""
    torch.set_num_threads(1)
    groups = make_clips(folder)
    if free is not None:
        found = sorted(path.absolute() for path in free.iterdir() if path.suffix != ".md")
        copies = [folder / path.name for path in found]
        for source, copy in zip(found, copies, strict=True):
            copy.symlink_to(source)
        groups["free"] = [Path(name) for name in transcode(copies)]
    costs: dict[str, dict[str, list[float]]] = {
        group: {way: [] for way in WAYS} for group in groups
    }
    for _ in range(rounds):
        for group, clips in groups.items():
            for way, function in WAYS.items():
                cost = timed(lambda function=function, clips=clips: function(clips))
                costs[group][way].append(round(cost.cpu_seconds, 2))
    return {
        "num_clips": {group: len(clips) for group, clips in groups.items()},
        "rounds": rounds,
        "usual_seeks": SEEKS,
        "cpu_seconds": costs,
        "ratios": compare(costs),
        "by_clip_seconds": [stage_costs([clip for size in SIZES for clip in groups[size]])],
        "goals": GOALS,
    }


def compare(costs: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, float]]:
    """Ratios of the medians over rounds, for each group and for all clips together."""
    middle = {
        group: {way: statistics.median(values) for way, values in ways.items()}
        for group, ways in costs.items()
    }
    middle["all"] = {way: sum(ways[way] for ways in middle.values()) for way in WAYS}
    pairs = (("exact", "decode"), ("exact", "keyframe"), ("usual", "exact"))
    return {
        group: {f"{a}_to_{b}": round(ways[a] / ways[b], 2) for a, b in pairs}
        for group, ways in middle.items()
    }


def report(result: dict[str, Any], output: Path) -> None:
    write_json(output, result)
    for group, ratios in result["ratios"].items():
        shown = ", ".join(f"{name} {value:.2f}" for name, value in ratios.items())
        print(f"{group:9} {shown}")
    print(f"goals: {GOALS}; seeks of the usual way: {SEEKS}")
