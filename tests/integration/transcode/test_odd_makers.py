"""Recordings of odd makers: broadcasts of two programmes, sound of steps, encrypted, not media."""

import gzip
import struct

import numpy as np
import pytest

from tests.clock import (
    AAC,
    EIGHT,
    H264,
    SOUND_ONLY,
    check_clip,
    picture_of,
    record,
    remux,
    sound_of,
)
from tests.media import lose_one, run_ffmpeg, transcode_one

pytestmark = pytest.mark.slow


def test_sound_is_that_of_the_pictures_programme(tmp_path):
    """The other programme's, with more channels, was put to it."""
    inputs = [*picture_of(0, 4), *sound_of(0, 4, 48000)]
    inputs += ["-f", "lavfi", "-i", "color=s=32x32:r=25:d=4:c=white"]
    inputs += ["-f", "lavfi", "-i", "aevalsrc='0.5*sin(2*PI*3000*t)|0.5*sin(2*PI*3000*t)':d=4"]
    inputs += [part for number in range(4) for part in ("-map", str(number))]
    programmes = ("-program", "title=a:st=0:st=1", "-program", "title=b:st=2:st=3")
    run_ffmpeg(*inputs, *H264, *AAC, *programmes, output=tmp_path / "a.ts")
    check_clip(tmp_path, EIGHT, length=4, source="a.ts")
    check_clip(tmp_path, EIGHT, length=1.5, source="a.ts", start_seconds=1.7, end_seconds=3.2)


STEPS = {
    "a.wav": ("-ar", "16000", "-c:a", "g722"),
    "b.w64": ("-ar", "16000", "-c:a", "g722"),
    "c.wav": ("-c:a", "adpcm_yamaha"),
    "d.avi": ("-c:a", "adpcm_yamaha"),
    "e.mov": ("-c:a", "adpcm_yamaha"),
}


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("start", [0.4, 1.1])
def test_sound_of_steps_is_decoded_from_the_first(tmp_path, name, start):
    run_ffmpeg(*sound_of(0, 4), *STEPS[name], output=tmp_path / name)
    place = {"source": name, "start_seconds": start, "end_seconds": start + 1.5}
    check_clip(tmp_path, SOUND_ONLY, length=1.5, **place)


@pytest.mark.parametrize("name", ["a.wav", "b.w64", "c.caf"])
def test_sound_that_was_cut_off_is_short_of_what_its_head_states(tmp_path, name):
    path = run_ffmpeg(*sound_of(0, 4), "-c:a", "pcm_s16le", output=tmp_path / name)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 4 * 2])
    clip, _ = transcode_one(tmp_path, SOUND_ONLY, source=name)
    assert "short" in clip["flags"]
    assert clip["short_seconds"] == pytest.approx(2, abs=0.06)
    place = {"source": name, "start_seconds": 0.5, "end_seconds": 1.5}
    check_clip(tmp_path, SOUND_ONLY, length=1, flags=("decode_errors",), **place)  # ffmpeg reads on


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000])
def test_the_size_that_a_pipe_writes_promises_nothing(tmp_path, size):
    path = run_ffmpeg(*sound_of(0, 4), output=tmp_path / "a.wav")
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[4:8] = data[at : at + 4] = struct.pack("<I", size)
    path.write_bytes(data)
    clip, _ = transcode_one(tmp_path, SOUND_ONLY, source="a.wav")
    assert "short" not in clip["flags"]
    assert clip["audio_seconds"] == pytest.approx(4, abs=0.01)


def test_big_endian_wav_is_refused(tmp_path):
    samples = np.arange(16000, dtype=">i2").tobytes()
    form = struct.pack(">IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16)
    body = b"WAVEfmt " + form + b"data" + struct.pack(">I", len(samples)) + samples
    (tmp_path / "a.wav").write_bytes(b"RIFX" + struct.pack(">I", len(body)) + body)
    row = lose_one(tmp_path, SOUND_ONLY, source="a.wav")
    assert row.reason == "unsupported"
    assert "RIFX" in row.detail


def test_an_encrypted_recording_is_called_so(tmp_path):
    key = "76a6c65c5ea762046bd749a2e632ccbb"
    options = ("-encryption_scheme", "cenc-aes-ctr", "-encryption_key", key)
    record(tmp_path / "plain.mp4", *H264, *AAC)
    remux(tmp_path / "plain.mp4", tmp_path / "a.mp4", *options, "-encryption_kid", key)
    row = lose_one(tmp_path, EIGHT, source="a.mp4")
    assert row.reason == "unsupported"
    assert row.detail.startswith("encrypted")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (gzip.compress(bytes(9999)), "a gzip file"),
        (b"PK\x03\x04" + bytes(99), "a zip archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
    ],
    ids=("gzip", "zip", "lfs"),  # of gzip the content depends on the time
)
def test_what_is_no_recording_is_named(tmp_path, content, what):
    (tmp_path / "a.mp4").write_bytes(content)
    row = lose_one(tmp_path, EIGHT, source="a.mp4")
    assert row.reason == "unsupported"
    assert what in row.detail
