"""Settings for what users choose: silent mixes and tracks, bad samples, HDR, interlacing."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline_src.config.data import MediaConfig
from pipeline_src.transcode.audio import read_flac
from tests.media import lose_one, run_ffmpeg, transcode_one

pytestmark = pytest.mark.slow

SOUND = MediaConfig(num_frames=0)
TONE = "0.5*sin(2*PI*440*t)"


def loudness(members: dict[str, bytes]) -> int:
    return int(np.abs(read_flac(members["flac"]).astype(int)).max())


def two_channels(path: Path, left: str, right: str) -> Path:
    source = ["-f", "lavfi", "-i", f"aevalsrc='{left}|{right}':c=stereo:s=44100:d=1"]
    return run_ffmpeg(*source, "-c:a", "pcm_s16le", output=path)


@pytest.mark.parametrize(
    ("downmix", "loud", "flags"),
    [
        ("mix", False, ["silent_audio"]),
        ("first", True, []),
        ("first_if_silent", True, ["other_sound"]),
    ],
)
def test_stereo_of_opposite_phase_follows_the_setting(tmp_path, downmix, loud, flags):
    two_channels(tmp_path / "a.mka", TONE, f"-{TONE}")
    config = SOUND.model_copy(update={"downmix": downmix})
    clip, members = transcode_one(tmp_path, config, source="a.mka")
    assert (loudness(members) > 15000, clip["flags"]) == (loud, flags)


def test_a_mix_that_is_heard_is_not_replaced(tmp_path):
    two_channels(tmp_path / "a.mka", "0", TONE)
    config = SOUND.model_copy(update={"downmix": "first_if_silent"})
    clip, members = transcode_one(tmp_path, config, source="a.mka")
    assert (loudness(members) > 7000, clip["flags"]) == (True, [])


@pytest.mark.parametrize(
    ("track", "loud", "flags"),
    [("best", False, ["silent_audio"]), ("first_not_silent", True, ["other_sound"])],
)
def test_a_silent_first_track_follows_the_setting(tmp_path, track, loud, flags):
    inputs = ["-f", "lavfi", "-i", "anullsrc=r=48000:cl=mono:d=1"]
    inputs += ["-f", "lavfi", "-i", f"aevalsrc='{TONE}':s=48000:d=1"]
    maps = ["-map", "0", "-map", "1", "-t", "1", "-c:a", "pcm_s16le"]
    run_ffmpeg(*inputs, *maps, output=tmp_path / "a.mov")
    config = SOUND.model_copy(update={"audio_track": track})
    clip, members = transcode_one(tmp_path, config, source="a.mov")
    assert (loudness(members) > 15000, clip["flags"]) == (loud, flags)


@pytest.mark.parametrize("codec", ["pcm_f32le", "pcm_f64le"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_become_zeros(tmp_path, codec, bad):
    path = floats(tmp_path, codec, bad)
    clip, members = transcode_one(tmp_path, SOUND, source=path.name)
    assert clip["flags"] == ["bad_samples"]
    assert loudness(members) < 18000  # no click
    config = SOUND.model_copy(update={"bad_samples": "reject"})
    row = lose_one(tmp_path, config, source=path.name)
    assert (row.reason, "5 samples" in row.detail) == ("corrupt", True)


def floats(folder: Path, codec: str, bad: float) -> Path:
    """A tone in stereo with five bad samples in one channel."""
    kind = np.dtype("<f4" if codec == "pcm_f32le" else "<f8")
    source = ["-f", "lavfi", "-i", f"aevalsrc='{TONE}|{TONE}':s=16000:d=1"]
    path = run_ffmpeg(*source, "-c:a", codec, output=folder / "a.wav")
    data = path.read_bytes()
    begin = data.index(b"data") + 8
    samples = np.frombuffer(data[begin:], kind).copy()
    samples[8000:8010:2] = bad
    path.write_bytes(data[:begin] + samples.tobytes())
    return path


def test_floats_that_are_numbers_have_no_flag(tmp_path):
    clip, _ = transcode_one(tmp_path, SOUND, source=floats(tmp_path, "pcm_f32le", 0.1).name)
    assert clip["flags"] == []


def grey(members: dict[str, bytes], name: str = "frame_00.jpg") -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(members[name])).convert("L"), float)


@pytest.mark.parametrize(
    ("transfer", "white"), [("smpte2084", 0.58), ("arib-std-b67", 0.75)]
)  # signal of a white page, 203 nits
@pytest.mark.parametrize("times", ["exact", "keyframe"])
def test_high_dynamic_range_is_mapped_or_kept(tmp_path, transfer, white, times):
    tags = f"setparams=color_trc={transfer}:color_primaries=bt2020:colorspace=bt2020nc:range=tv"
    level = f"geq=lum='64+876*{white}*gte(X,32)':cb=512:cr=512"
    video = f"color=s=64x64:r=10:d=1,format=yuv420p10le,{level},{tags}"
    codec = ["-c:v", "libx265", "-x265-params", "log-level=error", "-pix_fmt", "yuv420p10le"]
    sound = ["-f", "lavfi", "-i", "sine=d=1"]
    run_ffmpeg("-f", "lavfi", "-i", video, *sound, *codec, output=tmp_path / "a.mp4")
    seen = {}
    for hdr in ("tone_map", "keep"):
        config = MediaConfig(num_frames=2, frame_size=64, hdr=hdr, frame_times=times)
        _, members = transcode_one(tmp_path, config, source="a.mp4")
        assert len(members) == 3
        seen[hdr] = grey(members)
    assert seen["tone_map"][:, 40:].mean() == pytest.approx(215, abs=4)
    assert seen["keep"][:, 40:].mean() == pytest.approx(255 * white, abs=4)
    assert seen["tone_map"][:, :24].mean() < 4


@pytest.mark.parametrize("times", ["exact", "keyframe"])
def test_interlaced_pictures_are_deinterlaced_or_not(tmp_path, times):
    """A bar moves on between the two fields of a picture: it has combs."""
    bar = "geq=lum='if(between(X,N*4,N*4+15),220,30)':cb=128:cr=128"
    video = f"color=s=128x96:r=20:d=1.2,{bar},interlace=scan=tff:lowpass=0"
    codec = ["-c:v", "mpeg2video", "-q:v", "2", "-g", "1", "-flags", "+ildct+ilme", "-c:a", "mp2"]
    sound = ["-f", "lavfi", "-i", "sine=d=1.2"]
    run_ffmpeg("-f", "lavfi", "-i", video, *sound, *codec, output=tmp_path / "a.mkv")
    combs = {}
    for choice in ("flagged", "never"):
        config = MediaConfig(num_frames=4, frame_size=96, deinterlace=choice, frame_times=times)
        _, members = transcode_one(tmp_path, config, source="a.mkv")
        assert len(members) == 5
        rows = grey(members, "frame_01.jpg")
        combs[choice] = np.abs(np.diff(rows, axis=0)).mean()
    assert combs["flagged"] < combs["never"] / 3
