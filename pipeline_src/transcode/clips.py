"""One clip before and after decoding: which part of its file, and what the manifest says of it."""

import functools
import math
from dataclasses import dataclass
from pathlib import Path

from pipeline_src.config.data import MediaConfig
from pipeline_src.errors import MediaError, as_clip_error
from pipeline_src.manifest.chunks import Clip
from pipeline_src.transcode.agreement import ROUNDING_SECONDS, find_missing
from pipeline_src.transcode.batch import Decoded
from pipeline_src.transcode.boxes import is_encrypted
from pipeline_src.transcode.changes import MISFIT
from pipeline_src.transcode.extent import HOLE_SECONDS
from pipeline_src.transcode.ffmpeg import drops_packets
from pipeline_src.transcode.ffmpeg_command import WARM_UP_SECONDS, ClipJob, largest_picture
from pipeline_src.transcode.filters import FIRST_CHANNEL, MIX, Look
from pipeline_src.transcode.flags import SHORT_TOLERANCE_SECONDS
from pipeline_src.transcode.foreign import TAKE_TAGS, find_media_end
from pipeline_src.transcode.frame_times import frame_seconds
from pipeline_src.transcode.keyframes import KeyFrames, find_key_frames
from pipeline_src.transcode.lead import find_lead
from pipeline_src.transcode.memory import BYTES_PER_WORKER
from pipeline_src.transcode.open_end import has_open_end
from pipeline_src.transcode.probe import MediaInfo, begins_at_another_rate, probe_file
from pipeline_src.transcode.rest import find_any, find_joined

# A longer filter would not fit into ffmpeg's command line; such clips get exact frames.
MAX_KEY_FRAMES = 1000
CODECS_OF_FLOATS = ("pcm_f", "wavpack")
# More would not fit into ffmpeg's command line either.
MAX_FOREIGN = 100
# How much of what a flag says.
AMOUNTS = ("short_seconds", "gap_seconds", "num_repeated_frames", "num_decode_errors")
SEEK_WHOLE = {"mov", "matroska"}
SEEK_WITHIN_FRAMES = {"mpeg"}
# Each sample is a step from the one before, from the first of the file on; of G.722 in WAV seeking
# goes to twice the time.
CODECS_OF_STEPS = ("adpcm_yamaha", "adpcm_ima_ws", "adpcm_ct", "adpcm_sbpro", "adpcm_aica")
DECODED_FROM_START = (*CODECS_OF_STEPS, "g722", "g726")
CANNOT_BE_NEGATIVE = {"matroska", "webm", "flv"}


@dataclass(frozen=True)
class PreparedClip:
    """What to do with a usable clip.

    Args:
        listed_seconds: length by the clip list, or of the whole file, as its header states it,
            where the list gives no end.
        has_end: whether the list gives one.
        has_open_end: whether the clip reaches to where its file stops without having ended.
    """

    job: ClipJob
    probe: MediaInfo
    listed_seconds: float
    has_end: bool
    has_open_end: bool = False

    def is_short(self, seconds: float) -> bool:
        """Return whether ``seconds`` of sound and picture are less than the list promises."""
        return seconds < self.listed_seconds - SHORT_TOLERANCE_SECONDS


def prepare_clip(
    clip: Clip,
    folder: Path,
    media: MediaConfig,
    memory_bytes: int,
    *,
    distrusts_header: bool = False,
) -> PreparedClip | MediaError:
    """Decide from the container what to decode; why not is returned, not raised.

    Args:
        memory_bytes: a clip that may take more is refused.
        distrusts_header: read the packets, because decoding found something else.
    """
    path = folder / clip["path"]
    try:
        look = functools.partial(
            probe_file,
            path,
            max_pixels=media.max_pixels,
            needs_video=media.has_frames,
            end_seconds=clip["end_seconds"],
        )
        probe = look(distrusts_header=distrusts_header)
        if begins_at_another_rate(path, probe, clip["start_seconds"] or 0.0, media.max_pixels):
            probe = look(distrusts_header=True)
        _check_times(probe)
        length = probe.length
        start = length.begin_seconds if clip["start_seconds"] is None else clip["start_seconds"]
        has_end = clip["end_seconds"] is not None
        end = clip["end_seconds"] if has_end else length.end_seconds
        _check_misfits(probe, start, end if has_end else math.inf)
        seconds = min(end, length.end_seconds) - start
        if not has_end or end > length.end_seconds:
            _check_rest(path, probe)
        if seconds < media.min_seconds:
            shown = f"{seconds:g} s"
            if start > 0 and seconds <= 0:
                shown = f"begins at {start:g} s of {length.end_seconds:g} s"
            raise MediaError("too_short", f"{shown}; media.min_seconds={media.min_seconds:g}")
        if seconds > media.max_seconds:
            raise MediaError(
                "unsupported", f"{seconds:g} s; media.max_seconds={media.max_seconds:g}"
            )
        job = _job(path, start, seconds, probe, media, memory_bytes)
        _check_memory(job, memory_bytes)
        listed = (end if has_end else max(end, length.stated_end_seconds)) - start
        last_byte = length.extent.last_byte if length.extent else 0
        is_open = not has_end and has_open_end(path, probe.containers, last_byte)
        prepared = PreparedClip(job, probe, listed, has_end, is_open)
        return _judge_length(prepared, seconds, media) or prepared
    except Exception as error:
        return as_clip_error(error, clip["clip_id"])


