"""Probing, decoding and judging of single clips and batches, with real ffmpeg."""

import errno
import io
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline_src.config.data import MediaConfig
from pipeline_src.errors import MediaError, StageError
from pipeline_src.manifest.ledger import read_ledger
from pipeline_src.transcode import batch, clips, transcode
from pipeline_src.transcode.audio import read_flac
from pipeline_src.transcode.batch import make_batches
from pipeline_src.transcode.ffmpeg import (
    _ask_version,
    call_ffmpeg,
    drops_packets,
    ffmpeg_version,
    find_ffmpeg,
    refuse_no_ffmpeg,
)
from pipeline_src.transcode.ffmpeg_command import ClipJob
from pipeline_src.transcode.probe import Picture, probe_file
from tests import media
from tests.media import read_transcoded, transcode_one

pytestmark = pytest.mark.slow


def test_every_kind_of_bad_clip_gets_its_reason_and_spoils_no_other(tmp_path):
    reasons = media.make_broken_clips(tmp_path)
    names = ["whole.mp4", *reasons, "last.mp4"]
    media.make_clip(tmp_path / "last.mp4", tone=(0.2, 0.4))
    path = media.transcode(media.download(tmp_path, [{"source": name} for name in names]))
    manifest, together = media.read_transcoded(path)
    assert {item["clip_id"]: item["reason"] for item in manifest.dropped} == reasons
    assert [clip["clip_id"] for clip in manifest.clips] == ["whole.mp4", "last.mp4"]
    ledger = read_ledger(path.with_suffix(".ledger.csv"))
    assert sorted(row.clip_id for row in ledger) == sorted(names)
    skipped = {row.clip_id for row in ledger if row.status == "skipped"}
    assert skipped == {"empty.mp4", "nowhere.mp4"}
    _, alone = transcode_one(tmp_path, source="last.mp4")
    assert together[manifest.clips[1]["key"]] == alone


def fail_on(monkeypatch, module, name, error, is_bad):
    """Let a function of ``module`` fail where ``is_bad`` of its first argument."""
    function = getattr(module, name)

    def failing(first, *rest, **options):
        if is_bad(first):
            raise error
        return function(first, *rest, **options)

    monkeypatch.setattr(module, name, failing)


FAULTS = [
    (clips, "probe_file", lambda path: path.read_bytes().endswith(b"bad")),
    (batch, "is_silent", lambda samples: len(samples) < 12_000),
    (transcode, "should_look_again", lambda probe: probe.length.end_seconds < 0.9),
]


@pytest.mark.parametrize(("module", "name", "is_bad"), FAULTS)
def test_a_fault_that_nobody_foresaw_is_its_clips_row(
    tmp_path, monkeypatch, caplog, module, name, is_bad
):
    media.make_clip(tmp_path / "good.mp4")
    bad = media.make_clip(tmp_path / "bad.mp4", seconds=0.7, tone=(0.1, 0.5))
    bad.write_bytes(bad.read_bytes() + b"\0\0\0\x0bfreebad")
    download = media.download(tmp_path, [{"source": f"{name}.mp4"} for name in ("bad", "good")])
    fail_on(monkeypatch, module, name, ZeroDivisionError("by zero"), is_bad)
    path = media.transcode(download)
    rows = {row.clip_id: row for row in read_ledger(path.with_suffix(".ledger.csv"))}
    assert rows["good.mp4"].status == "ok"
    assert rows["bad.mp4"].reason == "corrupt"
    assert rows["bad.mp4"].detail == "unforeseen ZeroDivisionError: by zero"
    assert "Traceback" in caplog.text
    for error in (MemoryError(), OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()):
        fail_on(monkeypatch, module, name, error, lambda _: True)
        with pytest.raises(type(error)):
            media.transcode(download, name="again")


def test_same_clips_give_the_same_bytes(tmp_path):
    for name in "ab":
        media.make_clip(tmp_path / f"{name}.mp4")
    download = media.download(tmp_path, [{"source": "a.mp4"}, {"source": "b.mp4"}])
    one, two = media.transcode(download), media.transcode(download, name="again")
    assert one.read_bytes() == two.read_bytes()
    assert one.with_suffix(".tar").read_bytes() == two.with_suffix(".tar").read_bytes()


