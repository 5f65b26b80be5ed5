"""Sound of two rates in one file: in time, or unsupported where its times do not fit it."""

import pytest

from tests.clock import AAC, EIGHT, H264, SOUND_ONLY, check_clip, picture_of, sound_of
from tests.media import lose_one, run_ffmpeg

pytestmark = pytest.mark.slow

MP3 = ("-c:a", "libmp3lame", "-b:a", "64k")
AC3 = ("-c:a", "ac3")


def concatenate(folder, name, codec, rates, *, has_picture):
    """Join two recordings of 2 s as `ffmpeg -f concat -c copy` does."""
    lines = []
    suffix = name.split(".")[1]
    for number, rate in enumerate(rates):
        part = folder / f"part{number}.{suffix}"
        first = 2 * number
        pictures = picture_of(first, 2) if has_picture else []
        coders = (*H264, *codec) if has_picture else codec
        run_ffmpeg(*pictures, *sound_of(first, 2, rate), *coders, output=part)
        lines.append(f"file {part.name}\n")
    (folder / "list").write_text("".join(lines))
    pieces = ["-f", "concat", "-i", str(folder / "list"), "-c", "copy"]
    return run_ffmpeg(*pieces, output=folder / name)


MISFITS = {
    "a.mp4": (MP3, (44100, 22050)),
    "b.mov": (MP3, (44100, 48000)),
    "c.mp4": (AC3, (48000, 32000)),
    "d.mov": (AC3, (48000, 44100)),
    "e.mp4": (("-c:a", "eac3"), (48000, 32000)),
    "g.mp4": (("-c:a", "flac", "-strict", "-2"), (48000, 32000)),
    "h.mov": (("-c:a", "dca", "-strict", "-2"), (48000, 44100)),
    "f.mov": (("-c:a", "mp2"), (44100, 48000)),
}


@pytest.mark.parametrize("name", MISFITS)
@pytest.mark.parametrize("config", [EIGHT, SOUND_ONLY])
def test_sound_stamped_at_the_rate_of_another_part_is_unsupported(tmp_path, name, config):
    """MP4 counts the second part in ticks of the first; what is before it is right."""
    codec, rates = MISFITS[name]
    concatenate(tmp_path, name, codec, rates, has_picture=config is EIGHT)
    for span in ((None, None), (1.2, 2.7), (2.4, 3.4)):
        clip = {"source": name, "start_seconds": span[0], "end_seconds": span[1]}
        row = lose_one(tmp_path, config, **clip)
        assert (row.reason, "format changes midway" in row.detail) == ("unsupported", True)
    clip = {"source": name, "start_seconds": 0.4, "end_seconds": 1.6}
    check_clip(tmp_path, config, length=1.2, **clip)


IN_TIME = {
    "a.mkv": (AC3, (48000, 32000)),
    "b.mkv": (AC3, (32000, 44100)),
    "c.mkv": (("-c:a", "eac3"), (48000, 32000)),
    "e.mkv": (("-c:a", "flac"), (48000, 32000)),
    "d.ts": (("-c:a", "mp2"), (44100, 48000)),
}


@pytest.mark.parametrize("name", IN_TIME)
@pytest.mark.parametrize("span", [(None, None), (1.2, 2.7), (2.4, 3.4)])
def test_sound_of_two_rates_whose_times_fit_is_in_time(tmp_path, name, span):
    codec, rates = IN_TIME[name]
    concatenate(tmp_path, name, codec, rates, has_picture=True)
    length = 4 if span[0] is None else span[1] - span[0]
    clip = {"source": name, "start_seconds": span[0], "end_seconds": span[1]}
    check_clip(tmp_path, length=length, **clip)


@pytest.mark.parametrize(("start", "is_in_time"), [(0.5, True), (4.5, False)])
def test_avi_that_counts_frames_of_another_rate_alike_is_unsupported(tmp_path, start, is_in_time):
    """A cut after the change meets one rate alone, which is not that of the header."""
    parts = [
        run_ffmpeg(*sound_of(4 * k, 4, rate), *MP3, output=tmp_path / f"{k}.mp3").read_bytes()
        for k, rate in enumerate((44100, 48000))
    ]
    (tmp_path / "a.mp3").write_bytes(b"".join(parts))
    inputs = [*picture_of(0, 8), "-i", str(tmp_path / "a.mp3")]
    run_ffmpeg(*inputs, "-c:v", "mpeg4", "-q:v", "2", "-c:a", "copy", output=tmp_path / "a.avi")
    clip = {"source": "a.avi", "start_seconds": start, "end_seconds": start + 2}
    if is_in_time:
        check_clip(tmp_path, length=2, **clip)
    else:
        assert lose_one(tmp_path, EIGHT, **clip).reason == "unsupported"


def test_adts_in_a_stream_that_times_frames_by_the_first_is_unsupported(tmp_path):
    concatenate(tmp_path, "a.ts", AAC, (44100, 22050), has_picture=False)
    clip = {"source": "a.ts", "start_seconds": 2.5, "end_seconds": 3.5}
    assert lose_one(tmp_path, SOUND_ONLY, **clip).reason == "unsupported"