def _check_misfits(probe: MediaInfo, start_seconds: float, end_seconds: float) -> None:
    """Refuse sound of another rate that is stamped at the first: its times are wrong.

    Raises:
        MediaError: the clip holds such sound.
    """
    for first, last in probe.length.misfits:
        if min(last, end_seconds) - max(first, start_seconds) > HOLE_SECONDS:
            raise MediaError("unsupported", f"{MISFIT}, from {first:.2f} s on")


def _check_rest(path: Path, probe: MediaInfo) -> None:
    """Refuse a file of which ffmpeg reads a part, where the clip is to be all of it.

    Raises:
        MediaError: another file follows in it, or its clock begins anew.
    """
    extent = probe.length.extent
    at = extent.joint_byte if extent else None
    if at is None:
        at = find_joined(path, probe.containers, extent.last_byte if extent else 0)
    if at is not None or (extent and extent.num_returns):
        where = "its clock begins anew, as that of joined files or where times lie below 0"
        if at is not None:
            where = f"several files joined to one, another begins at byte {at:,}"
        raise MediaError(
            "unsupported",
            f"{where}; ffmpeg reads the first part only: cut them apart, or list an end within it",
        )


def explain(error: MediaError, prepared: PreparedClip) -> MediaError:
    """Tell of a clip that could not be decoded that its file is encrypted, or several joined."""
    if error.reason != "corrupt":
        return error
    if "mov" in prepared.probe.containers and is_encrypted(prepared.job.path):
        return MediaError("unsupported", f"encrypted; it needs its key ({error.detail})")
    at = find_any(prepared.job.path, prepared.probe.containers)
    if at is None:
        return error
    return MediaError(
        "unsupported",
        f"several files joined to one, another begins at byte {at:,}: cut them apart "
        f"({error.detail})",
    )


def _check_times(probe: MediaInfo) -> None:
    """Refuse what lies before time 0 of Matroska and FLV: libav finds no times there, or others.

    Raises:
        MediaError: the file holds such packets.
    """
    extent = probe.length.extent
    if extent and extent.num_untimed and probe.containers & CANNOT_BE_NEGATIVE:
        raise MediaError(
            "unsupported",
            "pictures or pieces of sound lie before time 0, of which ffmpeg does not know the "
            "times in Matroska and FLV; make the file anew without times below 0 "
            "(ffmpeg -avoid_negative_ts make_zero)",
        )


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
    probe: MediaInfo,
    media: MediaConfig,
    memory_bytes: int,
) -> ClipJob:
    margin = _margin_seconds(probe)
    seek_seconds = 0.0 if margin is None else max(0.0, start_seconds - margin)
    keys = KeyFrames(seek_seconds, (), 0.0)
    moments = frame_seconds(seconds, media) if media.frame_times == "keyframe" else []
    if probe.video_index is not None and (moments or seek_seconds > 0):
        keys = find_key_frames(
            path,
            probe.video_index,
            start_seconds,
            moments,
            max_pixels=media.max_pixels,
            zero_seconds=probe.length.zero_seconds,
            margin_seconds=margin,
        )
    picture = probe.picture
    if probe.video_index is not None and not picture.num_pixels:
        picture = largest_picture(memory_bytes, media.max_pixels, picture.bytes_per_pixel)
    mixes = _mixes(probe, media)
    tracks = probe.audio_indices if media.audio_track == "first_not_silent" else ()
    others = [(probe.audio_index, mix) for mix in mixes[1:]]
    others += [(track, mix) for track in tracks[1:] for mix in mixes]
    is_few = len(set(keys.nearest_seconds)) <= MAX_KEY_FRAMES
    extent = probe.length.extent
    cut = extent.cut_packet if extent else None
    lacks = cut is not None and start_seconds + seconds > (
        cut.from_seconds - probe.length.own_zero_seconds + ROUNDING_SECONDS
    )
    media_end = find_media_end(path) if probe.containers & TAKE_TAGS else None
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
        last_picture_seconds=keys.last_picture_seconds,
        mix=mixes[0],
        counts_samples=probe.audio_codec.startswith(CODECS_OF_FLOATS),
        other_sounds=tuple(others),
        look=Look(
            probe.look.is_interlaced and media.deinterlace == "flagged",
            probe.look.transfer if media.hdr == "tone_map" else "",
        ),
        zero_seconds=probe.length.zero_seconds,
        clock_index=probe.length.clock_index,
        sound_from_seconds=-WARM_UP_SECONDS if margin and keys.seek_seconds > 0 else None,
        foreign=extent.foreign[:MAX_FOREIGN] if extent else (),
        seeks_exactly=bool(probe.containers & SEEK_WHOLE),
        media_end=cut.first_byte if cut and not lacks else media_end,
        cuts_end=cut is not None and not lacks,
        lacks_picture=cut is not None and lacks and cut.is_picture,
        lead_bytes=sum(find_lead(path, name) for name in probe.containers),
    )


