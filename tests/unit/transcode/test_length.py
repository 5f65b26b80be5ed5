"""No clip is falsified: length and start of files whose header does not tell the truth."""

import re
import shutil
import subprocess

import pytest

from pipeline_src.config.data import MediaConfig
from pipeline_src.transcode import extent
from pipeline_src.transcode.ffmpeg import find_ffmpeg
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
    record,
    remux,
    sound_of,
)
from tests.media import lose_one, run_ffmpeg, transcode_one

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def piece(tmp_path_factory):
    """4 s of a recording."""
    return record(tmp_path_factory.mktemp("piece") / "piece.mkv", *H264, *AAC)


@pytest.mark.parametrize(
    ("name", "offset", "options"),
    [
        ("a.mkv", 8, ()),
        ("b.mkv", 3600, ()),
        ("c.mp4", 30, ()),
        ("d.flv", 30, ()),
        ("e.ts", 95440, ()),
        ("f.nut", 30, ("-f", "nut")),
        ("g.webm", 30, ("-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libopus")),
        ("h.ogv", 30, (*THEORA, "-c:a", "libvorbis")),
        ("i.mpg", 30, (*MPEG2, "-c:a", "mp2")),
        ("j.wmv", 30, ("-c:v", "wmv2", "-g", "25", "-q:v", "2", "-c:a", "wmav2")),
    ],
)
@pytest.mark.parametrize("span", [(None, None), (1, 3), (5, 9)])
def test_a_piece_whose_clock_does_not_begin_at_0_has_its_own_length(
    piece, tmp_path, name, offset, options, span
):
    remux(piece, tmp_path / name, "-output_ts_offset", str(offset), *options)
    start, end = span
    clip = {"source": name, "start_seconds": start, "end_seconds": end}
    if start == 5:
        assert lose_one(tmp_path, EIGHT, **clip).reason == "too_short"
    else:
        check_clip(tmp_path, length=4 if start is None else 2, **clip)


@pytest.mark.parametrize("name", ["a.mkv", "b.mp4"])
def test_subtitles_do_not_lengthen_a_file(piece, tmp_path, name):
    (tmp_path / "words.srt").write_text("1\n00:00:01,000 --> 00:01:00,000\nwords\n")
    words = "srt" if name == "a.mkv" else "mov_text"
    options = ["-map", "0", "-map", "1", "-c", "copy", "-c:s", words]
    inputs = ["-i", str(piece), "-i", str(tmp_path / "words.srt")]
    run_ffmpeg(*inputs, *options, output=tmp_path / name)
    check_clip(tmp_path, length=4, source=name)
    row = lose_one(tmp_path, EIGHT, source=name, start_seconds=30, end_seconds=34)
    assert row.reason == "too_short"


@pytest.mark.parametrize("name", ["a.mov", "b.mov", "c.mp4"])
def test_other_tracks_do_not_lengthen_a_file(piece, tmp_path, name):
    """Words, a time code, chapters: what cameras, editors and podcasts add."""
    (tmp_path / "words.srt").write_text("1\n00:00:01,000 --> 00:01:00,000\nwords\n")
    (tmp_path / "chapters.txt").write_text(
        ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1\nSTART=2\nEND=60\ntitle=b\n"
    )
    other, options = {
        "a.mov": ("words.srt", ["-map", "0", "-map", "1", "-c:s", "mov_text"]),
        "b.mov": ("code.mov", ["-map", "0", "-map", "1:d"]),
        "c.mp4": ("chapters.txt", ["-map", "0", "-map_chapters", "1"]),
    }[name]
    if name == "b.mov":
        long = record(tmp_path / "long.mkv", *H264, *AAC, seconds=8)
        remux(long, tmp_path / "code.mov", "-timecode", "01:00:00:00")
    inputs = ["-i", str(piece), "-i", str(tmp_path / other)]
    run_ffmpeg(*inputs, "-c", "copy", *options, output=tmp_path / name)
    check_clip(tmp_path, length=4, source=name)
    row = lose_one(tmp_path, EIGHT, source=name, start_seconds=6, end_seconds=8)
    assert row.reason == "too_short"


PIPED = {
    "a.flv": ("-c", "copy", "-flvflags", "no_duration_filesize", "-f", "flv"),
    "b.webm": (*VP8, "-live", "1", "-f", "webm"),
    "c.webm": (*VP8, "-f", "webm"),
    "d.mkv": ("-c", "copy", "-f", "matroska"),
    "e.avi": ("-c:v", "mpeg4", "-q:v", "2", "-c:a", "libmp3lame", "-f", "avi"),
    "f.wmv": ("-c:v", "wmv2", "-q:v", "2", "-c:a", "wmav2", "-f", "asf"),
}


