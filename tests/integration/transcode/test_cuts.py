"""No clip is falsified: where its parts begin in the file, and what of them is missing."""

import shutil

import av
import pytest

from pipeline_src.config.data import MediaConfig
from pipeline_src.manifest.ledger import read_ledger
from pipeline_src.manifest.tars import read_samples
from tests import media
from tests.clock import (
    AAC,
    EIGHT,
    H264,
    MPEG2,
    SOUND_ONLY,
    THEORA,
    VP8,
    check_clip,
    picture_of,
    read_times,
    record,
    remux,
    sound_of,
)
from tests.media import lose_one, run_ffmpeg, transcode_one

pytestmark = pytest.mark.slow


def test_sound_that_an_edit_list_hides_is_not_hidden_again(tmp_path):
    record(tmp_path / "a.mkv", *H264, *AAC, seconds=5)
    early = ["-output_ts_offset", "-1", "-avoid_negative_ts", "disabled"]
    remux(tmp_path / "a.mkv", tmp_path / "b.mp4", *early)
    clip = {"source": "b.mp4", "start_seconds": 1, "end_seconds": 3}
    check_clip(tmp_path, length=2, first=2, **clip)


def test_sound_alone_is_cut_where_the_picture_begins_late(tmp_path):
    late = ["-itsoffset", "1", *picture_of(1, 4)]
    run_ffmpeg(*late, *sound_of(0, 5), *H264, *AAC, output=tmp_path / "a.mp4")
    clip = {"source": "a.mp4", "start_seconds": 0.6, "end_seconds": 2.1}
    check_clip(tmp_path, SOUND_ONLY, length=1.5, **clip)


EARLIER = {
    "a.ts": (*H264, *AAC),
    "b.mpg": (*MPEG2, "-c:a", "mp2"),
    "c.ogv": (*THEORA, "-c:a", "libvorbis"),
}


@pytest.mark.parametrize("name", EARLIER)
@pytest.mark.parametrize("start", [None, 0.5, 1.5, 2.5])
def test_sound_alone_is_in_time_where_the_picture_begins_earlier(tmp_path, name, start):
    """Where a clock may jump, ffmpeg counts from the first stream that it decodes."""
    late = ["-itsoffset", "1", *sound_of(1, 3)]
    run_ffmpeg(*picture_of(0, 4), *late, *EARLIER[name], output=tmp_path / name)
    end = start and start + 1
    clip = {"source": name, "start_seconds": start, "end_seconds": end}
    if start == 0.5:
        entry, _ = transcode_one(tmp_path, SOUND_ONLY, **clip)
        assert entry["flags"] == ["gaps"]
        assert entry["gap_seconds"] == pytest.approx(0.5, abs=0.05)
    else:
        check_clip(tmp_path, SOUND_ONLY, length=3 if start is None else 1, **clip)


@pytest.mark.parametrize("start", [None, 1.5])
def test_a_track_that_begins_earlier_does_not_move_the_others(tmp_path, start):
    inputs = ["-itsoffset", "1", *picture_of(1, 3), "-itsoffset", "1", *sound_of(1, 3)]
    tracks = ["-map", "0", "-map", "1", "-map", "2", "-ac:a:0", "2", "-ac:a:1", "1"]
    run_ffmpeg(*inputs, *sound_of(0, 4), *tracks, *H264, "-c:a", "aac", output=tmp_path / "a.ts")
    end = start and start + 2
    length = 3 if start is None else 2
    check_clip(tmp_path, length=length, source="a.ts", start_seconds=start, end_seconds=end)


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("config", [EIGHT, SOUND_ONLY])
def test_what_an_edit_list_hides_before_fragments_is_not_shown(tmp_path, start, config):
    """Libav puts it before time 0."""
    frames = ("-bf", "3", "-g", "50")
    record(tmp_path / "a.mkv", *H264, *frames, *AAC, seconds=6)
    flags = ("-movflags", "frag_keyframe+delay_moov+default_base_moof")
    cut = ["-ss", "1.7", "-i", str(tmp_path / "a.mkv"), "-c", "copy", *flags]
    run_ffmpeg(*cut, output=tmp_path / "a.mp4")
    span = {"start_seconds": start, "end_seconds": start + 1.5} if start else {}
    length = 1.5 if start else 4.3
    check_clip(tmp_path, config, length=length, first=1.7 + start, source="a.mp4", **span)


SWEPT = {
    "a.mpg": (*MPEG2, "-c:a", "mp2", "-b:a", "192k"),
    "b.vob": (*MPEG2, "-c:a", "ac3"),
    "c.ogv": (*THEORA, "-c:a", "flac"),
    "d.ts": (*MPEG2, "-c:a", "ac3"),
    "e.avi": (*H264, "-c:a", "libmp3lame"),
    "f.flv": (*H264, *AAC),
    "g.ts": (*H264, "-c:a", "libopus"),
    "h.m2ts": (*H264, *AAC),
    "i.webm": VP8,
    "j.mov": ("-c:v", "mjpeg", "-q:v", "2", "-c:a", "pcm_s16be"),
    "k.mp4": ("-c:v", "mpeg4", "-q:v", "2", "-bf", "2", "-c:a", "ac3"),
    "l.mxf": (*MPEG2, "-c:a", "pcm_s16le", "-ar", "48000"),
    "m.wmv": ("-c:v", "msmpeg4", "-q:v", "2", "-c:a", "wmav1"),
    "n.rm": ("-c:v", "rv20", "-c:a", "ac3"),
    "o.wtv": (*MPEG2, "-c:a", "mp2"),
    "p.nut": ("-c:v", "ffvhuff", "-c:a", "libvorbis"),
    "q.avi": ("-c:v", "utvideo", "-c:a", "adpcm_ima_wav"),
    "r.3gp": ("-c:v", "h263", "-s", "176x144", *AAC),
    "s.dv": ("-target", "pal-dv"),
    "t.mkv": ("-c:v", "ffv1", "-c:a", "flac"),
}


