"""The ffmpeg command line for a batch of clips: one process, one decode per clip.

Each clip [start, start + duration) gives a mono FLAC and N JPEG frames: frame k is the one shown
at (k + 0.5) / N of the clip, or at (k + 0.5) / frame_rate seconds, exactly. For that the video
clock is stretched so that these moments fall on 0, 1, 2, ...; ``fps=1:round=up`` then shows at n
the last frame with time <= n. Seeking goes
to the key frame before ``start`` and drops nothing, so a frame shown since before ``start`` counts.
Every output has its own small filter chain: one graph for all is slower with many inputs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ffmpeg

from pipeline_src.config.data import MediaConfig
from pipeline_src.media.probe import INPUT_OPTIONS, input_url

GLOBAL_OPTIONS = (
    "-hide_banner",
    "-nostdin",
    "-loglevel",
    "error",
    "-xerror",
    "-filter_threads",
    "1",
)
CLOCK_HZ = 1_000_000
JPEG_PIXELS = "yuvj420p"


@dataclass(frozen=True)
class ClipJob:
    """What to decode of one file.

    Args:
        audio_index, video_index: stream numbers in the file; None = no frames.
    """

    path: Path
    start_seconds: float
    duration_seconds: float
    audio_index: int
    video_index: int | None


def build_arguments(jobs: Sequence[ClipJob], media: MediaConfig) -> list[str]:
    """Arguments of the one ffmpeg process that decodes ``jobs`` into its working folder."""
    outputs = []
    for index, job in enumerate(jobs):
        source = ffmpeg.input(input_url(job.path.absolute()), **_input_options(job))
        outputs.append(
            ffmpeg.output(
                source[str(job.audio_index)],
                audio_name(index),
                af=audio_chain(job.duration_seconds, media.sample_rate_hz),
                acodec="flac",
                sample_fmt="s16",
                threads=1,
                bitexact=None,
            )
        )
        if job.video_index is None:
            continue
        outputs.append(
            ffmpeg.output(
                source[str(job.video_index)],
                frame_name(index, "%04d"),
                vf=video_chain(job.duration_seconds, media),
                format="image2",
                vcodec="mjpeg",
                threads=1,
                bitexact=None,
                fps_mode="passthrough",
                **{"q:v": media.jpeg_quality},
            )
        )
    return ffmpeg.merge_outputs(*outputs).global_args(*GLOBAL_OPTIONS).get_args()


def audio_name(index: int) -> str:
    """File of clip ``index`` of the batch."""
    return f"{index:03d}.flac"


def frame_name(index: int, number: str) -> str:
    """File of one frame; ffmpeg counts from 1."""
    return f"{index:03d}_{number}.jpg"


def count_frames(duration_seconds: float, media: MediaConfig) -> int:
    """Frames of a clip: with ``frame_rate`` as many as have their moment within it, at least 1."""
    if media.frame_rate:
        return max(1, math.ceil(duration_seconds * media.frame_rate - 0.5))
    return media.num_frames


def frame_seconds(duration_seconds: float, media: MediaConfig) -> list[float]:
    """Mid-bin moments of a clip, from its start."""
    count = count_frames(duration_seconds, media)
    if media.frame_rate:
        return [round((k + 0.5) / media.frame_rate, 6) for k in range(count)]
    return [round((k + 0.5) / count * duration_seconds, 6) for k in range(count)]


def _input_options(job: ClipJob) -> dict[str, str | int | None]:
    options: dict[str, str | int | None] = {**INPUT_OPTIONS, "threads": 1}
    if job.start_seconds > 0:
        options |= {"noaccurate_seek": None, "ss": f"{job.start_seconds:.6f}"}
    return options


def audio_chain(duration_seconds: float, sample_rate_hz: int) -> str:
    """Mono, resampled, from the clip's start; a late start and gaps become silence."""
    return (
        "atrim=start=0,aformat=channel_layouts=mono,"
        f"aresample={sample_rate_hz}:async=1:first_pts=0,"
        f"atrim=end_sample={round(duration_seconds * sample_rate_hz)}"
    )


def video_chain(duration_seconds: float, media: MediaConfig) -> str:
    """N square frames, the last repeated where the video ends early; one tick of slack.

    Padded before ``fps``, which drops a last frame that no moment falls on, and after it, for a
    video that ends long before the clip begins.
    """
    count = count_frames(duration_seconds, media)
    per_second = media.frame_rate or count / duration_seconds
    return (
        f"tpad=stop_mode=clone:stop_duration={duration_seconds:.6f},"
        f"settb=1/{CLOCK_HZ},setpts=(T*{per_second!r}-0.5)/TB-1,fps=fps=1:start_time=0:round=up,"
        f"tpad=stop_mode=clone:stop={count},trim=end_frame={count},"
        f"{_scale_chain(media)},format={JPEG_PIXELS}"
    )


def _scale_chain(media: MediaConfig) -> str:
    """Scale with square pixels; ``dar`` is the shape as displayed. JPEG is full-range BT.601."""
    side = media.frame_size
    flags = "flags=bilinear+accurate_rnd+bitexact:out_range=pc:out_color_matrix=bt601"
    if media.frame_fit == "squash":
        return f"scale=w={side}:h={side}:{flags},setsar=1"
    width, height = f"'ceil({side}*max(dar,1))'", f"'ceil({side}*max(1/dar,1))'"
    return f"scale=w={width}:h={height}:{flags},crop={side}:{side},setsar=1"
