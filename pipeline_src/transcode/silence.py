"""Videos without sound, for readers that want the pictures alone: silence is put beside them.

The workflow refuses such clips. What comes after this file then treats them as any other.
"""

from pathlib import Path

from pipeline_src.errors import MediaError
from pipeline_src.transcode.ffmpeg import call_ffmpeg
from pipeline_src.transcode.formats import INPUT_OPTIONS, input_url

SILENCE = "anullsrc=channel_layout=mono:sample_rate=16000"


def add_silence(source: Path, target: Path, *, timeout_seconds: float, max_bytes: int) -> None:
    """Write a Matroska file of the pictures of ``source``, as they are, and as much silence.

    Args:
        max_bytes: it ends there.
    Raises:
        MediaError: ``timeout``, or ``unsupported`` where the pictures cannot be copied.
    """
    options = [part for name, value in INPUT_OPTIONS.items() for part in (f"-{name}", value)]
    try:
        call_ffmpeg(
            [
                *("-hide_banner", "-nostdin", "-loglevel", "error"),
                *(*options, "-i", input_url(source.absolute())),
                *("-f", "lavfi", "-i", SILENCE),
                *("-map", "0:V:0", "-map", "1:a:0", "-c:v", "copy", "-c:a", "pcm_s16le"),
                *("-shortest", "-fs", str(max_bytes), "-f", "matroska"),
                input_url(target.absolute()),
            ],
            timeout_seconds=timeout_seconds,
            folder=target.parent,
        )
    except MediaError as error:
        if error.reason == "timeout":
            raise
        raise MediaError("unsupported", f"pictures without sound: {error.detail}") from error