@pytest.mark.parametrize("name", SWEPT)
def test_a_cut_may_begin_anywhere(tmp_path, name):
    record(tmp_path / name, *SWEPT[name], seconds=5)
    for number, start in enumerate((0.53, 1.81, 2.05, 3.33)):
        folder = tmp_path / str(number)
        folder.mkdir()
        shutil.copy(tmp_path / name, folder)
        check_clip(folder, length=1.5, source=name, start_seconds=start, end_seconds=start + 1.5)


def test_damaged_sound_before_a_cut_does_not_spoil_it(tmp_path):
    record(tmp_path / "a.mkv", *H264, *AAC, "-g", "250")
    data = bytearray((tmp_path / "a.mkv").read_bytes())
    with av.open(str(tmp_path / "a.mkv")) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.pts is not None]
        damaged = [bytes(p) for p in packets if 0.8 < float(p.pts * p.time_base) < 1]
    for content in damaged:
        at = data.index(content)
        data[at : at + len(content)] = b"\xff" * len(content)
    (tmp_path / "b.mkv").write_bytes(data)
    assert lose_one(tmp_path, EIGHT, source="b.mkv").reason == "corrupt"
    check_clip(tmp_path, length=1.5, source="b.mkv", start_seconds=2, end_seconds=3.5)


def test_what_is_missing_is_said(tmp_path):
    """Sound that begins late, a picture that ends early, and both in the ledger and the shard."""
    late = ["-itsoffset", "0.5", *sound_of(0.5, 3.5)]
    run_ffmpeg(*picture_of(0, 2), *late, *H264, *AAC, output=tmp_path / "a.mp4")
    clip, members = transcode_one(tmp_path, EIGHT, source="a.mp4")
    assert clip["flags"] == ["short", "gaps"]
    assert clip["short_seconds"] == pytest.approx(2, abs=0.1)
    assert clip["gap_seconds"] == pytest.approx(0.5, abs=0.05)
    assert clip["num_repeated_frames"] == 4
    assert members["frame_04.jpg"] == members["frame_07.jpg"]
    (row,) = read_ledger(tmp_path / "results" / "transcode" / "00000.ledger.csv")
    assert (row.status, row.flags) == ("ok", "short;gaps")
    assert "num_repeated_frames=4" in row.detail
    index = media.make_shards(tmp_path, [{"source": "a.mp4"}], media.AudioConfig())
    ((_, sample),) = read_samples(index.parent / "train-00000.tar")
    assert b'"gap_seconds"' in sample["json"]


@pytest.mark.parametrize("picture_seconds", [4, 3.96, 3.92, 3.88])
def test_no_frame_is_repeated_at_the_end_without_a_flag(tmp_path, picture_seconds):
    """As many frames as the picture has: what it ends early is seen, if it is a frame or more."""
    options = ("-c:v", "mpeg4", "-q:v", "2", "-c:a", "pcm_s16le")
    inputs = [*picture_of(0, picture_seconds), *sound_of(0, 4)]
    run_ffmpeg(*inputs, *options, output=tmp_path / "a.mov")
    config = MediaConfig(num_frames=0, frame_rate=25, frame_size=32)
    clip, members = transcode_one(tmp_path, config, source="a.mov")
    pictures, _ = read_times(clip, members, config)
    num_repeated = round((4 - picture_seconds) * 25) - 1
    assert clip.get("num_repeated_frames", 0) == max(0, num_repeated)
    assert len(set(pictures[-num_repeated - 1 :])) == 1 or num_repeated < 1
    assert clip["flags"] == (["short"] if num_repeated > 0 else [])
    assert clip.get("short_seconds", 0) == pytest.approx(
        4 - picture_seconds if num_repeated > 0 else 0, abs=0.01
    )


@pytest.mark.parametrize(("late", "flags"), [(0.08, []), (0.16, ["gaps"])])
def test_no_frame_is_repeated_at_a_late_begin_without_a_flag(tmp_path, late, flags):
    inputs = ["-itsoffset", str(late), *picture_of(late, 4 - late), *sound_of(0, 4)]
    run_ffmpeg(*inputs, *H264, *AAC, output=tmp_path / "a.mp4")
    config = MediaConfig(num_frames=0, frame_rate=25, frame_size=32)
    clip, _ = transcode_one(tmp_path, config, source="a.mp4")
    assert clip["flags"] == flags
    assert ("num_repeated_frames" in clip) == bool(flags)
