"""The ffmpeg command line for a batch of clips: one process, one decode per clip.

Each clip [start, start + duration) gives a mono FLAC and JPEG frames. Seeking goes to a key frame
before ``start`` and drops nothing, so a frame shown since before ``start`` counts.
Every output has its own small filter chain: one graph for all is slower with many inputs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import ffmpeg
from ffmpeg.nodes import FilterableStream, OutputStream

from pipeline_src.config.data import MediaConfig
from pipeline_src.transcode.filters import (
    MEND,
    MIX,
    Look,
    audio_filters,
    count_filters,
    exact_frame_filters,
    key_frame_filters,
    pcm_filters,
)
from pipeline_src.transcode.formats import INPUT_OPTIONS, input_url
from pipeline_src.transcode.lead import LEAD_OPTION
from pipeline_src.transcode.probe import Picture

GLOBAL_OPTIONS = ("-hide_banner", "-nostdin", "-filter_threads", "1")
STRICT_OPTIONS = ("-loglevel", "error", "-xerror")
# The same for decoding alone: a packet marked as incomplete by its container may be whole.
UNMARKED_OPTIONS = ("-loglevel", "repeat+error", "-max_error_rate", "0")
# Every error is a line to be counted, and none ends the decoding.
TOLERANT_OPTIONS = ("-loglevel", "repeat+error", "-max_error_rate", "1")
# A decoder holds up to 16 pictures for reference and reordering; queues and filters the others.
PICTURES_HELD = 30
CLIP_BYTES = 10_000_000
PLAIN_LOOK = Look()
# What sound decoders need before a clip: the frames that its first one overlaps or refers to.
WARM_UP_SECONDS = 0.5


@dataclass(frozen=True)
class ClipJob:
    """What to decode of one file.

    Args:
        audio_index, video_index: stream numbers in the file; None = no frames.
        seek_seconds: where decoding has to begin, at or before ``start_seconds``.
        picture: of the video.
        key_seconds: for each frame the time of the key frame that stands for it, ascending, from
            the clip's start; empty = frames at the exact moments.
        key_tolerance_seconds: how far a decoder's times may be from these.
        last_picture_seconds: when the file's last picture begins, where looking for key frames came
            to it; else infinite.
        is_steady: False = the picture's size changes midway. Then the frames are scaled to the
            shape of the first one, and are not rotated.
        is_strict: False = tolerate decoding errors.
        mix: filter that makes the sound mono.
        has_one_format: False = the sound's format changes midway.
        sound_path: the sound alone, from the clip's start, in place of the file's.
        counts_samples: the sound's samples may be no finite numbers.
        mends_samples: some are.
        other_sounds: further tracks and mixes to try, one after the other, if this one is silent.
        look: of the pictures.
        zero_seconds: 0 of the times above in the file's own; None = what ffmpeg takes.
        clock_index: stream that must be read, too, because ffmpeg counts from the start of the
            first that is read, where a clock may jump; None = none.
        is_from_start: read the file from its start, wherever decoding could begin.
        sound_from_seconds: packets of sound that end before this, from the clip's start, are not
            decoded.
        seeks_exactly: whether the container begins with whole packets after a seek.
        foreign: first and last byte in the file of packets that hold no sound.
        skips_foreign: do not decode these.
        heeds_marks: False = decode packets that the container calls incomplete.
        lacks_picture: the file ends within a picture of the clip.
        media_end: byte in the file behind which only tags or zeros follow, or a packet that the
            file ends within and the clip does not need; None = none do.
        cuts_end: read the file up to there.
        lead_bytes: before the first whole frame of raw sound.
    """

    path: Path
    start_seconds: float
    duration_seconds: float
    audio_index: int
    video_index: int | None
    seek_seconds: float
    picture: Picture
    key_seconds: tuple[float, ...] = ()
    key_tolerance_seconds: float = 0.0
    last_picture_seconds: float = math.inf
    is_steady: bool = True
    is_strict: bool = True
    mix: str = MIX
    has_one_format: bool = True
    sound_path: Path | None = None
    counts_samples: bool = False
    mends_samples: bool = False
    other_sounds: tuple[tuple[int, str], ...] = ()
    look: Look = PLAIN_LOOK
    zero_seconds: float | None = None
    clock_index: int | None = None
    is_from_start: bool = False
    sound_from_seconds: float | None = None
    seeks_exactly: bool = True
    foreign: tuple[tuple[int, int], ...] = ()
    skips_foreign: bool = False
    heeds_marks: bool = True
    lacks_picture: bool = False
    media_end: int | None = None
    cuts_end: bool = False
    lead_bytes: int = 0

    @property
    def memory_bytes(self) -> int:
        """What decoding it may take at most."""
        has_video = self.video_index is not None
        return CLIP_BYTES + round(has_video * PICTURES_HELD * self.picture.num_bytes)

    @property
    def unique_key_seconds(self) -> list[float]:
        """Each key frame once, in time order."""
        return sorted(set(self.key_seconds))


def largest_picture(memory_bytes: int, max_pixels: int, bytes_per_pixel: float) -> Picture:
    """Return the largest picture with which a clip fits into memory, where no header tells it."""
    fitting = int((memory_bytes - CLIP_BYTES) / (PICTURES_HELD * bytes_per_pixel))
    return Picture.up_to(min(max_pixels, fitting), bytes_per_pixel)


def build_arguments(jobs: Sequence[ClipJob], media: MediaConfig) -> list[str]:
    """Build the arguments of the one ffmpeg process that decodes ``jobs`` into its folder."""
    outputs = []
    for index, job in enumerate(jobs):
        source = ffmpeg.input(input_url(job.path.absolute()), **_input_options(job))
        sound, mix = source[str(job.audio_index)], _mix(job, index)
        if job.sound_path is not None:
            sound, mix = ffmpeg.input(input_url(job.sound_path), **INPUT_OPTIONS)["0"], MIX
        outputs.append(
            ffmpeg.output(
                sound,
                audio_name(index),
                af=audio_filters(job.duration_seconds, media.sample_rate_hz, mix),
                acodec="flac",
                sample_fmt="s16",
                threads=1,
                bitexact=None,
                # Else every output has what the process's first input says of itself: titles,
                # places, brands, those of another clip.
                map_metadata=-1,
                map_chapters=-1,
            )
        )
        outputs += _clock_output(job, source)
        if job.video_index is None:
            continue
        outputs.append(
            ffmpeg.output(
                source[str(job.video_index)],
                frames_name(index),
                vf=_video_chain(index, job, media),
                format="mjpeg",  # one file a clip: making a file costs more than its frame
                vcodec="mjpeg",
                threads=1,
                bitexact=None,
                fps_mode="passthrough",
                **{"q:v": media.jpeg_quality},
            )
        )
    return ffmpeg.merge_outputs(*outputs).global_args(*_global_options(jobs)).get_args()


def build_pcm_arguments(job: ClipJob, media: MediaConfig, name: str) -> list[str]:
    """Build the arguments for the sound of ``job`` alone: samples with times, in a NUT file."""
    options = _input_options(replace(job, video_index=None, has_one_format=False))
    source = ffmpeg.input(input_url(job.path.absolute()), **options)
    output = ffmpeg.output(
        source[str(job.audio_index)],
        name,
        af=pcm_filters(job.duration_seconds, media.sample_rate_hz, _mix(job, 0)),
        acodec="pcm_s16le",
        format="nut",
    )
    outputs = ffmpeg.merge_outputs(output, *_clock_output(job, source))
    return outputs.global_args(*_global_options([job])).get_args()


def _clock_output(job: ClipJob, source: FilterableStream) -> list[OutputStream]:
    """Write one packet of the stream that the clock counts from to nowhere."""
    if job.clock_index is None:
        return []
    packets = source[str(job.clock_index)]
    return [ffmpeg.output(packets, "-", codec="copy", format="null", frames=1)]


def _global_options(jobs: Sequence[ClipJob]) -> tuple[str, ...]:
    return (*GLOBAL_OPTIONS, *_error_options(jobs))


def audio_name(index: int) -> str:
    """Name the audio file of clip ``index`` of the batch."""
    return f"{index:03d}.flac"


def frames_name(index: int) -> str:
    """Name the file of a clip's frames, JPEG after JPEG."""
    return f"{index:03d}.mjpeg"


