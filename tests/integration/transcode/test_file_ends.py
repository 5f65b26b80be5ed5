"""What stands behind the last frame, and files that end early: kept whole, short, or corrupt."""

import struct

import av
import numpy as np
import pytest

from tests.clock import (
    AAC,
    EIGHT,
    H264,
    MPEG2,
    SOUND_ONLY,
    check_clip,
    read_times,
    record,
    sound_of,
)
from tests.media import lose_one, run_ffmpeg, transcode_one

pytestmark = pytest.mark.slow


def wav(folder):
    path = run_ffmpeg(
        *sound_of(0, 4), "-c:a", "pcm_s16le", "-fflags", "bitexact", output=folder / "w.wav"
    )
    data = path.read_bytes()
    return data, data.index(b"data") + 4


def mp3(folder, first=0, seconds=4):
    options = ["-b:a", "64k", "-id3v2_version", "3", "-metadata", "title=song"]
    sound = sound_of(first, seconds)
    return run_ffmpeg(*sound, *options, output=folder / "m.mp3").read_bytes()


def tagged(folder):
    words = b"LYRICSBEGIN" + b"INF00002[00:01]la la la\r\n" * 20
    tag = b"TAG" + b"title".ljust(125, b"\0")
    return mp3(folder) + words + b"%06d" % len(words) + b"LYRICS200" + tag


def tagged_within(folder):
    return mp3(folder, 0, 2) + mp3(folder, 2, 2)


def odd(folder):
    return wav(folder)[0][:-1]


def piped(folder):
    data, at = wav(folder)
    return data[:4] + b"\xff" * 4 + data[8:at] + b"\xff" * 4 + data[at + 4 :]


def padded(folder):
    return mp3(folder) + b"\0" * 5000


ENDS = {
    "lyrics.mp3": (tagged, []),
    "within.mp3": (tagged_within, []),
    "zeros.mp3": (padded, []),
    "odd.wav": (odd, ["decode_errors"]),
    "piped.wav": (piped, ["decode_errors"]),
}


@pytest.mark.parametrize("name", ENDS)
def test_what_follows_the_sound_does_not_spoil_it(tmp_path, name):
    make, flags = ENDS[name]
    (tmp_path / name).write_bytes(make(tmp_path))
    check_clip(tmp_path, SOUND_ONLY, length=4, flags=flags, source=name)


def ape_tag():
    item = struct.pack("<II", 4, 0) + b"name\0song"
    head, foot = (
        b"APETAGEX" + struct.pack("<IIII", 2000, len(item) + 32, 1, flags) + bytes(8)
        for flags in (0xA0000000, 0x80000000)
    )
    return head + item + foot


WORDS = b"LYRICSBEGIN" + b"INF00002[00:01]la la la\r\n" * 20
TAILS = {
    "tag": b"TAG" + b"title".ljust(125, b"\0"),
    "ape": ape_tag(),
    "lyrics": WORDS + b"%06d" % len(WORDS) + b"LYRICS200",
    "zeros": bytes(5000),
}
CODERS = {
    "flac": (),
    "ac3": (),
    "eac3": (),
    "amr": ("-ar", "8000", "-c:a", "libopencore_amrnb"),
    "loas": ("-c:a", "aac", "-f", "latm"),
    "wv": (),
}


# LATM's frames themselves end with zeros.
TAILED = [(kind, tails) for kind in CODERS for tails in ("tag", "ape lyrics tag", "zeros")]
TAILED.remove(("loas", "zeros"))


@pytest.mark.parametrize(("kind", "tails"), TAILED)
def test_tags_after_frames_do_not_spoil_the_last(tmp_path, kind, tails):
    path = run_ffmpeg(*sound_of(0, 4), *CODERS[kind], output=tmp_path / f"a.{kind}")
    path.write_bytes(path.read_bytes() + b"".join(TAILS[tail] for tail in tails.split()))
    check_clip(tmp_path, SOUND_ONLY, length=4, source=path.name)
    check_clip(tmp_path, SOUND_ONLY, length=1, source=path.name, start_seconds=2, end_seconds=3)


