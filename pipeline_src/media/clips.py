"""One clip before and after decoding: which part of its file, and what the manifest says of it."""

import math
from dataclasses import dataclass
from pathlib import Path

from pipeline_src.config.data import MediaConfig
from pipeline_src.errors import MediaError
from pipeline_src.manifest.chunks import Clip
from pipeline_src.media.batch import Decoded
from pipeline_src.media.chains import FIRST_CHANNEL, MIX, Look
from pipeline_src.media.flags import SHORT_TOLERANCE_SECONDS
from pipeline_src.media.graph import ClipJob, largest_picture
from pipeline_src.media.keyframes import KeyFrames, find_key_frames
from pipeline_src.media.memory import BYTES_PER_WORKER
from pipeline_src.media.moments import frame_seconds
from pipeline_src.media.probe import Probe, probe_file

# A longer filter would not fit into ffmpeg's command line; such clips get exact frames.
MAX_KEY_FRAMES = 1000
CODECS_OF_FLOATS = ("pcm_f", "wavpack")


@dataclass(frozen=True)
class Plan:
    """What to do with a usable clip.

    Args:
        listed_seconds: length by the clip list, or of the whole file where the list gives no end.
        has_end: whether the list gives one.
    """

    job: ClipJob
    probe: Probe
    listed_seconds: float
    has_end: bool

    def is_short(self, seconds: float) -> bool:
        """Whether ``seconds`` of sound and picture are less than the list promises."""
        return seconds < self.listed_seconds - SHORT_TOLERANCE_SECONDS


def plan_clip(clip: Clip, folder: Path, media: MediaConfig, memory_bytes: int) -> Plan | MediaError:
    """Decide from the container what to decode, or why not.

    Args:
        memory_bytes: a clip that may take more is refused.
    """
    path = folder / clip["path"]
    try:
        probe = probe_file(path, max_pixels=media.max_pixels, needs_video=media.has_frames)
        start = clip["start_seconds"] or 0.0
        has_end = clip["end_seconds"] is not None
        end = clip["end_seconds"] if has_end else probe.duration_seconds
        seconds = min(end, probe.duration_seconds) - start
        if seconds < media.min_seconds:
            shown = f"{max(seconds, 0):g} s"
            raise MediaError("too_short", f"{shown}; media.min_seconds={media.min_seconds:g}")
        if seconds > media.max_seconds:
            raise MediaError(
                "unsupported", f"{seconds:g} s; media.max_seconds={media.max_seconds:g}"
            )
        job = _job(path, start, seconds, probe, media, memory_bytes)
        _check_memory(job, memory_bytes)
        plan = Plan(job, probe, end - start, has_end)
        return _judge_length(plan, seconds, media) or plan
    except MediaError as error:
        return error


def _check_memory(job: ClipJob, memory_bytes: int) -> None:
    if job.memory_bytes <= memory_bytes:
        return
    size = f"{job.picture.width}x{job.picture.height}"
    num_threads = math.ceil(job.memory_bytes / BYTES_PER_WORKER)
    raise MediaError(
        "unsupported",
        f"{size} pixels may take {job.memory_bytes / 1e9:.2f} GB to decode, of "
        f"{memory_bytes / 1e9:.2f} GB; --set-threads transcode_clips={num_threads} allows it",
    )


def _job(
    path: Path,
    start_seconds: float,
    seconds: float,
    probe: Probe,
    media: MediaConfig,
    memory_bytes: int,
) -> ClipJob:
    keys = KeyFrames(start_seconds, (), 0.0)
    moments = frame_seconds(seconds, media) if media.frame_times == "keyframe" else []
    if probe.video_index is not None and (moments or start_seconds > 0):
        keys = find_key_frames(
            path, probe.video_index, start_seconds, moments, max_pixels=media.max_pixels
        )
    picture = probe.picture
    if probe.video_index is not None and not picture.num_pixels:
        picture = largest_picture(memory_bytes, media.max_pixels, picture.bytes_per_pixel)
    mixes = _mixes(probe, media)
    tracks = probe.audio_indices if media.audio_track == "first_not_silent" else ()
    others = [(probe.audio_index, mix) for mix in mixes[1:]]
    others += [(track, mix) for track in tracks[1:] for mix in mixes]
    is_few = len(set(keys.nearest_seconds)) <= MAX_KEY_FRAMES
    return ClipJob(
        path=path,
        start_seconds=start_seconds,
        duration_seconds=seconds,
        audio_index=probe.audio_index,
        video_index=probe.video_index,
        seek_seconds=keys.seek_seconds,
        picture=picture,
        key_seconds=keys.nearest_seconds if is_few else (),
        key_tolerance_seconds=keys.tolerance_seconds,
        mix=mixes[0],
        counts_samples=probe.audio_codec.startswith(CODECS_OF_FLOATS),
        other_sounds=tuple(others),
        look=Look(
            probe.look.is_interlaced and media.deinterlace == "flagged",
            probe.look.transfer if media.hdr == "tone_map" else "",
        ),
    )


def _mixes(probe: Probe, media: MediaConfig) -> tuple[str, ...]:
    """How the sound is made mono, and how else where it is silent then."""
    if probe.is_ambisonic or media.downmix == "first":
        return (FIRST_CHANNEL,)
    return (MIX, FIRST_CHANNEL) if media.downmix == "first_if_silent" else (MIX,)


def describe_clip(
    clip: Clip, plan: Plan, decoded: Decoded, media: MediaConfig
) -> Clip | MediaError:
    """The clip's entry in the manifest, or why the configuration does not want it."""
    job, probe = plan.job, plan.probe
    audio_seconds = decoded.num_samples / media.sample_rate_hz
    seconds = min(job.duration_seconds, audio_seconds)
    if refused := _judge_length(plan, seconds, media):
        return refused
    if decoded.num_bad_samples and media.bad_samples == "reject":
        detail = f"{decoded.num_bad_samples} samples are no numbers; media.bad_samples=reject"
        return MediaError("corrupt", detail)
    marks = {
        "silent_audio": decoded.is_silent,
        "static_video": decoded.is_static,
        "short": plan.is_short(seconds),
        "decode_errors": decoded.num_errors > 0,
        "other_sound": decoded.is_other_sound,
        "bad_samples": decoded.num_bad_samples > 0,
    }
    entry = {key: clip[key] for key in ("clip_id", "key", "labels", "source")} | {
        "file_sha256": clip["sha256"],
        "start_seconds": job.start_seconds,
        "end_seconds": round(job.start_seconds + job.duration_seconds, 6),
        "duration_seconds": round(job.duration_seconds, 6),
        "audio_seconds": audio_seconds,
        "fps": round(probe.fps, 6),
        "frame_seconds": list(decoded.frame_seconds),
        "audio_codec": probe.audio_codec,
        "video_codec": probe.video_codec,
        "flags": [flag for flag, is_set in marks.items() if is_set],
    }
    return entry | ({"num_decode_errors": decoded.num_errors} if decoded.num_errors else {})


def _judge_length(plan: Plan, seconds: float, media: MediaConfig) -> MediaError | None:
    """Refuse a clip that ends before its listed end, where the configuration says so."""
    if media.out_of_range == "cut" or not (plan.has_end and plan.is_short(seconds)):
        return None
    detail = f"{seconds:g} of {plan.listed_seconds:g} s listed; media.out_of_range=reject"
    return MediaError("too_short", detail)