@pytest.mark.parametrize("count", [1, 2])
def test_the_bytes_do_not_depend_on_the_clips_of_a_process(tmp_path, count):
    tags = ["-metadata", "title=SECRET"]
    for number, suffix in enumerate((".mp4", ".mkv", ".mov", ".avi", ".mp4")):
        options = [*media.CODECS, *tags[: 2 * (number % 2)]]
        media.make_clip(
            tmp_path / f"{number}{suffix}", size=f"{64 + 16 * number}x48", options=options
        )
    (tmp_path / "broken.mp4").write_bytes(b"no video at all")
    names = sorted(path.name for path in tmp_path.iterdir())
    download = media.download(tmp_path, [{"source": name} for name in names])
    few = media.SMALL.model_copy(update={"clips_per_process": count})
    one, two = media.transcode(download), media.transcode(download, few, name="few")
    assert one.with_suffix(".tar").read_bytes() == two.with_suffix(".tar").read_bytes()


def test_what_ffmpeg_says_of_a_file_is_kept_without_its_number(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video at all")
    row = media.lose_one(tmp_path, source="a.mp4")
    assert row.reason == "corrupt"
    assert row.detail.startswith("cannot be opened: Invalid data")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".mp3", ".flac"])
def test_what_a_recording_says_of_itself_is_in_no_clip_and_a_copy_has_the_same_bytes(
    tmp_path, suffix
):
    """ffmpeg writes what its first input says of itself into every output, so into other clips."""
    plain, tagged = tmp_path / "plain.mp4", tmp_path / f"tagged{suffix}"
    media.make_clip(plain, options=[*media.CODECS, "-map_metadata", "-1"])
    tags = ["title=SECRET", "location=+48.1+011.5/", "artist=SECRET"]
    copied = ["-c", "copy"] if suffix in (".mp4", ".mkv", ".mov") else []
    media.run_ffmpeg(
        *("-i", str(plain)), *copied, *(word for tag in tags for word in ("-metadata", tag)),
        *("-metadata:s:a:0", "title=SECRET"), output=tagged,
    )  # fmt: skip
    assert b"SECRET" in tagged.read_bytes()
    copies = [shutil.copy(tagged, tmp_path / f"copy{n}{suffix}") for n in range(2)]
    sources = [copies[0], plain, copies[1]]
    config = media.SMALL.model_copy(update={"num_frames": 0 if suffix in (".mp3", ".flac") else 2})
    download = media.download(tmp_path, [{"source": Path(source).name} for source in sources])
    _, samples = read_transcoded(media.transcode(download, config))
    first, other, second = (
        {name: data for name, data in members.items() if name != "json"}
        for members in samples.values()
    )
    assert first == second
    tags = b"SECRET", b"+48.1", b"major_brand", b"software"
    assert not [tag for tag in tags for one in (first, other) if tag in one["flac"]]


@pytest.mark.parametrize(
    ("fps", "start", "end", "num_frames"),
    [
        (25, 0.0, 1.0, 10),
        (10, 0.73, 1.93, 6),
        (2, 0.7, 0.95, 2),
        (10, 0.0, 2.0, 1),
        (5, 0.4, 1.2, 8),
    ],
)
def test_each_frame_is_the_one_shown_in_the_middle_of_its_bin(
    tmp_path, fps, start, end, num_frames
):
    media.make_clip(tmp_path / "a.mp4", seconds=2.0 if fps < 25 else 1.0, fps=fps)
    config = MediaConfig(num_frames=num_frames, frame_size=32)
    clip, members = transcode_one(
        tmp_path, config, source="a.mp4", start_seconds=start, end_seconds=end
    )
    moments = [(k + 0.5) / num_frames * (end - start) for k in range(num_frames)]
    assert clip["frame_seconds"] == pytest.approx(moments)
    # A moment that falls on a frame's first instant shows that frame.
    expected = [int((start + moment) * fps + 1e-6) for moment in moments]
    assert media.frame_numbers(members) == expected


def test_the_cut_keeps_sound_and_picture_together(tmp_path):
    media.make_clip(tmp_path / "a.mp4", seconds=3, tone=(1.5, 1.7))
    config = MediaConfig(num_frames=10, frame_size=32)
    clip, members = transcode_one(tmp_path, config, source="a.mp4", start_seconds=1, end_seconds=2)
    samples = np.abs(read_flac(members["flac"]).astype(float))
    loud = np.flatnonzero(samples > 2000) / config.sample_rate_hz
    assert len(samples) == config.sample_rate_hz
    assert (loud[0], loud[-1]) == (pytest.approx(0.5, abs=0.02), pytest.approx(0.7, abs=0.02))
    assert media.frame_numbers(members) == list(range(10, 20))
    assert (clip["start_seconds"], clip["end_seconds"], clip["fps"]) == (1, 2, 10)