@pytest.mark.parametrize("name", PIPED)
@pytest.mark.parametrize("span", [(None, None), (2, 3.5), (6, 9)])
def test_a_live_stream_is_as_long_as_what_came(piece, tmp_path, name, span):
    """Nothing in it tells how long it is, or a guess does."""
    command = [find_ffmpeg(), "-loglevel", "error", "-i", str(piece), *PIPED[name], "-"]
    with (tmp_path / name).open("wb") as stream:
        subprocess.run(command, check=True, stdout=stream, stdin=subprocess.DEVNULL, timeout=60)
    clip = {"source": name, "start_seconds": span[0], "end_seconds": span[1]}
    if span[0] == 6:
        assert lose_one(tmp_path, EIGHT, **clip).reason == "too_short"
    else:
        check_clip(tmp_path, length=1.5 if span[0] else 4, **clip)


def test_sound_alone_is_as_long_as_the_sound(tmp_path):
    inputs = [*picture_of(0, 6), *sound_of(0, 3)]
    run_ffmpeg(*inputs, *H264, *AAC, output=tmp_path / "a.mp4")
    check_clip(tmp_path, SOUND_ONLY, length=3, source="a.mp4")


@pytest.mark.parametrize("loud", ["gt(t,4)", "lt(t,4)"])
@pytest.mark.parametrize("name", ["a.mp3", "b.aac"])
def test_a_length_guessed_from_the_bit_rate_is_not_believed(tmp_path, name, loud):
    noise = f"+{loud}*0.4*(random(0)*2-1)"
    options = ["-ac", "2", "-q:a", "2"]
    options += ["-write_xing", "0", "-id3v2_version", "0"] if name == "a.mp3" else ["-f", "adts"]
    run_ffmpeg(*sound_of(0, 8, more=noise), *options, output=tmp_path / name)
    check_clip(tmp_path, SOUND_ONLY, length=8, source=name)
    check_clip(tmp_path, SOUND_ONLY, length=2, source=name, start_seconds=5, end_seconds=7)


JOINED = {
    "again.ts": (("a.ts", 0), ("b.ts", 0)),
    "later.ts": (("a.ts", 0), ("b.ts", 3600)),
    "again.vob": (("a.vob", 0), ("b.vob", 0)),
}


@pytest.fixture(scope="module")
def joined(tmp_path_factory):
    """Two pieces of a recording, the second from 4 s on, joined byte by byte."""
    folder = tmp_path_factory.mktemp("joined")
    for name, parts in JOINED.items():
        whole = b""
        for number, (part, offset) in enumerate(parts):
            codecs = (*H264, *AAC) if part.endswith("ts") else (*MPEG2, "-c:a", "mp2", "-f", "vob")
            late = ("-output_ts_offset", str(offset)) if offset else ()
            whole += record(folder / part, *codecs, *late, first=4 * number).read_bytes()
        (folder / name).write_bytes(whole)
    return folder


@pytest.mark.parametrize("name", JOINED)
@pytest.mark.parametrize("span", [(None, None), (0, 8), (5, 7)])
def test_a_clock_that_begins_anew_or_jumps_is_followed(joined, tmp_path, name, span):
    shutil.copy(joined / name, tmp_path)
    flags = ["decode_errors"] if name.endswith("ts") else []
    length = 2 if span[0] == 5 else 8
    check_clip(
        tmp_path,
        length=length,
        flags=flags,
        source=name,
        start_seconds=span[0],
        end_seconds=span[1],
    )


