"""Sound in every container that is read, and sound of an odd make. Real ffmpeg."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from pipeline_src.config.data import MediaConfig
from pipeline_src.transcode.audio import read_flac
from pipeline_src.transcode.ffmpeg import find_ffmpeg
from tests.media import download, lose_one, read_transcoded, run_ffmpeg, transcode, transcode_one

pytestmark = pytest.mark.slow

SOUND = MediaConfig(num_frames=0)
# The pitch tells the time: 300 + 100 t Hz at t seconds.
CHIRP = "0.5*sin(2*PI*(300*t+50*t*t))"
RATE = SOUND.sample_rate_hz
WINDOW = 1600
PICTURE = ("-f", "lavfi", "-i", "testsrc=s=64x48:r=25:d=2")


def chirp(seconds: float = 2, rate: int = 44100, expression: str = CHIRP) -> tuple[str, ...]:
    """Input options."""
    return ("-f", "lavfi", "-i", f"aevalsrc='{expression}':s={rate}:d={seconds}")


def heard_seconds(flac: bytes) -> list[float]:
    """The time in its file that each quarter of a second of a clip tells by its pitch."""
    samples = read_flac(flac).astype(float)
    starts = range(0, len(samples) - WINDOW, RATE // 4)
    return [_pitch_seconds(samples[start : start + WINDOW]) for start in starts]


def _pitch_seconds(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(WINDOW), 16 * WINDOW))
    assert np.abs(samples).max() > 1000, "silence"
    return (float(np.argmax(spectrum)) * RATE / (16 * WINDOW) - 300) / 100


def assert_in_time(flac: bytes, start_seconds: float, seconds: float) -> None:
    assert len(read_flac(flac)) == pytest.approx(seconds * RATE, abs=0.05 * RATE)
    heard = heard_seconds(flac)
    middle = WINDOW / RATE / 2
    expected = [start_seconds + middle + 0.25 * k for k in range(len(heard))]
    assert heard == pytest.approx(expected, abs=0.04)


CONTAINERS = {
    "a.amr": ("-ar", "8000", "-c:a", "libopencore_amrnb"),
    "a.au": (),
    "a.caf": (),
    "a.dts": ("-c:a", "dca", "-strict", "-2"),
    "a.eac3": (),
    "a.loas": ("-c:a", "aac", "-f", "latm"),
    "a.mlp": ("-strict", "-2"),
    "a.rm": ("-c:a", "ac3"),
    "a.rso": ("-ar", "22050"),
    "a.sf": ("-f", "ircam"),
    "a.sox": (),
    "a.thd": ("-ar", "48000", "-strict", "-2", "-f", "truehd"),
    "a.tta": (),
    "a.voc": (),
    "a.w64": (),
    "a.wv": (),
    "rf64.wav": ("-rf64", "always"),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_sound_is_in_time_in_every_container(tmp_path, name):
    run_ffmpeg(*chirp(), *CONTAINERS[name], output=tmp_path / name)
    assert_whole_and_cut(tmp_path, name)


def assert_whole_and_cut(folder: Path, name: str) -> None:
    whole = {"clip_id": "whole", "source": name}
    cut = {"clip_id": "cut", "source": name, "start_seconds": 0.7, "end_seconds": 1.7}
    manifest, samples = read_transcoded(transcode(download(folder, [whole, cut]), SOUND))
    assert not manifest.dropped, manifest.dropped
    first, second = (samples[clip["key"]]["flac"] for clip in manifest.clips)
    assert_in_time(first, 0, 2)
    assert_in_time(second, 0.7, 1)


def test_nist_sphere_is_read_and_a_foreign_coding_is_unsupported(tmp_path):
    run_ffmpeg(*chirp(rate=16000), "-f", "s16le", output=tmp_path / "pcm")
    pcm = (tmp_path / "pcm").read_bytes()
    fields = {"channel_count": 1, "sample_count": len(pcm) // 2, "sample_rate": 16000}
    fields |= {"sample_n_bytes": 2, "sample_sig_bits": 16}
    lines = [f"{name} -i {value}" for name, value in fields.items()]
    for name, coding in (("a.sph", "pcm"), ("b.sph", "foreign")):
        texts = [f"sample_coding -s{len(coding)} {coding}", "sample_byte_format -s2 01", "end_head"]
        head = "\n".join(["NIST_1A", "   1024", *lines, *texts, ""]).encode()
        (tmp_path / name).write_bytes(head.ljust(1024, b"\0") + pcm)
    assert_whole_and_cut(tmp_path, "a.sph")
    assert lose_one(tmp_path, SOUND, source="b.sph").reason == "unsupported"


def test_an_au_file_of_an_unknown_coding_is_unsupported(tmp_path):
    data = bytearray(run_ffmpeg(*chirp(), output=tmp_path / "a.au").read_bytes())
    data[15] = 99
    (tmp_path / "a.au").write_bytes(data)
    assert lose_one(tmp_path, SOUND, source="a.au").reason == "unsupported"


@pytest.mark.parametrize("name", ["aiff", "w64"])
def test_a_file_without_sizes_is_unsupported(tmp_path, name):
    command = [find_ffmpeg(), "-v", "error", *chirp(), "-f", name, "-"]
    piped = subprocess.run(command, check=True, capture_output=True).stdout
    (tmp_path / "a").write_bytes(piped)
    row = lose_one(tmp_path, SOUND, source="a")
    assert (row.reason, "pipe" in row.detail) == ("unsupported", True)


def test_sound_whose_packets_tell_no_length_has_no_gaps(tmp_path):
    codecs = ("-c:v", "flv1", "-c:a", "adpcm_swf")
    run_ffmpeg(*PICTURE, *chirp(rate=22050), *codecs, output=tmp_path / "a.flv")
    clip, members = transcode_one(tmp_path, MediaConfig(frame_size=32), source="a.flv")
    assert_in_time(members["flac"], 0, 2)
    assert clip["flags"] == []


def test_wtv_has_sound_and_picture(tmp_path):
    name, codecs = "a.wtv", ("-c:v", "mpeg2video", "-c:a", "mp2")
    run_ffmpeg(*PICTURE, *chirp(rate=48000), *codecs, output=tmp_path / name)
    clip, members = transcode_one(tmp_path, MediaConfig(frame_size=32), source=name)
    assert_in_time(members["flac"], 0, 2)
    assert (clip["flags"], len(members)) == ([], 11)


UNREAD = {
    "a.ast": ("ast", ("-f", "ast")),
    "a.png": ("png_pipe", ()),
    "a.m3u8": ("hls", ("-c:a", "aac")),
    "a.srt": ("srt", ()),
}


@pytest.mark.parametrize("name", UNREAD)
def test_a_container_that_is_not_read_is_named(tmp_path, name):
    container, options = UNREAD[name]
    if name == "a.srt":
        (tmp_path / name).write_text("1\n00:00:00,000 --> 00:00:00,900\nwords\n")
    elif name == "a.png":
        run_ffmpeg(*PICTURE, "-frames:v", "1", output=tmp_path / name)
    else:
        run_ffmpeg(*chirp(), *options, output=tmp_path / name)
    row = lose_one(tmp_path, SOUND, source=name)
    assert row.reason == "unsupported"
    assert f"container {container}; accepted: 3g2,3gp," in row.detail


def test_bytes_of_no_container_are_corrupt(tmp_path):
    noise = np.random.default_rng(0).bytes(5000)
    (tmp_path / "a.mp4").write_bytes(noise)
    assert lose_one(tmp_path, SOUND, source="a.mp4").reason == "corrupt"


def joined(folder: Path, suffix: str, *codec: str) -> Path:
    """A second in stereo at 48 kHz and one in mono at 24 or 32 kHz, one after the other."""
    rate = 32000 if suffix == "ac3" else 24000
    t = "(t+1.024)"  # AC-3 frames last 32 ms
    later = f"0.5*sin(2*PI*(300*{t}+50*{t}*{t}))"
    parts = ((chirp(1, 48000), "2"), (chirp(1, rate, later), "1"))
    paths = [folder / f"{n}.{suffix}" for n in range(2)]
    for path, (source, channels) in zip(paths, parts, strict=True):
        run_ffmpeg(*source, "-ac", channels, *codec, output=path)
    both = folder / f"joined.{suffix}"
    both.write_bytes(b"".join(path.read_bytes() for path in paths))
    return both


@pytest.mark.parametrize("name", ["a.mkv", "a.ts", "a.ac3"])
def test_sound_whose_format_changes_midway_is_in_time(tmp_path, name):
    both = joined(tmp_path, "ac3", "-c:a", "ac3")
    run_ffmpeg("-i", str(both), "-c", "copy", output=tmp_path / name)
    whole = {"source": name, "start_seconds": 0, "end_seconds": 1.8}
    assert_in_time(transcode_one(tmp_path, SOUND, **whole)[1]["flac"], 0, 1.8)
    cut = {"source": name, "start_seconds": 0.7, "end_seconds": 1.7}
    assert_in_time(transcode_one(tmp_path, SOUND, **cut)[1]["flac"], 0.7, 1)


def test_such_sound_beside_a_picture_keeps_both_in_time(tmp_path):
    both = joined(tmp_path, "ac3", "-c:a", "ac3")
    options = ["-c:v", "mpeg4", "-c:a", "copy"]
    run_ffmpeg(*PICTURE, "-i", str(both), *options, output=tmp_path / "a.mkv")
    clip, members = transcode_one(tmp_path, MediaConfig(frame_size=32), source="a.mkv")
    assert_in_time(members["flac"], 0, 2)
    assert (clip["flags"], len(members)) == ([], 11)


@pytest.mark.parametrize("name", ["joined.aac", "joined.mp4"])
def test_sound_is_unsupported_where_its_times_do_not_follow_the_change(tmp_path, name):
    if name == "joined.aac":  # raw
        joined(tmp_path, "aac")
    else:  # MP4 tells the first rate alone
        joined(tmp_path, "ac3")
        for part in ("0", "1"):
            source, target = tmp_path / f"{part}.ac3", tmp_path / f"{part}.mp4"
            run_ffmpeg("-i", str(source), "-c", "copy", output=target)
        (tmp_path / "list").write_text("file 0.mp4\nfile 1.mp4\n")
        pieces = ["-f", "concat", "-i", str(tmp_path / "list"), "-c", "copy"]
        run_ffmpeg(*pieces, output=tmp_path / name)
    row = lose_one(tmp_path, SOUND, source=name)
    told = "another begins" if name == "joined.aac" else "format changes midway"
    assert (row.reason, told in row.detail) == ("unsupported", True)


def test_of_ambisonic_sound_the_channel_of_all_directions_is_heard(tmp_path):
    side = "0.3*sin(2*PI*3000*t)"
    four = chirp(2, 48000, "|".join([CHIRP, side, side, side]))
    codec = ["-c:a", "libopus", "-mapping_family", "255", "-b:a", "256k"]
    path = run_ffmpeg(*four, *codec, output=tmp_path / "a.mka")
    data = bytearray(path.read_bytes())
    data[data.index(b"OpusHead") + 18] = 2  # RFC 8486: ambisonics, as in videos of 360 degrees
    path.write_bytes(data)
    assert_whole_and_cut(tmp_path, "a.mka")
    samples = read_flac(transcode_one(tmp_path, SOUND, source="a.mka")[1]["flac"]).astype(float)
    spectrum = np.abs(np.fft.rfft(samples[: 2 * RATE - 1600]))
    assert spectrum[5000:7000].max() < 0.01 * spectrum.max()


@pytest.mark.parametrize("channels", [9, 11, 16, 22])
def test_channels_of_no_known_place_are_mixed_alike(tmp_path, channels):
    mixed = f"asplit={channels},amerge=inputs={channels}"
    run_ffmpeg(*chirp(), "-filter_complex", mixed, "-c:a", "pcm_s16le", output=tmp_path / "a.mka")
    _, members = transcode_one(tmp_path, SOUND, source="a.mka")
    assert_in_time(members["flac"], 0, 2)
    assert np.abs(read_flac(members["flac"])).max() == pytest.approx(16384, rel=0.02)