def test_the_last_frame_is_repeated_where_the_video_ends_early(tmp_path):
    media.make_clip(tmp_path / "a.mp4", seconds=2, video_seconds=1)
    _, members = transcode_one(tmp_path, source="a.mp4")
    assert media.frame_numbers(members) == [2, 7, 9, 9]


def test_flags(tmp_path):
    media.make_clip(tmp_path / "silent.mp4", tone=(50, 60))
    media.make_clip(tmp_path / "static.mp4", is_static=True)
    media.make_clip(tmp_path / "fine.mp4")
    clips = [{"source": f"{name}.mp4"} for name in ("silent", "static", "fine")]
    clips.append({"clip_id": "short", "source": "fine.mp4", "start_seconds": 0, "end_seconds": 10})
    path = media.transcode(media.download(tmp_path, clips))
    flags = [row.flags for row in read_ledger(path.with_suffix(".ledger.csv"))]
    assert flags == ["silent_audio", "static_video", "", "short"]


@pytest.mark.parametrize("fit", ["crop", "stretch"])
def test_frames_are_square(tmp_path, fit):
    media.make_clip(tmp_path / "a.mp4")
    config = MediaConfig(num_frames=1, frame_size=80, frame_fit=fit)
    _, members = transcode_one(tmp_path, config, source="a.mp4")
    assert Image.open(io.BytesIO(members["frame_00.jpg"])).size == (80, 80)


@pytest.mark.parametrize(
    "name", ["-y.mp4", "concat:x|y.mp4", "a 'b' \"c\" %03d;[0:v].mp4", "http:x.mp4"]
)
def test_a_hostile_name_is_only_a_name(tmp_path, name):
    media.make_clip(tmp_path / "a.mp4").rename(tmp_path / name)
    clip, members = transcode_one(tmp_path, source=name, clip_id="../../x.y")
    assert clip["key"].startswith("______x_y-")
    assert len(members) == 1 + media.SMALL.num_frames


def test_attached_pictures_are_no_video(tmp_path):
    cover = tmp_path / "cover.jpg"
    Image.new("RGB", (64, 64)).save(cover)
    media.make_clip(tmp_path / "sound.m4a", has_video=False)
    inputs = ["-i", str(tmp_path / "sound.m4a"), "-i", str(cover)]
    options = ["-map", "0", "-map", "1", "-c", "copy", "-disposition:v:0", "attached_pic"]
    call_ffmpeg([*inputs, *options, "song.m4a"], timeout_seconds=120, folder=tmp_path)
    with pytest.raises(MediaError) as caught:
        probe_file(tmp_path / "song.m4a", max_pixels=10**6)
    assert caught.value.reason == "no_video"


def test_batches_are_bounded_by_clips_seconds_and_memory(tmp_path):
    def jobs(picture, *seconds):
        return [ClipJob(tmp_path, 0, length, 0, 1, 0, picture) for length in seconds]

    small, large = Picture(100, 100, 1.5), Picture(3840, 2160, 1.5)
    batches = make_batches(jobs(small, 1, 1, 1, 59, 1, 1, 200, 1), 2)
    assert [len(batch) for batch in batches] == [2, 2, 2, 1, 1]
    assert [len(batch) for batch in make_batches(jobs(large, 1, 1), 2)] == [1, 1]
    assert list(make_batches([], 2)) == []


@pytest.fixture
def fake_ffmpeg(tmp_path, monkeypatch):
    """Let a shell script stand for the ffmpeg binary."""
    script = tmp_path / "ffmpeg.sh"
    monkeypatch.setenv("PIPELINE_FFMPEG", str(script))
    find_ffmpeg.cache_clear()
    yield lambda text: (script.write_text(f"#!/bin/sh\n{text}\n"), script.chmod(0o755))
    find_ffmpeg.cache_clear()


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as stream:  # noqa: PTH123
            return stream.read().split()[2] not in "ZX"
    except FileNotFoundError:
        return False