FRAGMENTS = ("-movflags", "frag_keyframe+empty_moov")
FIRST_PART = {
    "a.mkv": (EIGHT, (*H264, *AAC)),
    "b.flv": (EIGHT, (*H264, *AAC)),
    "c.flac": (SOUND_ONLY, ("-map", "1")),
    "d.wav": (SOUND_ONLY, ("-map", "1")),
    "h.w64": (SOUND_ONLY, ("-map", "1")),
    "i.aiff": (SOUND_ONLY, ("-map", "1")),
    "j.caf": (SOUND_ONLY, ("-map", "1")),
    "k.tta": (SOUND_ONLY, ("-map", "1")),
    "l.wmv": (EIGHT, ("-c:v", "wmv2", "-q:v", "2", "-c:a", "wmav2")),
    "m.voc": (SOUND_ONLY, ("-map", "1")),
    "n.wv": (SOUND_ONLY, ("-map", "1")),
    "o.wav": (SOUND_ONLY, ("-map", "1", "-rf64", "always")),
    "p.au": (SOUND_ONLY, ("-map", "1", "-c:a", "pcm_s24be")),
    "q.amr": (SOUND_ONLY, ("-map", "1", "-ar", "8000", "-c:a", "libopencore_amrnb")),
    "r.sox": (SOUND_ONLY, ("-map", "1")),
    "s.sf": (SOUND_ONLY, ("-map", "1", "-f", "ircam")),
    "t.nut": (SOUND_ONLY, ("-map", "1", "-c:a", "libmp3lame")),
    "u.rm": (SOUND_ONLY, ("-map", "1", "-c:a", "ac3")),
    "v.mxf": (EIGHT, (*MPEG2, "-c:a", "pcm_s16le", "-ar", "48000")),
    "w.wtv": (EIGHT, (*MPEG2, "-c:a", "mp2")),
    "e.mp4": (EIGHT, (*H264, *AAC)),
    "f.mov": (EIGHT, (*H264, *AAC, "-movflags", "faststart")),
    "g.mp4": (EIGHT, (*H264, *AAC, *FRAGMENTS)),
}


@pytest.mark.parametrize("name", FIRST_PART)
def test_a_file_of_which_a_part_is_read_is_refused_as_a_whole(tmp_path, name):
    config, codecs = FIRST_PART[name]
    data = record(tmp_path / name, *codecs, seconds=2).read_bytes()
    (tmp_path / name).write_bytes(data + data)
    row = lose_one(tmp_path, config, source=name)
    assert (row.reason, "joined" in row.detail) == ("unsupported", True)
    check_clip(tmp_path, config, length=1, source=name, start_seconds=0.5, end_seconds=1.5)


@pytest.mark.parametrize("names", ["a.wav b.flac", "a.flac b.wav", "a.mp3 b.wav", "a.mp4 b.mkv"])
@pytest.mark.parametrize("span", [(None, None), (1, 3)])
def test_a_file_of_another_kind_joined_to_one_is_said(tmp_path, names, span):
    video = ("-map", "1") if "wav" in names else (*H264, *AAC)
    parts = [record(tmp_path / name, *video, seconds=2) for name in names.split()]
    parts[0].write_bytes(b"".join(part.read_bytes() for part in parts))
    row = lose_one(
        tmp_path, SOUND_ONLY, source=parts[0].name, start_seconds=span[0], end_seconds=span[1]
    )
    assert (row.reason, "joined" in row.detail) == ("unsupported", True)


def test_two_recordings_in_one_mp4_are_refused_as_a_whole(tmp_path):
    """Also a cut that begins in the first and ends in the second."""
    parts = [record(tmp_path / "p.mp4", *H264, *AAC, first=k, seconds=2 + k) for k in (0, 2)]
    (tmp_path / "a.mp4").write_bytes(b"".join(part.read_bytes() for part in parts))
    row = lose_one(tmp_path, EIGHT, source="a.mp4", start_seconds=1, end_seconds=5)
    assert (row.reason, "joined" in row.detail) == ("unsupported", True)


def test_fragments_may_repeat_their_tables(piece, tmp_path):
    remux(piece, tmp_path / "a.mp4", *FRAGMENTS[:1], f"{FRAGMENTS[1]}+default_base_moof")
    data = (tmp_path / "a.mp4").read_bytes()
    at = [match.start() - 4 for match in re.finditer(b"moof", data)]
    (tmp_path / "a.mp4").write_bytes(data[: at[2]] + data[: at[0]] + data[at[2] :])
    check_clip(tmp_path, length=4, source="a.mp4")


FRAGMENT_OPTIONS = {
    "a.mp4": (EIGHT, (*H264, *AAC, "-movflags", "cmaf+frag_keyframe")),
    "b.mov": (EIGHT, (*H264, *AAC, *FRAGMENTS[:1], f"{FRAGMENTS[1]}+default_base_moof")),
    "c.m4a": (SOUND_ONLY, ("-map", "1", *AAC, "-movflags", "cmaf", "-frag_duration", "1000000")),
    "d.mp4": (EIGHT, (*H264, *AAC, "-movflags", "frag_keyframe+dash+delay_moov")),
}


