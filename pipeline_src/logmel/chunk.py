"""Log-mel features of one chunk: FLAC members -> a tar of float16 arrays, manifest, ledger."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from pipeline_src.config.data import AudioConfig
from pipeline_src.errors import ManifestError, MediaError, as_clip_error
from pipeline_src.logmel.fbank import log_mel, num_window_samples
from pipeline_src.manifest.chunks import ChunkManifest, Clip, bulk_path, read_chunk
from pipeline_src.manifest.input_hash import hash_inputs
from pipeline_src.manifest.stage import Made, publish_chunk, write_results
from pipeline_src.manifest.tars import read_samples
from pipeline_src.system.progress import ProgressLine
from pipeline_src.transcode.audio import read_flac, to_float


def extract_chunk(
    *,
    transcode_manifest: Path,
    manifest_path: Path,
    ledger_path: Path,
    audio: AudioConfig,
    sample_rate_hz: int,
    num_workers: int,
    version: int,
) -> None:
    """Compute the log-mel of every transcoded clip of a chunk.

    Args:
        sample_rate_hz: must be what the clips were transcoded to.
        num_workers: torch threads.
    Raises:
        ManifestError: the clips have another sample rate, or their tar is not theirs.
    """
    source = read_chunk(transcode_manifest, "transcode")
    if source.settings["sample_rate_hz"] != sample_rate_hz:
        raise ManifestError(
            f"{transcode_manifest}: audio at {source.settings['sample_rate_hz']} Hz, "
            f"asked for {sample_rate_hz} Hz; delete it and run again"
        )
    torch.set_num_threads(num_workers)
    results = _extract_all(source, transcode_manifest, audio, sample_rate_hz)
    tar_path = manifest_path.with_suffix(".tar")
    rows, entries = write_results(tar_path, results)
    publish_chunk(
        "logmel",
        source,
        rows,
        entries,
        manifest_path=manifest_path,
        ledger_path=ledger_path,
        tar_path=tar_path,
        settings=source.settings | audio.model_dump(include={"num_mel_bins", "hop_length_ms"}),
        version=version,
        input_hash=hash_inputs(
            [transcode_manifest], version, audio=audio, sample_rate_hz=sample_rate_hz
        ),
    )


def _extract_all(
    source: ChunkManifest, manifest_path: Path, audio: AudioConfig, sample_rate_hz: int
) -> Iterator[tuple[Clip, Made | MediaError]]:
    """Yield each clip with its log-mel (T, M) or why it has none, in list order."""
    samples = read_samples(bulk_path(manifest_path, source))
    num_window = num_window_samples(audio, sample_rate_hz)
    with ProgressLine(f"log-mels of {source.id}", len(source.clips)) as progress:
        for clip in source.clips:
            sample = next(samples, ("", {}))
            try:
                waveform = torch.from_numpy(_read_waveform(clip, sample, num_window))
                made = _made(clip, log_mel(waveform, audio, sample_rate_hz).numpy())
            except Exception as error:
                made = as_clip_error(error, clip["clip_id"])
            yield clip, made
            progress.update()


def _made(clip: Clip, logmel: np.ndarray) -> Made:
    """Store a log-mel (T, M) as float16."""
    member = (f"{clip['key']}.logmel.npy", npy_bytes(logmel.astype(np.float16)))
    return Made({**clip, "num_logmel_frames": len(logmel)}, [member])


def _read_waveform(clip: Clip, sample: tuple[str, dict[str, bytes]], num_window: int) -> np.ndarray:
    """Decode a clip's FLAC to float32 (S,).

    Raises:
        ManifestError: the tar is another's. MediaError: broken, or shorter than a window.
    """
    key, members = sample
    if key != clip["key"] or "flac" not in members:
        raise ManifestError(
            f"transcode tar: found {key!r} where the manifest lists {clip['key']!r}"
        )
    return read_waveform(members["flac"], num_window)


def read_waveform(flac: bytes, num_window: int) -> np.ndarray:
    """Decode FLAC to float32 (S,) of at least ``num_window`` samples.

    Raises:
        MediaError: broken, or shorter.
    """
    samples = read_flac(flac)
    if len(samples) < num_window:
        raise MediaError("too_short", f"{len(samples)} samples; one window is {num_window}")
    return to_float(samples)


def npy_bytes(array: np.ndarray) -> bytes:
    """Return ``array`` as the content of a .npy file."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()