def test_time_out_kills_the_whole_process_group(tmp_path, fake_ffmpeg):
    fake_ffmpeg(f"sleep 60 & echo $! > {tmp_path}/pid; sleep 60")
    started = time.monotonic()
    with pytest.raises(MediaError, match="timeout"):
        call_ffmpeg([], timeout_seconds=3, folder=tmp_path)
    assert time.monotonic() - started < 50
    sleeper = int((tmp_path / "pid").read_text())
    while is_running(sleeper) and time.monotonic() - started < 50:  # a kill takes its time
        time.sleep(0.05)
    assert not is_running(sleeper)


def test_a_clip_that_takes_too_long_ends_as_timeout(root, tmp_path, fake_ffmpeg):
    shutil.copy(root / "tests" / "assets" / "frog_vfr.mp4", tmp_path)
    fake_ffmpeg("sleep 60")
    downloaded = media.download(tmp_path, [{"source": "frog_vfr.mp4"}])
    path = media.transcode(downloaded, MediaConfig(num_frames=1, timeout_seconds=0.2))
    (row,) = read_ledger(path.with_suffix(".ledger.csv"))
    assert (row.status, row.reason) == ("failed", "timeout")


def test_a_flood_on_stderr_neither_blocks_nor_is_kept(tmp_path, fake_ffmpeg):
    fake_ffmpeg("yes 'a line of noise' | head -c 3000000 >&2; echo the end >&2; exit 3")
    with pytest.raises(MediaError, match="the end") as caught:
        call_ffmpeg([], timeout_seconds=60, folder=tmp_path)
    assert len(str(caught.value)) < 20_000


def test_a_full_disk_stops_the_stage(tmp_path, fake_ffmpeg):
    fake_ffmpeg("echo 'av_interleaved_write_frame(): No space left on device' >&2; exit 1")
    with pytest.raises(StageError, match="disk full"):
        call_ffmpeg([], timeout_seconds=60, folder=tmp_path)


@pytest.mark.parametrize("answer", ["exit 0", "echo true: GNU coreutils 9.1", "exit 1"])
def test_another_program_is_not_taken_for_ffmpeg(fake_ffmpeg, answer):
    """Every clip was called corrupt."""
    fake_ffmpeg(answer)
    _ask_version.cache_clear()
    with pytest.raises(StageError, match=r"ffmpeg\.sh does not answer `-version` as ffmpeg does"):
        refuse_no_ffmpeg()
    _ask_version.cache_clear()


def test_a_program_that_answers_late_once_decodes_as_ever(fake_ffmpeg, monkeypatch, tmp_path):
    """Also where nothing refuses it, as in ``embed``: packets were kept for the whole process."""
    busy = tmp_path / "busy"
    busy.touch()
    fake_ffmpeg(f"[ -e {busy} ] && rm {busy} && sleep 60\necho ffmpeg version 7.1 of a test")
    monkeypatch.setattr("pipeline_src.transcode.ffmpeg.VERSION_TIMEOUT_SECONDS", 0.5)
    _ask_version.cache_clear()
    assert drops_packets()
    assert ffmpeg_version() == "7.1"
    _ask_version.cache_clear()


def test_a_program_that_does_not_answer_is_asked_again_and_refused(fake_ffmpeg, monkeypatch):
    fake_ffmpeg("sleep 60")
    monkeypatch.setattr("pipeline_src.transcode.ffmpeg.VERSION_TIMEOUT_SECONDS", 0.2)
    _ask_version.cache_clear()
    with pytest.raises(StageError, match=r"did not answer `-version` in 3 x 0\.2 s; if"):
        refuse_no_ffmpeg()
    assert not drops_packets()
    _ask_version.cache_clear()


def test_a_wrong_binary_is_named(fake_ffmpeg):
    with pytest.raises(StageError, match="PIPELINE_FFMPEG="):
        find_ffmpeg()


@pytest.mark.skipif(
    not os.access("/dev/full", os.W_OK), reason="/dev/full is Linux's; CI is, so it runs there"
)
def test_ffmpeg_reports_a_full_device_in_words_that_we_know(tmp_path):
    source = ["-f", "lavfi", "-i", "testsrc=d=2", "-f", "rawvideo", "-y", "file:/dev/full"]
    with pytest.raises(StageError, match="disk full"):
        call_ffmpeg(source, timeout_seconds=60, folder=tmp_path)