def _mixes(probe: MediaInfo, media: MediaConfig) -> tuple[str, ...]:
    """Return how the sound is made mono, and how else if it is silent then."""
    if probe.is_ambisonic or media.downmix == "first":
        return (FIRST_CHANNEL,)
    return (MIX, FIRST_CHANNEL) if media.downmix == "first_if_silent" else (MIX,)


def _margin_seconds(probe: MediaInfo) -> float | None:
    """Return how long before a clip decoding must begin; None = at the file's start.

    A program stream is cut into packs without regard to the frames of sound: after a seek it
    begins with a part of one.
    """
    if not probe.length.seeks or probe.audio_codec.startswith(DECODED_FROM_START):
        return None
    if not probe.containers & SEEK_WITHIN_FRAMES:
        return 0.0
    return 2 * WARM_UP_SECONDS if drops_packets() else None


def describe_clip(
    clip: Clip, prepared: PreparedClip, decoded: Decoded, media: MediaConfig
) -> Clip | MediaError:
    """Return the clip's manifest entry, or why the configuration does not want it."""
    job, probe = prepared.job, prepared.probe
    audio_seconds = decoded.num_samples / media.sample_rate_hz
    missing = find_missing(probe, job, decoded, audio_seconds)
    if refused := _judge_length(prepared, missing.end_seconds, media):
        return refused
    if decoded.num_bad_samples and media.bad_samples == "reject":
        detail = f"{decoded.num_bad_samples} samples are no numbers; media.bad_samples=reject"
        return MediaError("corrupt", detail)
    is_short = missing.is_repeated_to_end or prepared.is_short(missing.end_seconds)
    marks = {
        "silent_audio": decoded.is_silent,
        "static_video": decoded.is_static,
        "short": is_short,
        "gaps": missing.gap_seconds > 0,
        "decode_errors": decoded.num_errors > 0,
        "other_sound": decoded.is_other_sound,
        "bad_samples": decoded.num_bad_samples > 0,
        "open_end": prepared.has_open_end,
    }
    entry = {key: clip[key] for key in ("clip_id", "key", "labels", "source")} | {
        "file_sha256": clip["sha256"],
        "start_seconds": round(job.start_seconds, 6),
        "end_seconds": round(job.start_seconds + job.duration_seconds, 6),
        "duration_seconds": round(job.duration_seconds, 6),
        "audio_seconds": audio_seconds,
        "fps": round(probe.fps, 6),
        "frame_seconds": list(decoded.frame_seconds),
        "audio_codec": probe.audio_codec,
        "video_codec": probe.video_codec,
        "flags": [flag for flag, is_set in marks.items() if is_set],
    }
    amounts = {
        "short_seconds": round(prepared.listed_seconds - missing.end_seconds, 3) if is_short else 0,
        "gap_seconds": round(missing.gap_seconds, 3),
        "num_repeated_frames": missing.num_repeated_frames,
        "num_decode_errors": decoded.num_errors,
    }
    return entry | {name: amount for name, amount in amounts.items() if amount}


def describe_amounts(entry: Clip) -> str:
    """Return ``short_seconds=1.5 num_repeated_frames=2``: what a clip's flags amount to."""
    return " ".join(f"{name}={entry[name]:g}" for name in AMOUNTS if name in entry)


def _judge_length(prepared: PreparedClip, seconds: float, media: MediaConfig) -> MediaError | None:
    """Refuse a clip that ends before its listed end, where the configuration says so."""
    if media.short_clips == "cut" or not (prepared.has_end and prepared.is_short(seconds)):
        return None
    detail = f"{seconds:g} of {prepared.listed_seconds:g} s listed; media.short_clips=reject"
    return MediaError("too_short", detail)
