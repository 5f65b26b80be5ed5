"""Files as they are found: turned, uneven, many streams, odd, late, damaged. Real ffmpeg."""

import csv
import io
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline_src.config.data import AudioConfig, MediaConfig
from pipeline_src.manifest.ledger import read_ledger
from pipeline_src.manifest.tars import read_samples
from pipeline_src.transcode import memory
from pipeline_src.transcode.audio import read_flac
from pipeline_src.transcode.ffmpeg import find_ffmpeg
from tests import media
from tests.media import LEVEL_STEP, lose_one, make_clip, run_ffmpeg, transcode_one

pytestmark = pytest.mark.slow

TEN = MediaConfig(num_frames=10, frame_size=32)
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "4", "-c:a", "aac")


# Files as they are found, with the verdict on each in manifest.csv; another folder by FOUND_FILES.
FOUND = Path(os.environ.get("FOUND_FILES", Path(__file__).parents[3] / "tests/assets"))
REASONS_OF_KIND = {
    "ok": {""},
    "no_audio": {"no_audio"},
    "no_video": {"no_video"},
    "broken": {"corrupt"},
    "broken_no_audio": {"corrupt", "no_audio"},
}


def found_files():
    with (FOUND / "manifest.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def picture(members, name="frame_00.jpg"):
    return np.asarray(Image.open(io.BytesIO(members[name])).convert("L"), float)


def sound(members):
    return np.abs(read_flac(members["flac"]).astype(float))


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_turned_video_is_shown_upright(tmp_path, degrees):
    bright_left = "color=s=64x48:r=10:d=1,geq=lum='if(lt(X,32),200,40)':cb=128:cr=128"
    tone = ["-f", "lavfi", "-i", "sine=d=1"]
    run_ffmpeg("-f", "lavfi", "-i", bright_left, *tone, *media.CODECS, output=tmp_path / "a.mp4")
    turn = ["-display_rotation:v:0", str(degrees), "-i", str(tmp_path / "a.mp4"), "-c", "copy"]
    run_ffmpeg(*turn, output=tmp_path / "turned.mp4")
    config = MediaConfig(num_frames=1, frame_size=48, frame_fit="short_side")
    turned = picture(transcode_one(tmp_path, config, source="turned.mp4")[1])
    assert turned.shape == ((48, 64) if degrees == 180 else (64, 48))
    upright = np.rot90(turned, -degrees // 90)  # it was turned against the clock
    assert upright[:, :20].mean() > 190 > 60 > upright[:, -20:].mean()


def test_frames_of_an_uneven_video_are_those_shown_at_the_moments(tmp_path):
    times = "setpts='if(lt(N,5),N,3*N-10)'"
    options = ["-vf", times, "-fps_mode", "vfr", *media.CODECS]
    make_clip(tmp_path / "a.mp4", seconds=2, video_seconds=1, options=options)
    starts = np.array([0.1 * (n if n < 5 else 3 * n - 10) for n in range(10)])
    clip, members = transcode_one(tmp_path, TEN, source="a.mp4", start_seconds=0, end_seconds=2)
    expected = [int(np.searchsorted(starts, t + 1e-6)) - 1 for t in clip["frame_seconds"]]
    assert media.frame_numbers(members) == expected
    assert len(set(expected)) > 5


def test_the_main_streams_of_many_are_taken(tmp_path):
    make_clip(tmp_path / "a.mp4", tone=None)
    make_clip(tmp_path / "b.mp4", tone=(0.4, 0.6))
    make_clip(tmp_path / "silent.m4a", tone=(50, 60), has_video=False)
    make_clip(tmp_path / "grey.mp4", is_static=True, tone=None)
    (tmp_path / "words.srt").write_text("1\n00:00:00,000 --> 00:00:00,900\nwords\n")
    names = ("grey.mp4", "silent.m4a", "words.srt", "b.mp4")
    inputs = [part for name in names for part in ("-i", str(tmp_path / name))]
    maps = [part for name in ("0:v", "1:a", "2:s", "3:v", "3:a") for part in ("-map", name)]
    main = ["-disposition:v:0", "0", "-disposition:v:1", "default"]
    main += ["-disposition:a:0", "0", "-disposition:a:1", "default", "-c", "copy"]
    run_ffmpeg(*inputs, *maps, *main, output=tmp_path / "many.mkv")
    _, members = transcode_one(tmp_path, TEN, source="many.mkv", end_seconds=1, start_seconds=0)
    loud = np.flatnonzero(sound(members) > 2000) / TEN.sample_rate_hz
    assert loud.min() == pytest.approx(0.4, abs=0.02)
    assert media.frame_numbers(members) == list(range(10))


def test_a_cover_that_is_not_marked_as_one_is_not_shown(tmp_path):
    """Nor where it is larger, and comes first."""
    make_clip(tmp_path / "a.mp4")
    cover = ["-f", "lavfi", "-i", "color=red:s=640x640:d=1"]
    run_ffmpeg(*cover, "-frames:v", "1", output=tmp_path / "cover.png")
    inputs = ["-i", str(tmp_path / "cover.png"), "-i", str(tmp_path / "a.mp4")]
    run_ffmpeg(*inputs, "-map", "0", "-map", "1", "-c", "copy", output=tmp_path / "b.mkv")
    clip, members = transcode_one(tmp_path, TEN, source="b.mkv")
    assert media.frame_numbers(members) == list(range(10))
    assert clip["flags"] == []


@pytest.mark.parametrize(
    ("pixels", "codec"),
    [
        ("yuv444p", H264),
        ("yuv420p10le", H264),
        ("yuv420p10le", ("-c:v", "libx265", "-x265-params")),
    ],
)
def test_odd_sizes_and_ten_bits(tmp_path, pixels, codec):
    size = "65x49" if pixels == "yuv444p" else "64x48"
    if codec is not H264:
        codec = (*codec, "log-level=error:crf=2", "-preset", "ultrafast", "-c:a", "aac")
    make_clip(tmp_path / "a.mp4", size=size, options=(*codec, "-pix_fmt", pixels))
    config = TEN.model_copy(update={"frame_fit": "short_side"})
    _, members = transcode_one(tmp_path, config, source="a.mp4", start_seconds=0, end_seconds=1)
    assert media.frame_numbers(members) == list(range(10))
    assert picture(members).shape == (32, 43)


def test_the_centre_of_five_channels_is_heard(tmp_path):
    make_clip(tmp_path / "a.mp4", tone=None)
    silence = "0|0|0.5*sin(2*PI*1000*t)|0|0|0"
    surround = ["-f", "lavfi", "-i", f"aevalsrc='{silence}':c=5.1:s=48000:d=1"]
    options = ["-c:v", "copy", "-c:a", "ac3"]
    run_ffmpeg("-i", str(tmp_path / "a.mp4"), *surround, *options, output=tmp_path / "b.mp4")
    clip, members = transcode_one(tmp_path, TEN, source="b.mp4")
    assert sound(members).max() > 2000
    assert clip["flags"] == []


def test_sound_that_starts_late_stays_in_its_place(tmp_path):
    make_clip(tmp_path / "a.mp4", tone=None, seconds=2)
    tone = ["-itsoffset", "0.7", "-f", "lavfi", "-i", "sine=f=1000:d=1:r=44100"]
    options = ["-c:v", "copy", "-c:a", "aac"]
    run_ffmpeg("-i", str(tmp_path / "a.mp4"), *tone, *options, output=tmp_path / "b.mp4")
    _, members = transcode_one(tmp_path, TEN, source="b.mp4", start_seconds=0.2, end_seconds=1.7)
    loud = np.flatnonzero(sound(members) > 1000) / TEN.sample_rate_hz
    assert loud[0] == pytest.approx(0.5, abs=0.01)
    assert media.frame_numbers(members) == [int(2.75 + 1.5 * k) for k in range(10)]


def test_sound_that_ends_early_leaves_the_frames_of_the_whole_clip(tmp_path):
    make_clip(tmp_path / "a.mp4", tone=None, seconds=2)
    tone = ["-f", "lavfi", "-i", "sine=f=1000:d=0.7:r=44100", "-c:v", "copy", "-c:a", "aac"]
    run_ffmpeg("-i", str(tmp_path / "a.mp4"), *tone, output=tmp_path / "b.mp4")
    clip, members = transcode_one(tmp_path, TEN, source="b.mp4")
    assert clip["duration_seconds"] == pytest.approx(2, abs=0.05)
    assert clip["audio_seconds"] == pytest.approx(0.7, abs=0.05)
    assert len(sound(members)) == round(clip["audio_seconds"] * TEN.sample_rate_hz)
    assert clip["frame_seconds"] == pytest.approx([0.1 + 0.2 * k for k in range(10)], abs=0.05)
    assert media.frame_numbers(members) == [1 + 2 * k for k in range(10)]
    assert clip["flags"] == ["short"]


def test_a_file_without_a_duration_is_as_long_as_its_packets(tmp_path):
    make_clip(tmp_path / "a.mkv", seconds=1.5)
    command = [find_ffmpeg(), "-v", "error", "-i", tmp_path / "a.mkv", "-c", "copy"]
    written = subprocess.run([*command, "-f", "matroska", "-"], check=True, capture_output=True)
    (tmp_path / "piped.mkv").write_bytes(written.stdout)
    clip, members = transcode_one(tmp_path, TEN, source="piped.mkv")
    assert clip["duration_seconds"] == pytest.approx(1.5, abs=0.1)
    assert clip["flags"] == []
    assert media.frame_numbers(members)[-1] == 14


def join(folder, *sizes, seconds=0.8):
    """One video whose picture has one size after the other; frames are counted on."""
    raw = ["-c:v", "mjpeg", "-q:v", "1", "-c:a", "pcm_s16le"]
    for number, size in enumerate(sizes):
        first = round(number * seconds * 10)
        level = f"16+{LEVEL_STEP}*(N+{first})"
        video = f"color=s={size}:r=10:d={seconds},geq=lum='{level}':cb=128:cr=128"
        tone = ["-f", "lavfi", "-i", f"sine=d={seconds}"]
        run_ffmpeg("-f", "lavfi", "-i", video, *tone, *raw, output=folder / f"{number}.mkv")
    (folder / "list").write_text("".join(f"file {n}.mkv\n" for n in range(len(sizes))))
    joined = ["-f", "concat", "-i", str(folder / "list"), "-c", "copy"]
    return run_ffmpeg(*joined, output=folder / "joined.mkv")


@pytest.mark.parametrize("sizes", [("64x48", "128x96"), ("64x48", "48x64"), ("160x48", "32x32")])
@pytest.mark.parametrize("fit", ["crop", "short_side"])
def test_the_picture_may_change_its_size_midway(tmp_path, sizes, fit):
    join(tmp_path, *sizes)
    config = TEN.model_copy(update={"frame_fit": fit})
    _, members = transcode_one(
        tmp_path, config, source="joined.mkv", start_seconds=0.1, end_seconds=1.6
    )
    expected = [int(1.75 + 1.5 * k) for k in range(10)]
    assert media.frame_numbers(members) == expected
    assert len({picture(members, f"frame_{k:02d}.jpg").shape for k in range(10)}) == 1


def test_a_picture_that_grows_beyond_the_limit_is_unsupported(tmp_path):
    join(tmp_path, "64x48", "640x480")
    config = TEN.model_copy(update={"max_pixels": 64 * 48, "decode_errors": "tolerate"})
    row = lose_one(tmp_path, config, source="joined.mkv")
    assert (row.reason, "640x480" in row.detail) == ("unsupported", True)


def test_a_picture_that_grows_beyond_the_memory_is_unsupported(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "BYTES_PER_WORKER", 10_000_000)
    join(tmp_path, "64x48", "1280x960")
    row = lose_one(tmp_path, TEN, source="joined.mkv")
    assert (row.reason, "1280x960" in row.detail) == ("unsupported", True)


CONTAINERS = {
    "h264.mp4": H264,
    "hevc.mp4": ("-c:v", "libx265", "-x265-params", "log-level=error", "-c:a", "ac3"),
    "h264.mkv": ("-c:v", "libx264", "-preset", "ultrafast", "-c:a", "libopus"),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-c:a", "libopus"),
    "vp8.webm": ("-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libvorbis"),
    "mpeg4.avi": ("-c:v", "mpeg4", "-c:a", "libmp3lame"),
    "mpeg2.ts": ("-c:v", "mpeg2video", "-c:a", "mp2"),
    "mjpeg.mov": ("-c:v", "mjpeg", "-c:a", "pcm_s16le"),
    "theora.ogv": ("-c:v", "libtheora", "-c:a", "libvorbis"),
    "wmv2.wmv": ("-c:v", "wmv2", "-c:a", "wmav2"),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_flash_and_a_beep_stay_together(tmp_path, name):
    """Both at 2 s, in a cut between key frames."""
    fps = 25
    flash = f"color=s=64x48:r={fps}:d=4,geq=lum='if(eq(N,50),235,16)':cb=128:cr=128"
    beep = "aevalsrc='0.7*sin(2*PI*1000*t)*between(t,2,2.04)':s=48000:d=4"
    inputs = ["-f", "lavfi", "-i", flash, "-f", "lavfi", "-i", beep]
    run_ffmpeg(*inputs, "-g", "250", *CONTAINERS[name], output=tmp_path / name)
    config = MediaConfig(num_frames=0, frame_rate=fps, frame_size=32)
    clip, members = transcode_one(tmp_path, config, source=name, start_seconds=1.3, end_seconds=2.9)
    frames = sorted(key for key in members if key.startswith("frame_"))
    brightest = int(np.argmax([picture(members, key).mean() for key in frames]))
    samples = sound(members)
    heard = np.flatnonzero(samples > samples.max() / 2)[0] / config.sample_rate_hz
    assert abs(clip["frame_seconds"][brightest] - 0.5 / fps - heard) <= 1 / fps
    assert heard == pytest.approx(0.7, abs=2 / fps)


def test_a_worse_quality_makes_smaller_pictures(root, tmp_path):
    (clip,) = assets(root, tmp_path, "frog_vfr.mp4")
    sizes = []
    for quality in (2, 20):
        config = MediaConfig(num_frames=4, frame_size=224, jpeg_quality=quality)
        _, members = transcode_one(tmp_path, config, **clip)
        sizes.append(sum(len(data) for name, data in members.items() if "frame" in name))
    assert sizes[0] > 3 * sizes[1]


def assets(root, folder, *names):
    for name in names:
        shutil.copy(root / "tests" / "assets" / name, folder)
    return [{"source": name} for name in names]


@pytest.mark.parametrize("case", found_files(), ids=lambda case: case["file"])
def test_found_files_get_their_verdicts(tmp_path, case):
    path = FOUND / case["file"]
    manifest_path = media.transcode(media.download(tmp_path, [{"source": str(path)}]), TEN)
    (row,) = read_ledger(manifest_path.with_suffix(".ledger.csv"))
    assert row.reason in REASONS_OF_KIND[case["kind"]], row.detail
    assert row.flags == case.get("flags", row.flags)
    _, samples = media.read_transcoded(manifest_path)
    assert [len(members) for members in samples.values()] == [1 + 10] * (row.status == "ok")


@pytest.mark.parametrize("frame_times", ["exact", "keyframe"])
def test_damaged_streams_may_be_kept_with_a_count(root, tmp_path, frame_times):
    names = ("vfr", "broken_bitflips", "broken_truncated_faststart")
    clips = assets(root, tmp_path, *(f"frog_{name}.mp4" for name in names))
    downloaded = media.download(tmp_path, clips)
    strict, strict_members = media.read_transcoded(media.transcode(downloaded, TEN, "strict"))
    config = TEN.model_copy(update={"decode_errors": "tolerate", "frame_times": frame_times})
    path = media.transcode(downloaded, config)
    kept, members = media.read_transcoded(path)
    assert [clip["flags"] for clip in kept.clips] == [
        [],
        ["decode_errors"],
        ["short", "decode_errors"],
    ]
    assert "num_decode_errors" not in kept.clips[0]
    assert all(clip["num_decode_errors"] > 0 for clip in kept.clips[1:])
    if frame_times == "exact":
        assert members[kept.clips[0]["key"]] == strict_members[strict.clips[0]["key"]]
    assert len(members[kept.clips[1]["key"]]) == 1 + 10


def test_shards_tell_of_tolerated_errors_or_leave_such_clips_out(root, tmp_path):
    clips = assets(root, tmp_path, "frog_vfr.mp4", "frog_broken_bitflips.mp4")
    config = TEN.model_copy(update={"decode_errors": "tolerate"})
    index = media.make_shards(tmp_path, clips, AudioConfig(), media=config)
    assert json.loads(index.read_text())["flags"]["decode_errors"] == 1
    _, samples = zip(*read_samples(index.parent / "train-00000.tar"), strict=True)
    good, bad = (json.loads(members["json"]) for members in samples)
    assert bad["flags"] == ["decode_errors"]
    assert bad.keys() - good.keys() == {"num_decode_errors"}
    lean = media.pack_shards(
        tmp_path, AudioConfig(), "lean", media=config, exclude_flags=["decode_errors"]
    )
    value = json.loads(lean.read_text())
    assert (value["num_clips"], value["reasons"]) == (1, {"corrupt": 1})


def test_a_stream_that_gives_nothing_is_corrupt_even_if_errors_are_tolerated(tmp_path):
    make_clip(tmp_path / "a.mkv", options=("-c:v", "mjpeg", "-c:a", "pcm_s16le"))
    data = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "blank.mkv").write_bytes(data.replace(b"\xff\xc0", b"\xff\xfe"))
    config = TEN.model_copy(update={"decode_errors": "tolerate"})
    assert lose_one(tmp_path, config, source="blank.mkv").reason == "corrupt"


@pytest.mark.parametrize("policy", ["cut", "reject"])
def test_clips_beyond_the_end_follow_the_policy(root, tmp_path, policy):
    make_clip(tmp_path / "a.mp4", seconds=2)
    shutil.copy(root / "tests" / "assets" / "frog_audio_ends_2s.mp4", tmp_path)
    spans = [("a.mp4", 0, 2), ("a.mp4", 1, 4), ("a.mp4", 3, 4), ("frog_audio_ends_2s.mp4", 1, 4)]
    clips = [
        {"clip_id": str(n), "source": name, "start_seconds": start, "end_seconds": end}
        for n, (name, start, end) in enumerate(spans)
    ]
    config = TEN.model_copy(update={"short_clips": policy})
    path = media.transcode(media.download(tmp_path, clips), config)
    rows = read_ledger(path.with_suffix(".ledger.csv"))
    beyond = "short" if policy == "cut" else "too_short"
    assert [row.reason or row.flags for row in rows] == ["", beyond, "too_short", beyond]
