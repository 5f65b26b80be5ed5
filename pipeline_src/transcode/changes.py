"""Sound whose sampling rate, channels or sample format changes midway.

ffmpeg's filters begin anew at a change, and so does their clock. Such sound is therefore decoded
twice: first to samples that keep their times, which are then joined and encoded like any other.
"""

import wave
from dataclasses import replace
from pathlib import Path

import av
import numpy as np

from pipeline_src.config.data import MediaConfig
from pipeline_src.errors import MediaError
from pipeline_src.transcode.ffmpeg import call_ffmpeg
from pipeline_src.transcode.ffmpeg_command import ClipJob, build_pcm_arguments
from pipeline_src.transcode.frame_heads import MAX_DRIFT_SECONDS

MISFIT = "the sound's format changes midway, and then its times do not fit"
BACKWARDS_MESSAGE = "Non-monotonic DTS"
PCM_NAME = "sound.nut"
JOINED_NAME = "sound.wav"
SAMPLE_BYTES = 2


def join_sound(job: ClipJob, media: MediaConfig, folder: Path) -> ClipJob:
    """Return the job with its sound as one file of one format in ``folder``.

    Raises:
        MediaError: corrupt, timeout; unsupported where the times do not fit the samples.
    """
    arguments = build_pcm_arguments(job, media, PCM_NAME)
    try:
        call_ffmpeg(arguments, timeout_seconds=media.timeout_seconds, folder=folder)
    except MediaError as error:
        if BACKWARDS_MESSAGE in error.detail:
            raise MediaError("unsupported", f"{MISFIT}: {error.detail}") from error
        raise
    samples = _join(folder / PCM_NAME, media.sample_rate_hz)
    with wave.open(str(folder / JOINED_NAME), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(SAMPLE_BYTES)
        file.setframerate(media.sample_rate_hz)
        file.writeframes(samples.astype("<i2").tobytes())
    return replace(job, sound_path=folder / JOINED_NAME)


def _join(path: Path, rate: int) -> np.ndarray:
    """Join the samples in time order, with silence only before the first one.

    Returns:
        int16 of shape (num_samples,).

    Raises:
        MediaError: a packet does not begin where the one before it ends.
    """
    parts: list[np.ndarray] = []
    length = 0
    with av.open(str(path), format="nut") as container:
        for packet in container.demux(audio=0):
            if packet.pts is None or packet.time_base is None:
                continue
            position = round(float(packet.pts * packet.time_base) * rate)
            if not parts:
                parts.append(np.zeros(max(0, position), np.int16))
                length = position
            if abs(position - length) > MAX_DRIFT_SECONDS * rate:
                seconds, found = length / rate, position / rate
                raise MediaError("unsupported", f"{MISFIT}: {found:g} s where {seconds:g} s is due")
            parts.append(np.frombuffer(bytes(packet), "<i2"))
            length += len(parts[-1])
    return np.concatenate(parts) if parts else np.zeros(0, np.int16)
