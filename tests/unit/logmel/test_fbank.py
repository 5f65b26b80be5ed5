"""The filterbank's edges, and what the feature stage writes."""

import functools
import io

import numpy as np
import pytest
import torch

from pipeline_src.config.data import AudioConfig
from pipeline_src.errors import ManifestError
from pipeline_src.logmel import chunk
from pipeline_src.logmel.chunk import extract_chunk
from pipeline_src.logmel.fbank import log_mel
from pipeline_src.manifest.chunks import read_chunk
from pipeline_src.manifest.ledger import read_ledger
from pipeline_src.manifest.tars import read_samples
from pipeline_src.transcode.audio import read_flac, to_float
from tests import media

pytestmark = pytest.mark.slow

RATE_HZ = 16000


def test_a_constant_offset_changes_nothing():
    waveform_S = 0.2 * torch.randn(RATE_HZ, generator=torch.Generator().manual_seed(0))
    first, second = (log_mel(waveform_S + offset, AudioConfig(), RATE_HZ) for offset in (0, 0.25))
    torch.testing.assert_close(first, second, rtol=0, atol=1e-2)


@pytest.mark.parametrize(("num_samples", "num_frames"), [(400, 1), (559, 1), (560, 2), (16000, 98)])
def test_only_whole_windows_give_frames(num_samples, num_frames):
    waveform_S = torch.randn(num_samples, generator=torch.Generator().manual_seed(0))
    assert log_mel(waveform_S, AudioConfig(), RATE_HZ).shape == (num_frames, 128)


def extract(transcode_manifest, sample_rate_hz=RATE_HZ, name="logmel"):
    manifest_path = transcode_manifest.parent.parent / name / "00000.json"
    extract_chunk(
        transcode_manifest=transcode_manifest,
        manifest_path=manifest_path,
        ledger_path=manifest_path.with_suffix(".ledger.csv"),
        audio=AudioConfig(),
        sample_rate_hz=sample_rate_hz,
        num_workers=1,
        version=1,
    )
    return manifest_path


def test_stage_writes_the_log_mel_of_each_clip_and_carries_losses_on(tmp_path):
    media.make_clip(tmp_path / "a.mp4", seconds=1.5, tone=(0.5, 1.0))
    media.make_clip(tmp_path / "mute.mp4", tone=None)
    transcode_path = media.transcode(
        media.download(tmp_path, [{"source": "mute.mp4"}, {"source": "a.mp4", "clip_id": "a"}])
    )
    path = extract(transcode_path)
    manifest = read_chunk(path, "logmel")
    ((key, members),) = read_samples(path.with_suffix(".tar"))
    stored_TM = np.load(io.BytesIO(members["logmel.npy"]), allow_pickle=False)
    assert (key, stored_TM.dtype, manifest.clips[0]["clip_id"]) == ("a", np.float16, "a")
    assert stored_TM.shape == (148, 128)
    flac = media.read_transcoded(transcode_path)[1]["a"]["flac"]
    expected_TM = log_mel(torch.from_numpy(to_float(read_flac(flac))), AudioConfig(), RATE_HZ)
    np.testing.assert_array_equal(stored_TM, expected_TM.numpy().astype(np.float16))
    energy_T = stored_TM.astype(float).mean(axis=1)
    assert energy_T[55:95].min() > energy_T[:40].max()
    rows = {row.clip_id: row for row in read_ledger(path.with_suffix(".ledger.csv"))}
    assert (rows["mute.mp4"].status, rows["mute.mp4"].reason) == ("skipped", "no_audio")
    assert extract(transcode_path, name="again").read_bytes() == path.read_bytes()


def test_a_fault_that_nobody_foresaw_is_its_clips_row(tmp_path, monkeypatch, caplog):
    media.make_clip(tmp_path / "bad.mp4", seconds=0.7, tone=(0.1, 0.5))
    media.make_clip(tmp_path / "good.mp4")
    clips = [{"source": "bad.mp4"}, {"source": "good.mp4"}]
    transcode_path = media.transcode(media.download(tmp_path, clips))

    def failing(waveform, *rest, error=None):
        if error or len(waveform) < 0.9 * RATE_HZ:
            raise error or ZeroDivisionError("by zero")
        return log_mel(waveform, *rest)

    monkeypatch.setattr(chunk, "log_mel", failing)
    path = extract(transcode_path)
    rows = {row.clip_id: row for row in read_ledger(path.with_suffix(".ledger.csv"))}
    assert (rows["good.mp4"].status, rows["bad.mp4"].reason) == ("ok", "corrupt")
    assert rows["bad.mp4"].detail == "unforeseen ZeroDivisionError: by zero"
    assert "Traceback" in caplog.text
    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")):
        monkeypatch.setattr(chunk, "log_mel", functools.partial(failing, error=error))
        with pytest.raises(type(error)):
            extract(transcode_path, name="again")


def test_sound_of_any_rate_has_the_same_time_and_mel_axes(tmp_path):
    """The rate that the front end is told is the one after resampling (AVSiam: before)."""
    names = [f"{rate}.mp4" for rate in (16000, 44100, 48000)]
    for name in names:
        media.make_clip(tmp_path / name, sample_rate_hz=int(name[:5]))
    path = extract(media.transcode(media.download(tmp_path, [{"source": name} for name in names])))
    arrays = [
        np.load(io.BytesIO(members["logmel.npy"]))
        for _, members in read_samples(path.with_suffix(".tar"))
    ]
    assert [array.shape for array in arrays] == [(98, 128)] * 3
    assert len({int(array.astype(float).mean(0).argmax()) for array in arrays}) == 1


def test_another_sample_rate_is_refused(tmp_path):
    media.make_clip(tmp_path / "a.mp4")
    transcode_path = media.transcode(media.download(tmp_path, [{"source": "a.mp4"}]))
    with pytest.raises(ManifestError, match="16000 Hz, asked for 8000 Hz"):
        extract(transcode_path, sample_rate_hz=8000)


def test_a_torn_tar_is_refused(tmp_path):
    media.make_clip(tmp_path / "a.mp4")
    transcode_path = media.transcode(media.download(tmp_path, [{"source": "a.mp4"}]))
    tar = transcode_path.with_suffix(".tar")
    tar.write_bytes(tar.read_bytes()[:-1])
    with pytest.raises(ManifestError, match="delete the manifest and run again"):
        extract(transcode_path)
