"""Sections of the data stages: plan, download, rate_limits, media, audio, shards, remote."""

from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline_src.config.page_options import option_problem
from pipeline_src.config.section import OPERATIONAL, Section


class PlanConfig(Section):
    """How a clip list is cut into units of work."""

    chunk_size: int = Field(
        default=1000,
        gt=0,
        le=20000,
        description="clips per chunk: one job, and one shard up to shards.target_bytes",
    )


class DownloadConfig(Section):
    """How raw clips are fetched."""

    timeout_seconds: float = Field(
        default=60.0,
        gt=0,
        description="no byte for this long ends an attempt",
        json_schema_extra=OPERATIONAL,
    )
    max_attempts: int = Field(
        default=3,
        gt=0,
        description="attempts per clip for transient errors",
        json_schema_extra=OPERATIONAL,
    )
    max_bytes: int = Field(
        default=2_000_000_000, gt=0, description="a larger file or archive member is refused"
    )
    max_transfer_seconds: float = Field(
        default=3600.0,
        gt=0,
        description="an attempt that takes longer ends, whatever it brings",
        json_schema_extra=OPERATIONAL,
    )
    ytdlp_format: str = Field(
        default="bv*[height<=480]+ba/b[height<=480]/bv*+ba/b",
        description="yt-dlp's format selection for youtube:<id> and other pages",
    )
    ytdlp_options: dict[str, Any] = Field(
        default={},
        description="further options of yt_dlp.YoutubeDL, of those that run and write nothing; "
        "secrets go into PIPELINE_COOKIES, PIPELINE_PROXY and PIPELINE_YTDLP_OPTIONS (JSON) of the "
        "environment",
    )
    num_connections: int = Field(
        default=8,
        gt=0,
        le=256,
        description="http(s) and yt-dlp transfers at a time per chunk",
        json_schema_extra=OPERATIONAL,
    )
    addresses: Literal["public", "listed", "private", "any"] = Field(
        default="listed",
        description="where a fetch may go: public addresses; listed: to private and loopback ones "
        "only where the list's own source is at one; private: also where a public one leads to "
        "one; any: link-local and metadata addresses too",
    )

    @model_validator(mode="after")
    def _check_options(self) -> "DownloadConfig":
        if problem := option_problem(self.ytdlp_options):
            raise ValueError(f"ytdlp_options.{problem}")
        return self


class RateLimitConfig(Section):
    """How politely hosts are asked, all jobs together. No result depends on it: nothing re-runs."""

    requests_per_second: float = Field(
        default=5.0, ge=0, description="transfers begun per host; 0 = no limit"
    )
    host_requests_per_second: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default={"youtube.com": 0.5}, description="the same for single hosts"
    )
    connections_per_host: int = Field(
        default=8, gt=0, le=256, description="transfers at a time per host"
    )
    backoff_seconds: float = Field(
        default=2.0, ge=0, description="wait after a clip's first failure; doubles, with jitter"
    )
    max_backoff_seconds: float = Field(default=120.0, ge=0, description="longest such wait")
    pause_seconds: float = Field(
        default=60.0,
        gt=0,
        description="first pause of a host after a 429 or a bot check; doubles until it answers",
    )
    max_pause_seconds: float = Field(
        default=3600.0, gt=0, description="longest pause, also where the host asks for more"
    )
    max_pauses: int = Field(
        default=5,
        gt=0,
        description="pauses in a row before the clips of a host end as rate_limited or bot_check",
    )