def counts_name(index: int) -> str:
    """Name the file that counts a clip's samples that are no finite numbers."""
    return f"{index:03d}_counts.txt"


def _mix(job: ClipJob, index: int) -> str:
    counted = [count_filters(counts_name(index))] if job.counts_samples else []
    return ",".join([*counted, *[MEND] * job.mends_samples, job.mix])


def times_name(index: int) -> str:
    """Name the file of the times of the decoded pictures."""
    return f"{index:03d}.txt"


def _video_chain(index: int, job: ClipJob, media: MediaConfig) -> str:
    if job.key_seconds:
        return key_frame_filters(job.unique_key_seconds, job.key_tolerance_seconds, media, job.look)
    return exact_frame_filters(job.duration_seconds, media, job.look, times_name(index))


def _error_options(jobs: Sequence[ClipJob]) -> Sequence[str]:
    if not all(job.is_strict for job in jobs):
        return TOLERANT_OPTIONS
    return STRICT_OPTIONS if all(job.heeds_marks for job in jobs) else UNMARKED_OPTIONS


def _input_options(job: ClipJob) -> dict[str, str | int | None]:
    options: dict[str, str | int | None] = {**INPUT_OPTIONS, "threads": 1, **_place_options(job)}
    if job.lead_bytes:
        options[LEAD_OPTION] = job.lead_bytes
    if unwanted := _unwanted_sound(job):
        options["bsf:a"] = f"noise=drop={unwanted}"
    if job.has_one_format:  # a change is an error, not a silent new beginning
        options["reinit_filter:a"] = 0
    if job.video_index is None:
        return options
    options["max_pixels"] = job.picture.decoder_pixels
    if job.key_seconds:  # some decoders, VP9's for one, know no such option themselves
        options["bsf:v"] = "noise=drop=not(key)"
    if not job.is_steady:  # of all filters only scale may see pictures of several sizes
        options |= {"reinit_filter:v": 0, "noautorotate": None}
    return options


def _unwanted_sound(job: ClipJob) -> str:
    """Return ffmpeg's expression for sound packets to drop; empty = none."""
    wanted: list[str] = []
    if job.sound_from_seconds is not None:
        wanted.append(f"lt((dts+duration)*tb\\,{job.sound_from_seconds:.6f})")
    if job.skips_foreign:
        wanted += [f"between(pos\\,{first}\\,{last})" for first, last in job.foreign]
    return "+".join(wanted)


def _place_options(job: ClipJob) -> dict[str, str | int | None]:
    """Return where to begin, with the clip's start as 0 of the clock."""
    options: dict[str, str | int | None] = {}
    seek_seconds = 0.0 if job.is_from_start else job.seek_seconds
    zero_seconds = 0.0
    if job.zero_seconds is not None:
        options["seek_timestamp"] = 1
        zero_seconds = job.zero_seconds
    if seek_seconds > 0:
        options |= {"noaccurate_seek": None, "ss": f"{zero_seconds + seek_seconds:.6f}"}
        zero_seconds = 0.0
    if zero_seconds or seek_seconds < job.start_seconds:
        options["itsoffset"] = f"{seek_seconds - zero_seconds - job.start_seconds:.6f}"
    return options
