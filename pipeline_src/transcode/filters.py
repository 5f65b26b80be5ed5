"""The filter chains: sound from the clip's start, and frames at exact moments or at key frames.

Exact: frame k is the one shown at (k + 0.5) / N of the clip, or at (k + 0.5) / frame_rate seconds.
For that the video clock is stretched so that these moments fall on 0, 1, 2, ...;
``fps=1:round=up`` then shows at n the last frame with time <= n. Only the frames that are kept are
scaled.
"""

from collections.abc import Sequence
from typing import NamedTuple

from pipeline_src.config.data import MediaConfig
from pipeline_src.transcode.frame_times import count_frames

CLOCK_HZ = 1_000_000
JPEG_PIXELS = "yuvj420p"
SCALER = "flags=bilinear+accurate_rnd+bitexact"
JPEG_COLOURS = "out_range=pc:out_color_matrix=bt601"
# To mono: as ffmpeg weighs the channels; the first one alone, which is W of ambisonic sound.
MIX = "aformat=channel_layouts=mono"
FIRST_CHANNEL = "pan=mono|c0=c0"
# Of samples of floats: how many are no finite numbers, printed with every frame.
COUNTED = "Number_of_NaNs+Number_of_Infs"
# Only where there are some: it computes in double precision.
MEND = "aeval=exprs='if(isnan(val(ch))+isinf(val(ch)),0,val(ch))':c=same"
# To SDR: linear light with white at 203 nits (ITU-R BT.2408), BT.709; brighter light is compressed.
TONE_MAP = (
    "zscale=tin={transfer}:pin=bt2020:min=bt2020nc:t=linear:npl=203,format=gbrpf32le,"
    "zscale=p=bt709,tonemap=tonemap=mobius:desat=0,zscale=t=bt709:r=full,format=gbrp"
)
# Of one picture alone: it is done to the kept ones only.
DEINTERLACE = "estdif=mode=frame:deint=interlaced"
# A picture a few pixels high must not become one of gigabytes.
MAX_ASPECT = 32


def audio_filters(duration_seconds: float, sample_rate_hz: int, mix: str) -> str:
    """Make mono, resampled sound from the clip's start; a late start and gaps become silence."""
    return (
        f"atrim=start=0,{mix},"
        f"aresample={sample_rate_hz}:async=1:first_pts=0,"
        f"atrim=end_sample={round(duration_seconds * sample_rate_hz)}"
    )


def pcm_filters(duration_seconds: float, sample_rate_hz: int, mix: str) -> str:
    """Make mono sound likewise, but leave each sample at its own time."""
    return f"atrim=start=0:end={duration_seconds:.6f},{mix},aresample={sample_rate_hz}"


class Look(NamedTuple):
    """What must be done to pictures before they are JPEG.

    Args:
        transfer: of high dynamic range, in zscale's words; empty = none.
    """

    is_interlaced: bool = False
    transfer: str = ""


def count_filters(counts_name: str) -> str:
    """Count bad samples into a file; before the channels are mixed."""
    return (
        f"astats=metadata=1:measure_overall=none:measure_perchannel={COUNTED},"
        f"ametadata=mode=print:file={counts_name}"
    )


def mean_of(num_channels: int) -> str:
    """Mix to mono by the mean of all channels, for channels without known positions."""
    return "pan=mono|c0=" + "+".join(f"{1 / num_channels:.6f}*c{n}" for n in range(num_channels))


def exact_frame_filters(
    duration_seconds: float, media: MediaConfig, look: Look, times_name: str
) -> str:
    """Take N frames, the last repeated where the video ends early; one tick of slack.

    The times of all pictures that are decoded go to the file ``times_name``; ffmpeg prints the
    time of those only that carry metadata.

    Padded before ``fps``, which drops a last frame that no moment falls on, and after it, for a
    video that ends long before the clip begins.
    """
    count = count_frames(duration_seconds, media)
    per_second = media.frame_rate or count / duration_seconds
    return (
        f"metadata=add:key=a:value=b,metadata=print:file={times_name},"
        f"tpad=stop_mode=clone:stop_duration={duration_seconds:.6f},"
        f"settb=1/{CLOCK_HZ},setpts=(T*{per_second!r}-0.5)/TB-1,fps=fps=1:start_time=0:round=up,"
        f"tpad=stop_mode=clone:stop={count},trim=end_frame={count},"
        f"{_picture_filters(media, look)},format={JPEG_PIXELS}"
    )


def key_frame_filters(
    key_seconds: Sequence[float], tolerance_seconds: float, media: MediaConfig, look: Look
) -> str:
    """Take the frames at ``key_seconds``, ascending, each once; other key frames are dropped."""
    wanted = "+".join(
        f"lt(abs(t-({seconds:.6f}))\\,{tolerance_seconds:.6f})" for seconds in key_seconds
    )
    return (
        f"select={wanted},trim=end_frame={len(key_seconds)},"
        f"{_picture_filters(media, look)},format={JPEG_PIXELS}"
    )


def _picture_filters(media: MediaConfig, look: Look) -> str:
    """Scale a kept picture and convert it to full-range BT.601, as JPEG has it."""
    deinterlaced = f"{DEINTERLACE}," if look.is_interlaced else ""
    if not look.transfer:
        return deinterlaced + _scale_filters(media, f"{SCALER}:{JPEG_COLOURS}")
    small = _scale_filters(media, SCALER)  # first: light is computed in floats
    mapped = TONE_MAP.format(transfer=look.transfer)
    return f"{deinterlaced}{small},{mapped},scale={SCALER}:{JPEG_COLOURS}"


def _scale_filters(media: MediaConfig, flags: str) -> str:
    """Scale with square pixels; ``dar`` is the shape as displayed."""
    side = media.frame_size
    if media.frame_fit == "stretch":
        return f"scale=w={side}:h={side}:{flags},setsar=1"
    width = f"'ceil({side}*clip(dar,1,{MAX_ASPECT}))'"
    height = f"'ceil({side}*clip(1/dar,1,{MAX_ASPECT}))'"
    scale = f"scale=w={width}:h={height}:{flags}"
    crop = f",crop={side}:{side}" if media.frame_fit == "crop" else ""
    return f"{scale}{crop},setsar=1"