CUT_OFF = {
    "a.flac": (SOUND_ONLY, ("-map", "1")),
    "b.aiff": (SOUND_ONLY, ("-map", "1")),
    "c.tta": (SOUND_ONLY, ("-map", "1")),
    "d.wv": (SOUND_ONLY, ("-map", "1")),
    "e.mp4": (EIGHT, (*H264, *AAC, "-movflags", "faststart")),
    "f.mxf": (EIGHT, (*MPEG2, "-c:a", "pcm_s16le", "-ar", "48000")),
    "g.mkv": (EIGHT, (*H264, *AAC)),
    "h.webm": (EIGHT, ("-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libopus")),
    "i.flv": (EIGHT, (*H264, *AAC)),
    "j.avi": (EIGHT, ("-c:v", "mpeg4", "-q:v", "2", "-c:a", "libmp3lame")),
    "k.mp3": (SOUND_ONLY, ("-map", "1")),
    "l.mka": (SOUND_ONLY, ("-map", "1", "-c:a", "flac")),
    "n.sox": (SOUND_ONLY, ("-map", "1")),
    "m.wmv": (EIGHT, ("-c:v", "wmv2", "-q:v", "2", "-c:a", "wmav2")),
}


@pytest.mark.parametrize("name", CUT_OFF)
def test_a_file_cut_off_between_packets_is_short(tmp_path, name):
    config, codecs = CUT_OFF[name]
    path = record(tmp_path / name, *codecs)
    with av.open(str(path)) as container:
        begins = sorted(packet.pos for packet in container.demux() if packet.pos)
    path.write_bytes(path.read_bytes()[: begins[len(begins) * 6 // 10]])
    clip, _ = transcode_one(tmp_path, config, source=name)
    assert clip["flags"] == ["short"]
    assert clip["short_seconds"] == pytest.approx(1.6, abs=0.35)


SLOW_SOUND = ("-c:a", "aac", "-ar", "16000")  # long packets, few between two pictures
CUT_PICTURES = {
    "a.mp4": ("-c:v", "libvpx-vp9", "-deadline", "realtime", *SLOW_SOUND, "-movflags", "faststart"),
    "b.mov": ("-c:v", "mpeg2video", "-q:v", "2", *SLOW_SOUND, "-movflags", "faststart"),
    "c.mov": (*H264, "-c:a", "pcm_s16le", "-movflags", "faststart"),
    "d.mp4": ("-c:v", "libx265", "-preset", "ultrafast", *AAC, "-movflags", "faststart"),
    "e.mp4": CUT_OFF["e.mp4"][1],
    "i.flv": CUT_OFF["i.flv"][1],
    "j.avi": ("-c:v", "mpeg2video", "-q:v", "2", "-c:a", "libmp3lame"),
    "k.avi": ("-c:v", "mjpeg", "-q:v", "2", "-c:a", "libmp3lame"),
}
CUTS = [(name, kind, 0.5) for name in ("e.mp4", "g.mkv", "i.flv", "j.avi") for kind in "av"]
CUTS += [(name, "a", 0.5) for name in ("l.mka", "c.tta")]
CUTS += [(name, "v", share) for name in CUT_PICTURES for share in (0.3, 0.9)]


def cut_within(folder, name, kind, share):
    """Cut a file off within a packet of sound or picture; return the time where it begins."""
    config, codecs = (
        (EIGHT, CUT_PICTURES[name]) if kind == "v" and name in CUT_PICTURES else CUT_OFF[name]
    )
    path = record(folder / name, *codecs)
    with av.open(str(path)) as container:
        (stream, *_) = getattr(container.streams, "audio" if kind == "a" else "video")
        packets = [(p.pos, p.pts * p.time_base, p.size) for p in container.demux(stream) if p.pos]
    begin, time, size = packets[len(packets) * 6 // 10]
    path.write_bytes(path.read_bytes()[: begin + int(share * size)])
    return config, float(time)


@pytest.mark.parametrize(("name", "kind", "share"), CUTS)
@pytest.mark.parametrize("before", [0.05, 0.2])
def test_a_clip_that_ends_before_the_packet_that_was_cut_is_whole(
    tmp_path, name, kind, share, before
):
    """ffmpeg reads ahead: what is damaged behind the clip was taken for its own."""
    config, time = cut_within(tmp_path, name, kind, share)
    end = time - before
    place = {"source": name, "start_seconds": end - 1.5, "end_seconds": end}
    check_clip(tmp_path, config, length=1.5, **place, flags=[])


@pytest.mark.parametrize("name", CUT_PICTURES)
@pytest.mark.parametrize("after", [0.04, 0.5, None])
def test_a_clip_whose_picture_was_cut_is_corrupt(tmp_path, name, after):
    """Some decoders paint what is left of it and are content."""
    _, time = cut_within(tmp_path, name, "v", 0.9)
    end = {} if after is None else {"start_seconds": time - 1.5, "end_seconds": time + after}
    assert lose_one(tmp_path, EIGHT, source=name, **end).reason == "corrupt"


def test_pcm_that_lacks_what_was_cut_is_corrupt(tmp_path):
    """Its decoder takes what is left of a packet."""
    path = record(tmp_path / "a.mov", *H264, "-c:a", "pcm_s16le", "-movflags", "faststart")
    with av.open(str(path)) as container:
        sound = container.streams.audio[0]
        places = [(p.pos, p.pts * p.time_base, p.size) for p in container.demux(sound) if p.pos]
    begin, time, size = places[len(places) * 6 // 10]
    path.write_bytes(path.read_bytes()[: begin + size // 4])
    end = float(time) + 0.4
    row = lose_one(tmp_path, EIGHT, source="a.mov", start_seconds=end - 1.5, end_seconds=end)
    assert row.reason == "corrupt"


OPEN_ENDS = {
    "a.ogg": (SOUND_ONLY, ("-map", "1", "-c:a", "libvorbis")),
    "b.opus": (SOUND_ONLY, ("-map", "1")),
    "c.oga": (SOUND_ONLY, ("-map", "1", "-c:a", "flac")),
    "d.nut": (SOUND_ONLY, ("-map", "1", "-c:a", "libmp3lame")),
    "e.ogv": (EIGHT, ("-c:v", "libtheora", "-q:v", "9", "-c:a", "libvorbis")),
    "f.ac3": (SOUND_ONLY, ("-map", "1")),
    "j.eac3": (SOUND_ONLY, ("-map", "1")),
    "h.aac": (SOUND_ONLY, ("-map", "1")),
    "i.loas": (SOUND_ONLY, ("-map", "1", "-c:a", "aac", "-f", "latm")),
    "g.mp3": (SOUND_ONLY, ("-map", "1", "-write_xing", "0")),
}


@pytest.mark.parametrize("name", OPEN_ENDS)
def test_a_file_that_stops_before_its_format_ends_is_said(tmp_path, name):
    """How much is missing is not known; what is there is in time, and a cut of it is whole."""
    config, codecs = OPEN_ENDS[name]
    path = record(tmp_path / name, *codecs, seconds=6)
    check_clip(tmp_path, config, length=6, source=name)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    clip, _ = transcode_one(tmp_path, config, source=name)
    assert clip["flags"] in (["open_end"], ["short", "open_end"])
    check_clip(tmp_path, config, length=1, source=name, start_seconds=0.5, end_seconds=1.5)


@pytest.mark.parametrize(("name", "options"), [("a.ogg", ()), ("b.nut", ("-write_index", "0"))])
def test_a_recording_that_was_never_ended_is_whole(tmp_path, name, options):
    path = record(tmp_path / name, "-map", "1", "-c:a", "libvorbis", *options)
    data = bytearray(path.read_bytes())
    if name == "a.ogg":  # as a radio stream is stored: no page is the last
        data[data.rindex(b"OggS") + 5] = 0
        at = data.rindex(b"OggS")
        data[at + 22 : at + 26] = bytes(4)
        data[at + 22 : at + 26] = struct.pack("<I", ogg_checksum(data[at:]))
    path.write_bytes(data)
    check_clip(tmp_path, SOUND_ONLY, length=4, source=name, flags=["open_end"])


def ogg_checksum(page):
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
    return value


@pytest.mark.parametrize("tail", [b"LIST\4\0\0\0INFO", b"TAG" + bytes(125), bytes(40_000), None])
def test_sound_beyond_the_size_in_a_header_is_said(tmp_path, tail):
    """As a recorder leaves it that died: players end where the header says."""
    data = run_ffmpeg(*sound_of(0, 4), output=tmp_path / "a.wav").read_bytes()
    at = data.index(b"data") + 4
    size = (len(data) - at - 4) // 4 * 2
    half = data[:at] + struct.pack("<I", size) + data[at + 4 :]
    (tmp_path / "a.wav").write_bytes(half if tail is None else half[: at + 4 + size] + tail)
    clip, _ = transcode_one(tmp_path, SOUND_ONLY, source="a.wav")
    assert clip["audio_seconds"] == pytest.approx(2, abs=0.01)
    assert clip["flags"] == (["short"] if tail is None else [])
    assert clip.get("short_seconds", 2) == pytest.approx(2, abs=0.01)


LEADS = {
    "a.aac": (),
    "b.ac3": (),
    "c.eac3": (),
    "d.loas": ("-c:a", "aac", "-f", "latm"),
}


@pytest.mark.parametrize("name", LEADS)
@pytest.mark.parametrize("num_bytes", [5, 333, 1502])
def test_raw_sound_may_begin_within_a_frame(tmp_path, name, num_bytes):
    """As a dump of a stream does: the first whole frame begins a few bytes on."""
    path = run_ffmpeg(*sound_of(0, 4), *LEADS[name], output=tmp_path / name)
    path.write_bytes(path.read_bytes()[num_bytes:])
    clip, members = transcode_one(tmp_path, SOUND_ONLY, source=name)
    _, sounds = read_times(clip, members, SOUND_ONLY)
    moments = [(k + 0.5) / 8 * clip["duration_seconds"] for k in range(8)]
    late = sounds - moments
    assert np.ptp(late) < 0.05
    assert clip["duration_seconds"] + late.mean() == pytest.approx(4, abs=0.06)
    assert clip["flags"] == []
    first = float(late.mean())
    check_clip(
        tmp_path,
        SOUND_ONLY,
        length=1,
        first=1 + first,
        source=name,
        start_seconds=1,
        end_seconds=2,
    )


def test_more_bytes_than_a_frame_before_the_first_are_still_damage(tmp_path):
    path = run_ffmpeg(*sound_of(0, 4), output=tmp_path / "a.ac3")
    lost = bytes(path.read_bytes()[k] ^ 0x5A for k in range(9000))
    path.write_bytes(path.read_bytes()[:384] + lost + path.read_bytes()[9384:])
    assert lose_one(tmp_path, SOUND_ONLY, source="a.ac3").reason == "corrupt"


def test_what_a_download_did_not_fill_is_still_corrupt(tmp_path):
    path = run_ffmpeg(*sound_of(0, 4), output=tmp_path / "a.flac")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2].ljust(len(data), b"\0"))
    assert lose_one(tmp_path, SOUND_ONLY, source="a.flac").reason == "corrupt"


def test_damage_within_sound_is_still_corrupt(tmp_path):
    data = bytearray(mp3(tmp_path))
    middle = len(data) // 2
    data[middle : middle + 600] = bytes(range(1, 201)) * 3
    (tmp_path / "a.mp3").write_bytes(data)
    assert lose_one(tmp_path, SOUND_ONLY, source="a.mp3").reason == "corrupt"
