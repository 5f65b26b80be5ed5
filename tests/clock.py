"""Clips that tell the time: the picture's grey is 16 + 10 t, the pitch 300 + 100 t Hz at t s."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline_src.config.data import MediaConfig
from pipeline_src.manifest.chunks import Clip
from pipeline_src.transcode.audio import read_flac
from tests.media import run_ffmpeg, transcode_one

H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "10", "-g", "25", "-pix_fmt", "yuv420p")
AAC = ("-c:a", "aac", "-b:a", "96k")
THEORA = ("-c:v", "libtheora", "-q:v", "9")
VP8 = ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus")
MPEG2 = ("-c:v", "mpeg2video", "-q:v", "2", "-g", "15", "-bf", "2")
EIGHT = MediaConfig(num_frames=8, frame_size=32)
SOUND_ONLY = MediaConfig(num_frames=0)
PITCH_WINDOW = 1600


def picture_of(first: float, seconds: float) -> list[str]:
    """Input of ffmpeg: the picture of a recording from ``first`` on."""
    grey = f"geq=lum='16+10*(T+{first})':cb=128:cr=128"
    return ["-f", "lavfi", "-i", f"color=s=64x48:r=25:d={seconds},{grey}"]


def sound_of(first: float, seconds: float, rate_hz: int = 44100, more: str = "") -> list[str]:
    """Input of ffmpeg: the sound of a recording from ``first`` on."""
    phase = f"300*(t+{first})+50*(t+{first})*(t+{first})"
    tone = f"0.5*sin(2*PI*({phase})){more}"
    return ["-f", "lavfi", "-i", f"aevalsrc='{tone}':s={rate_hz}:d={seconds}"]


def record(path: Path, *options: str, first: float = 0, seconds: float = 4) -> Path:
    """Write picture and sound of a recording from ``first`` on."""
    inputs = [*picture_of(first, seconds), *sound_of(first, seconds)]
    return run_ffmpeg(*inputs, *options, output=path)


def remux(source: Path, path: Path, *options: str) -> Path:
    """Write the same packets into another file."""
    return run_ffmpeg("-i", str(source), "-c", "copy", *options, output=path)


def read_times(
    clip: Clip, members: Mapping[str, bytes], config: MediaConfig
) -> tuple[np.ndarray, np.ndarray]:
    """What the frames and the sound of a clip say that it is; NaN where there is no sound."""
    names = sorted(name for name in members if name.startswith("frame_"))
    greys = [np.asarray(Image.open(io.BytesIO(members[name])).convert("L")) for name in names]
    seconds = clip["duration_seconds"]
    moments = clip["frame_seconds"] or [(k + 0.5) / 8 * seconds for k in range(8)]
    samples = read_flac(members["flac"]).astype(float)
    pitches = [_pitch_seconds(samples, moment, config.sample_rate_hz) for moment in moments]
    return np.array([grey.mean() * 219 / 255 / 10 for grey in greys]), np.array(pitches)


def _pitch_seconds(samples: np.ndarray, moment: float, rate_hz: int) -> float:
    first = int(moment * rate_hz) - PITCH_WINDOW // 2
    part = samples[max(first, 0) : max(first, 0) + PITCH_WINDOW]
    if len(part) < PITCH_WINDOW or np.abs(part).max() < 300:
        return float("nan")
    spectrum = np.abs(np.fft.rfft(part * np.hanning(PITCH_WINDOW), 16 * PITCH_WINDOW))
    return (np.argmax(spectrum) * rate_hz / (16 * PITCH_WINDOW) - 300) / 100


def check_clip(
    folder: Path,
    config: MediaConfig = EIGHT,
    *,
    length: float,
    first: float | None = None,
    flags: Sequence[str] = (),
    **clip: object,
) -> Clip:
    """Transcode a clip that must be whole and in time; return its entry.

    Args:
        length: how long it must be.
        first: what time it must be at its start; None = by the list, or 0.
        flags: that it must carry.
    """
    entry, members = transcode_one(folder, config, **clip)
    pictures, sounds = read_times(entry, members, config)
    if first is None:
        first = float(entry["start_seconds"])
    moments = entry["frame_seconds"] or [
        (k + 0.5) / 8 * entry["duration_seconds"] for k in range(8)
    ]
    expected = np.array(moments) + first
    assert abs(entry["duration_seconds"] - length) < 0.15
    assert abs(entry["audio_seconds"] - length) < 0.15
    assert np.abs(sounds - expected).max() < 0.15
    assert not len(pictures) or np.abs(pictures - expected).max() < 0.3
    assert entry["flags"] == list(flags)
    return entry