@pytest.mark.parametrize("name", FRAGMENT_OPTIONS)
@pytest.mark.parametrize("start", [0, 1, 5])
def test_fragments_from_the_middle_of_a_stream_are_as_long_as_they_are(tmp_path, name, start):
    """Libav takes the time of the last as the length, wherever the first begins."""
    config, options = FRAGMENT_OPTIONS[name]
    data = record(tmp_path / name, *options, seconds=8).read_bytes()
    at = [match.start() - 4 for match in re.finditer(b"moof", data)]
    (tmp_path / name).write_bytes(data[: at[0]] + data[at[len(at) // 2] :])
    span = {"start_seconds": start, "end_seconds": start + 2} if start else {}
    if start == 5:
        assert lose_one(tmp_path, config, source=name, **span).reason == "too_short"
    else:
        length = 2 if start else 4
        check_clip(tmp_path, config, length=length, first=4 + start, source=name, **span)


@pytest.mark.parametrize("number", [0, 1])
def test_a_piece_of_a_stream_of_fragments_is_whole(tmp_path, number):
    """As a browser has it: the head of the stream, and a piece."""
    options = ("-f", "hls", "-hls_time", "4", "-hls_segment_type", "fmp4", "-hls_segment_filename")
    record(tmp_path / "x.m3u8", *H264, *AAC, *options, str(tmp_path / "%d.m4s"), seconds=8)
    parts = [tmp_path / name for name in ("init.mp4", f"{number}.m4s")]
    (tmp_path / "a.mp4").write_bytes(b"".join(part.read_bytes() for part in parts))
    check_clip(tmp_path, length=4, first=4 * number, source="a.mp4")


def test_fragments_that_an_index_lists_and_that_are_not_there_are_said(tmp_path):
    flags = f"{FRAGMENTS[1]}+default_base_moof+global_sidx"
    data = record(tmp_path / "a.mp4", *H264, *AAC, "-movflags", flags).read_bytes()
    check_clip(tmp_path, length=4, source="a.mp4")
    at = [match.start() - 4 for match in re.finditer(b"moof", data)]
    (tmp_path / "a.mp4").write_bytes(data[: at[2]])
    clip, _ = transcode_one(tmp_path, EIGHT, source="a.mp4")
    assert clip["flags"] == ["short"]
    assert clip["short_seconds"] == pytest.approx(2, abs=0.1)


def test_fragments_out_of_order_are_refused_as_a_whole(tmp_path):
    """Libav leaves those out whose time lies before that of the first."""
    flags = f"{FRAGMENTS[1]}+default_base_moof"
    data = record(tmp_path / "a.mp4", *H264, *AAC, "-movflags", flags).read_bytes()
    at = [match.start() - 4 for match in re.finditer(b"moof", data)]
    (tmp_path / "a.mp4").write_bytes(data[: at[0]] + data[at[2] :] + data[at[0] : at[2]])
    row = lose_one(tmp_path, EIGHT, source="a.mp4")
    assert (row.reason, "joined" in row.detail) == ("unsupported", True)


@pytest.mark.parametrize(("first", "second"), [(44100, 22050), (44100, 48000)])
@pytest.mark.parametrize("span", [(None, None), (3, 3.8), (0.5, 1.5)])
def test_adts_of_another_rate_is_not_timed_by_the_first(tmp_path, first, second, span):
    """No times are stored, and libav counts all frames at the rate of the first."""
    sounds = [sound_of(0, 2, first), sound_of(2, 2, second)]
    parts = [
        run_ffmpeg(*sound, *AAC, output=tmp_path / "part.aac").read_bytes() for sound in sounds
    ]
    (tmp_path / "a.aac").write_bytes(b"".join(parts))
    clip = {"source": "a.aac", "start_seconds": span[0], "end_seconds": span[1]}
    if span[0] == 0.5:
        check_clip(tmp_path, SOUND_ONLY, length=1, **clip)
    else:
        assert lose_one(tmp_path, SOUND_ONLY, **clip).reason == "unsupported"


@pytest.mark.parametrize("span", [(None, None), (2.5, 3.5)])
def test_pictures_and_sound_that_a_joined_ogg_replaces_are_refused(tmp_path, span):
    data = record(tmp_path / "a.ogv", *THEORA, "-c:a", "libvorbis", seconds=2).read_bytes()
    (tmp_path / "a.ogv").write_bytes(data + data)
    row = lose_one(tmp_path, EIGHT, source="a.ogv", start_seconds=span[0], end_seconds=span[1])
    assert (row.reason, "joined" in row.detail) == ("unsupported", True)


def test_ogg_joined_of_streams_of_one_number_is_whole(tmp_path):
    """libav gives the last packet of each a length below 0."""
    options = ("-c:a", "libvorbis", "-serial_offset", "7", "-fflags", "bitexact")
    parts = [run_ffmpeg(*sound_of(k, 1), *options, output=tmp_path / f"{k}.ogg") for k in (0, 1)]
    (tmp_path / "a.ogg").write_bytes(b"".join(part.read_bytes() for part in parts))
    check_clip(tmp_path, SOUND_ONLY, length=2, source="a.ogg")


@pytest.mark.parametrize("lengths", [(0.7, 0.7), (2, 0.7), (0.5, 0.5, 0.5)])
def test_opus_joined_of_streams_of_one_number_is_refused_where_a_part_is_lost(tmp_path, lengths):
    """Libav takes a part of one page for padding after the end of the part before."""
    options = ("-c:a", "libopus", "-serial_offset", "7", "-fflags", "bitexact")
    sounds = [sound_of(0, seconds) for seconds in lengths]
    parts = [
        run_ffmpeg(*sound, *options, output=tmp_path / "part.opus").read_bytes() for sound in sounds
    ]
    (tmp_path / "a.opus").write_bytes(b"".join(parts))
    row = lose_one(tmp_path, SOUND_ONLY, source="a.opus")
    assert (row.reason, "joined" in row.detail) == ("unsupported", True)


@pytest.mark.parametrize("offset", [-0.5, -2])
@pytest.mark.parametrize("span", [(None, None), (0, 2), (2.5, 3.5)])
def test_flv_with_times_below_0_is_refused(piece, tmp_path, offset, span):
    """Libav reads them as times after 24 days, and ffmpeg drops those of all that follows."""
    options = ("-output_ts_offset", str(offset), "-avoid_negative_ts", "disabled")
    remux(piece, tmp_path / "a.flv", *options)
    row = lose_one(tmp_path, EIGHT, source="a.flv", start_seconds=span[0], end_seconds=span[1])
    assert (row.reason, "before time 0" in row.detail) == ("unsupported", True)


@pytest.mark.parametrize("offset", [-0.5, -2])
@pytest.mark.parametrize("span", [(None, None), (0.5, 1.5)])
def test_matroska_with_times_below_0_is_refused(piece, tmp_path, offset, span):
    """Its first packets have no times then, and would be shown at those of others."""
    options = ("-output_ts_offset", str(offset), "-avoid_negative_ts", "disabled")
    remux(piece, tmp_path / "a.mkv", *options)
    row = lose_one(tmp_path, EIGHT, source="a.mkv", start_seconds=span[0], end_seconds=span[1])
    assert (row.reason, "before time 0" in row.detail) == ("unsupported", True)
    if offset == -0.5:
        check_clip(tmp_path, SOUND_ONLY, length=4, source="a.mkv")


def test_pictures_that_avi_leaves_out_are_said(piece, tmp_path):
    """What begins at 30 s is written as a still of 30 s, and the sound at 0."""
    options = ("-c:v", "mpeg4", "-q:v", "2", "-c:a", "libmp3lame")
    remux(piece, tmp_path / "a.avi", *options, "-output_ts_offset", "30")
    clip, _ = transcode_one(tmp_path, EIGHT, source="a.avi")
    assert clip["flags"] == ["short", "gaps"]
    assert clip["short_seconds"] == pytest.approx(30, abs=0.2)
    assert clip["gap_seconds"] == pytest.approx(30, abs=0.2)


def test_silence_put_into_a_hole_is_said(piece, tmp_path):
    for number, first in enumerate((0, 3)):
        span = ["-ss", str(first), "-t", "1", "-i", str(piece), "-c", "copy", "-copyts"]
        run_ffmpeg(*span, "-muxdelay", "0", output=tmp_path / f"{number}.ts")
    parts = [(tmp_path / f"{number}.ts").read_bytes() for number in range(2)]
    (tmp_path / "a.ts").write_bytes(b"".join(parts))
    clip, _ = transcode_one(tmp_path, EIGHT, source="a.ts")
    assert "gaps" in clip["flags"]
    assert clip["gap_seconds"] == pytest.approx(2, abs=0.3)


def test_packets_of_an_ordinary_file_are_not_read(tmp_path, monkeypatch):
    record(tmp_path / "a.mp4", *H264, *AAC)
    monkeypatch.setattr(extent, "read_packets", None)
    check_clip(tmp_path, MediaConfig(num_frames=8, frame_size=32), length=4, source="a.mp4")