class MediaConfig(Section):
    """How one clip becomes 16 kHz mono audio and JPEG frames."""

    old_keys = MappingProxyType({"out_of_range": "short_clips"})
    old_values = MappingProxyType({"frame_fit": {"squash": "stretch"}})

    sample_rate_hz: int = Field(default=16000, ge=4000, le=192000, description="audio sample rate")
    num_frames: int = Field(
        default=10,
        ge=0,
        le=1000,
        description="frames per clip, uniform in time, mid-bin; 0 = by frame_rate",
    )
    frame_rate: float = Field(
        default=0.0,
        ge=0,
        le=60,
        description="frames per second of the clip, mid-bin; 0 = by num_frames",
    )
    frame_size: int = Field(
        default=224,
        ge=16,
        le=2048,
        description="side of the square frame or, with short_side, the shorter side, in pixels",
    )
    frame_times: Literal["exact", "keyframe"] = Field(
        default="exact",
        description="exact: the frames of the mid-bin moments; keyframe: the key frames nearest to "
        "them, and only key frames are decoded",
    )
    frame_fit: Literal["crop", "stretch", "short_side"] = Field(
        default="crop",
        description="crop: shorter side to frame_size, then centre crop; stretch: both sides; "
        "short_side: shorter side, nothing cut off (the loader crops)",
    )
    jpeg_quality: int = Field(
        default=2, ge=1, le=31, description="ffmpeg -q:v of the frames: 1 best, 31 worst"
    )
    min_seconds: float = Field(default=0.2, gt=0, description="a shorter clip is too_short")
    max_seconds: float = Field(
        default=600.0, gt=0, description="longest clip that a list may ask for"
    )
    max_pixels: int = Field(
        default=8192 * 4320,
        gt=0,
        le=2**28,
        description="larger pictures are unsupported; refused before they are decoded",
    )
    decode_errors: Literal["reject", "tolerate"] = Field(
        default="reject",
        description="clips with damaged streams: reject as corrupt, or tolerate: keep what can be "
        "decoded, with the flag decode_errors",
    )
    short_clips: Literal["cut", "reject"] = Field(
        default="cut",
        description="clips that end before their listed end: cut: keep them with the flag short; "
        "reject as too_short",
    )
    downmix: Literal["mix", "first", "first_if_silent"] = Field(
        default="mix",
        description="how sound becomes mono: mix: all channels as ffmpeg weighs them, so stereo of "
        "opposite phase is silent; first: the first channel; first_if_silent: that one where the "
        "mix is silent, with the flag other_sound",
    )
    audio_track: Literal["best", "first_not_silent"] = Field(
        default="best",
        description="best: the track that the file names as its main one; first_not_silent: "
        "another one where that one is silent, with the flag other_sound",
    )
    bad_samples: Literal["zero", "reject"] = Field(
        default="zero",
        description="samples that are no finite numbers, in PCM of floats: zero: they become 0, "
        "with the flag bad_samples; reject the clip as corrupt",
    )
    hdr: Literal["tone_map", "keep"] = Field(
        default="tone_map",
        description="pictures of high dynamic range (PQ, HLG): tone_map: to SDR, BT.709, white at "
        "203 nits; keep: their values as if they were SDR",
    )
    deinterlace: Literal["flagged", "never"] = Field(
        default="flagged",
        description="flagged: pictures that are flagged as interlaced are deinterlaced",
    )
    timeout_seconds: float = Field(
        default=120.0,
        gt=0,
        description="ffmpeg is killed after this long on one clip",
        json_schema_extra=OPERATIONAL,
    )
    clips_per_process: int = Field(
        default=32,
        gt=0,
        le=256,
        description="clips decoded by one ffmpeg process; one by one when a batch fails",
        json_schema_extra=OPERATIONAL,
    )

    @model_validator(mode="after")
    def _check_lengths(self) -> "MediaConfig":
        if self.min_seconds >= self.max_seconds:
            raise ValueError(
                f"min_seconds={self.min_seconds} must be below max_seconds={self.max_seconds}"
            )
        return self

    @model_validator(mode="after")
    def _check_frames(self) -> "MediaConfig":
        if self.num_frames and self.frame_rate:
            raise ValueError(
                f"num_frames={self.num_frames} and frame_rate={self.frame_rate:g} both say how "
                "many frames a clip has; set one of them to 0"
            )
        return self

    @property
    def has_frames(self) -> bool:
        """Whether frames are made at all; not for data sets of sound alone."""
        return self.num_frames > 0 or self.frame_rate > 0

    def without_frames(self) -> "MediaConfig":
        """Return the same for a data set whose clips have no video."""
        return self.model_copy(update={"num_frames": 0, "frame_rate": 0.0})


class AudioConfig(Section):
    """Kaldi log-mel filterbank (CAV-MAE, AVSiam front end)."""

    num_mel_bins: int = Field(default=128, ge=8, le=512, description="mel bins")
    window_length_ms: float = Field(default=25.0, gt=0, description="Hanning window")
    hop_length_ms: float = Field(default=10.0, gt=0, description="time between frames")
    low_freq_hz: float = Field(default=20.0, ge=0, description="low edge of the first mel bin")
    high_freq_hz: float = Field(
        default=0.0, description="high edge; 0 = half the sample rate, negative = offset from it"
    )


class ShardsConfig(Section):
    """How clips are packed."""

    waveform: bool = Field(default=True, description="keep the 16 kHz audio as .flac in the shards")
    target_bytes: int = Field(
        default=1_000_000_000,
        ge=1_000_000,
        description="a chunk's next shard begins once one holds so many bytes; plan.chunk_size "
        "bounds the clips",
    )
    exclude_flags: tuple[
        Literal[
            "silent_audio",
            "static_video",
            "short",
            "gaps",
            "decode_errors",
            "other_sound",
            "bad_samples",
            "open_end",
            "duplicate",
        ],
        ...,
    ] = Field(
        default=(),
        description="clips with one of these flags stay out of the shards; duplicate: out of "
        "the index, the shards stay as they are",
    )
    max_failed_fraction: float = Field(
        default=0.2,
        ge=0,
        le=1,
        json_schema_extra=OPERATIONAL,
        description="share of a split's clips that may be lost before the stage fails",
    )

    @property
    def excludes_duplicates(self) -> bool:
        """Whether the index leaves duplicates out."""
        return "duplicate" in self.exclude_flags

    @property
    def of_tars(self) -> "ShardsConfig":
        """What the tars depend on; the values of the index alone are left at their defaults."""
        return ShardsConfig(
            waveform=self.waveform,
            target_bytes=self.target_bytes,
            exclude_flags=tuple(flag for flag in self.exclude_flags if flag != "duplicate"),
        )


class RemoteConfig(Section):
    """How shards at URLs are read. No result depends on it: nothing re-runs."""

    cache_folder: str = Field(
        default="",
        description="what has been read is kept here, best on a local disk; $VARIABLES are "
        "replaced where it is read; empty = a folder below the system's for temporary files",
    )
    cache_gigabytes: float = Field(
        default=20.0, gt=0, description="disk space that the folder may take"
    )
    num_connections: int = Field(
        default=8, gt=0, le=64, description="transfers at a time per loader process"
    )
    max_attempts: int = Field(default=5, gt=0, description="attempts per clip")
    backoff_seconds: float = Field(
        default=1.0, ge=0, description="wait after the first failure; doubles, with jitter"
    )
    timeout_seconds: float = Field(
        default=60.0, gt=0, description="no byte for this long ends an attempt"
    )
    max_transfer_seconds: float = Field(
        default=3600.0, gt=0, description="an attempt that takes longer ends, whatever it brings"
    )
