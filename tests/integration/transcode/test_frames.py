"""Which frames of a clip are kept: key frames, shapes, and what a hostile picture may cost."""

import contextlib
import io
import re
import struct
import threading

import av
import psutil
import pytest
from PIL import Image

from pipeline_src.config.data import MediaConfig
from pipeline_src.errors import StageError
from pipeline_src.loader.dataset import decode_frame
from pipeline_src.transcode import memory
from pipeline_src.transcode.batch import END_OF_IMAGE, split_jpegs
from pipeline_src.transcode.ffmpeg import call_ffmpeg, find_ffmpeg
from tests import media
from tests.media import lose_one, make_clip, run_ffmpeg, transcode_one

pytestmark = pytest.mark.slow

KEYS = MediaConfig(num_frames=6, frame_size=32, frame_times="keyframe")
ONE_MOMENT_SECONDS = 0.005
GOP = 5  # half a second at 10 frames per second
CODECS = {
    "a.mp4": ("-c:v", "mpeg4", "-q:v", "1", "-bf", "2", "-c:a", "aac"),
    "b.mkv": ("-c:v", "libx264", "-crf", "4", "-c:a", "aac"),
    "c.mp4": ("-c:v", "libx265", "-x265-params", "log-level=error:crf=4", "-c:a", "aac"),
    "d.webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-crf", "2", "-c:a", "libopus"),
    "e.ts": ("-c:v", "mpeg2video", "-q:v", "1", "-c:a", "mp2"),
    "f.avi": ("-c:v", "mpeg4", "-q:v", "1", "-c:a", "libmp3lame"),
    "h.flv": ("-c:v", "flv1", "-q:v", "1", "-c:a", "libmp3lame", "-ar", "44100"),
    "g.ogv": ("-c:v", "libtheora", "-q:v", "10", "-c:a", "libvorbis"),
}


def make_keyed(folder, name, *options, gop=GOP):
    never = "0" if "264" in CODECS[name][1] else "1000000000"
    fixed = ("-g", str(gop), "-keyint_min", str(gop), "-sc_threshold", never)
    return make_clip(folder / name, seconds=2.4, options=(*CODECS[name], *fixed, *options))


def decode_all(path):
    """Time of every frame, and the numbers of the key frames."""
    with av.open(str(path)) as container:
        start = (container.start_time or 0) / 1e6
        frames = list(container.decode(video=0))
    keys = [number for number, frame in enumerate(frames) if frame.key_frame]
    return [frame.time - start for frame in frames], keys


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize(("start", "end"), [(0, 2.4), (0.73, 1.93)])
def test_the_nearest_key_frame_stands_for_each_moment(tmp_path, name, start, end):
    seconds, keys = decode_all(make_keyed(tmp_path, name))
    assert 5 <= len(keys) <= 8
    clip, members = transcode_one(tmp_path, KEYS, source=name, start_seconds=start, end_seconds=end)
    moments = [start + (k + 0.5) / 6 * (end - start) for k in range(6)]
    expected = [min(keys, key=lambda n, t=t: (round(abs(seconds[n] - t), 6), n)) for t in moments]
    times = [seconds[number] - start for number in expected]
    assert clip["frame_seconds"] == pytest.approx(times, abs=1e-5)
    assert media.frame_numbers(members) == expected


def test_a_video_with_one_key_frame_gives_that_one_and_is_not_called_static(tmp_path):
    make_keyed(tmp_path, "a.mp4", gop=100)
    clip, members = transcode_one(tmp_path, KEYS, source="a.mp4", start_seconds=1, end_seconds=2)
    assert media.frame_numbers(members) == [0] * 6
    assert clip["frame_seconds"] == [-1.0] * 6
    assert clip["flags"] == []


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.avi"])
@pytest.mark.parametrize("times", ["exact", "keyframe"])
def test_a_picture_that_ends_before_the_sound_is_said(tmp_path, name, times):
    """Also where the header speaks of the sound's end and nothing is decoded but key frames."""
    picture, sound = "testsrc2=s=64x48:r=10:d=2", "sine=d=10:r=16000"
    inputs = ("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound)
    codecs = ("-c:v", "libx264", "-g", "5", "-pix_fmt", "yuv420p", "-c:a", "libmp3lame")
    run_ffmpeg(*inputs, *codecs, output=tmp_path / name)
    config = KEYS.model_copy(update={"frame_times": times})
    for start, end, short in ((1, 5, 3), (4, 8, 4)):
        clip, _ = transcode_one(tmp_path, config, source=name, start_seconds=start, end_seconds=end)
        assert "short" in clip["flags"]
        assert clip["short_seconds"] == pytest.approx(short, abs=0.15)
    clip, _ = transcode_one(tmp_path, config, source=name, start_seconds=0, end_seconds=2)
    assert "short" not in clip["flags"]


def test_key_frames_that_need_other_frames_give_exact_ones(tmp_path):
    """H.264 with open GOPs: its counters make no sense where pictures are left out."""
    opened = "open-gop=1:keyint=20:min-keyint=20:scenecut=0:bframes=3"
    _, keys = decode_all(make_keyed(tmp_path, "b.mkv", "-x264-params", opened, gop=20))
    assert keys == [0, 20]
    clip, members = transcode_one(tmp_path, KEYS, source="b.mkv", start_seconds=0, end_seconds=2.4)
    assert clip["frame_seconds"] == pytest.approx([(k + 0.5) / 6 * 2.4 for k in range(6)])
    assert media.frame_numbers(members) == [2, 6, 10, 14, 18, 22]


@pytest.mark.parametrize(("size", "expected"), [("64x48", (43, 32)), ("48x64", (32, 43))])
def test_short_side_keeps_the_shape_and_the_loader_crops(tmp_path, size, expected):
    make_clip(tmp_path / "a.mp4", size=size)
    config = MediaConfig(num_frames=1, frame_size=32, frame_fit="short_side")
    _, members = transcode_one(tmp_path, config, source="a.mp4")
    jpeg = memoryview(bytearray(members["frame_00.jpg"]))
    assert Image.open(io.BytesIO(jpeg)).size == expected
    assert decode_frame(jpeg, 24).shape == decode_frame(jpeg, 32)[:, :24, :24].shape == (3, 24, 24)


def test_the_loader_cuts_the_same_from_both_sides():
    image = Image.new("RGB", (96, 32))
    image.paste((255, 255, 255), (32, 0, 64, 32))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=100)
    frame = decode_frame(stream.getbuffer(), 32)
    assert frame.shape == (3, 32, 32)
    assert frame.min() > 240


def test_a_very_flat_picture_costs_little(tmp_path):
    make_clip(tmp_path / "a.mkv", size="4096x2", options=("-c:v", "mjpeg", "-c:a", "pcm_s16le"))
    config = MediaConfig(num_frames=1, frame_size=32, frame_fit="short_side")
    _, members = transcode_one(tmp_path, config, source="a.mkv")
    assert Image.open(io.BytesIO(members["frame_00.jpg"])).size == (1024, 32)


class Peak:
    num_bytes = 0


@contextlib.contextmanager
def watch_memory():
    """Sample the memory of the ffmpeg processes below this one, and what this one has gained."""
    peak, done = Peak(), threading.Event()
    start = psutil.Process().memory_info().rss

    def sample():
        while not done.wait(ONE_MOMENT_SECONDS):
            with contextlib.suppress(psutil.Error):
                children = psutil.Process().children(recursive=True)
                sizes = [c.memory_info().rss for c in children if "ffmpeg" in c.name()]
                gained = psutil.Process().memory_info().rss - start  # PyAV looks into files
                peak.num_bytes = max(peak.num_bytes, sum(sizes) + gained)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def make_liar(folder, *, header, stream):
    """A file whose container says one size and whose JPEG pictures another; None = the true one."""
    make_clip(folder / "true.avi", options=("-c:v", "mjpeg", "-c:a", "pcm_s16le"))
    data = (folder / "true.avi").read_bytes()
    if header:
        true = struct.pack("<III", 40, 64, 48)
        assert true in data
        data = data.replace(true, struct.pack("<III", 40, *header))
    if stream:
        true = b"\xff\xc0\x00\x11\x08" + struct.pack(">HH", 48, 64)
        assert true in data
        data = data.replace(true, true[:5] + struct.pack(">HH", *stream))
    (folder / "liar.avi").write_bytes(data)


GIANT = (20000, 20000)


@pytest.mark.parametrize("errors", ["reject", "tolerate"])
@pytest.mark.parametrize(
    ("header", "stream"), [(GIANT, GIANT), (None, GIANT), ((16000, 16000), (16000, 16000))]
)
def test_a_giant_picture_is_unsupported_also_if_the_header_lies(tmp_path, header, stream, errors):
    make_liar(tmp_path, header=header, stream=stream)
    config = MediaConfig(num_frames=4, frame_size=32, decode_errors=errors)
    with watch_memory() as peak:
        row = lose_one(tmp_path, config, source="liar.avi")
    assert row.reason == "unsupported"
    assert "{}x{}".format(*stream) in row.detail
    assert peak.num_bytes < 100_000_000


def exp_golomb(number):
    return f"{number + 1:b}".zfill(2 * (number + 1).bit_length() - 1)


def make_h264_liar(folder, side):
    """H.264 whose parameter set says ``side`` by ``side`` pixels; no container says anything."""
    options = ("-c:v", "libx264", "-profile:v", "baseline", "-c:a", "mp2")
    make_clip(folder / "true.ts", options=options)
    run_ffmpeg("-i", str(folder / "true.ts"), "-c", "copy", output=folder / "true.h264")
    data = (folder / "true.h264").read_bytes()
    true = re.search(b"\x00\x00\x01\x67(.*?)\x00\x00\x00\x01", data, re.DOTALL)[1]
    bits = "".join(f"{byte:08b}" for byte in true)
    blocks = exp_golomb(64 // 16 - 1) + exp_golomb(48 // 16 - 1)
    assert bits.count(blocks) == 1
    bits = bits.replace(blocks, 2 * exp_golomb(side // 16 - 1)).rstrip("0")
    bits += "0" * (-len(bits) % 8)
    forged = int(bits, 2).to_bytes(len(bits) // 8, "big")
    (folder / "forged.h264").write_bytes(data.replace(true, forged))
    inputs = ["-probesize", "32", "-i", str(folder / "forged.h264"), "-i", str(folder / "true.ts")]
    maps = ["-map", "0:v", "-map", "1:a", "-c", "copy"]
    run_ffmpeg(*inputs, *maps, output=folder / "liar.ts")


@pytest.mark.parametrize("side", [20000, 16000])
def test_a_giant_that_only_the_parameter_set_tells_of_costs_nothing(tmp_path, side):
    make_h264_liar(tmp_path, side)
    with watch_memory() as peak:
        row = lose_one(tmp_path, source="liar.ts")
    assert row.reason == "unsupported"
    assert peak.num_bytes < 100_000_000


def test_a_giant_that_only_the_header_tells_of_costs_nothing(tmp_path):
    make_liar(tmp_path, header=GIANT, stream=None)
    with watch_memory() as peak:
        _, members = transcode_one(tmp_path, source="liar.avi")
    assert len(members) == 1 + media.SMALL.num_frames
    assert peak.num_bytes < 100_000_000


def test_raw_pictures_are_as_large_as_the_header_says(tmp_path):
    make_clip(tmp_path / "a.avi", options=("-c:v", "rawvideo", "-c:a", "pcm_s16le"))
    data = (tmp_path / "a.avi").read_bytes()
    giant = data.replace(struct.pack("<III", 40, 64, 48), struct.pack("<III", 40, *GIANT))
    (tmp_path / "giant.avi").write_bytes(giant)
    row = lose_one(tmp_path, source="giant.avi")
    assert row.reason == "unsupported"
    assert "20000x20000" in row.detail


def test_the_limit_itself_is_allowed(tmp_path):
    make_clip(tmp_path / "a.mp4")
    exact = MediaConfig(num_frames=1, frame_size=32, max_pixels=64 * 48)
    transcode_one(tmp_path, exact, source="a.mp4")
    less = exact.model_copy(update={"max_pixels": 64 * 48 - 1})
    row = lose_one(tmp_path, less, source="a.mp4")
    assert (row.reason, row.detail) == ("unsupported", "64x48 pixels; media.max_pixels=3071")


def test_pictures_of_4k_stay_within_the_memory_of_a_worker(tmp_path):
    options = ("-c:v", "libx264", "-preset", "ultrafast", "-refs", "4", "-bf", "3", "-c:a", "aac")
    make_clip(tmp_path / "a.mp4", fps=10, seconds=1.2, size="3840x2160", options=options)
    clips = [{"clip_id": f"{n}", "source": "a.mp4"} for n in range(3)]
    downloaded = media.download(tmp_path, clips)
    with watch_memory() as peak:
        path = media.transcode(downloaded)
    assert len(media.read_transcoded(path)[0].clips) == 3
    assert 60_000_000 < peak.num_bytes < memory.BYTES_PER_WORKER


@pytest.mark.parametrize("errors", ["reject", "tolerate"])
def test_a_clip_that_needs_more_memory_than_there_is_is_refused_by_name(tmp_path, errors):
    eight_k = (7680, 4320)
    make_liar(tmp_path, header=eight_k, stream=eight_k)
    config = MediaConfig(num_frames=4, frame_size=32, decode_errors=errors)
    with watch_memory() as peak:
        row = lose_one(tmp_path, config, source="liar.avi")
    words = "7680x4320 pixels may take 3.00 GB to decode, of 1.20 GB"
    expected = f"{words}; --set-threads transcode_clips=5 allows it"
    assert (row.reason, row.detail) == ("unsupported", expected)
    assert peak.num_bytes < 100_000_000


def test_threads_wait_for_memory_and_a_giant_runs_alone(monkeypatch):
    monkeypatch.setattr(memory, "BYTES_PER_WORKER", 100)
    budget = memory.MemoryBudget(2)
    held, peaks, giants = [], [], []

    def work(num_bytes):
        with budget.hold(num_bytes):
            held.append(num_bytes)
            peaks.append(sum(held))
            if num_bytes == 200:
                giants.append(len(held))
            threading.Event().wait(0.002)
            held.remove(num_bytes)

    sizes = [60, 150, 200, 40, 100, 90, 200, 10] * 4
    threads = [threading.Thread(target=work, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(peaks) == len(sizes)
    assert max(peaks) == 200
    assert giants == [1] * 8
    with pytest.raises(ValueError, match="201 bytes"), budget.hold(201):
        pass


def test_an_old_ffmpeg_is_named_and_loses_no_clip(tmp_path):
    with pytest.raises(StageError, match="too old") as caught:
        call_ffmpeg(["-no_such_option", "1"], timeout_seconds=120, folder=tmp_path)
    assert find_ffmpeg() in str(caught.value)


def test_jpegs_that_follow_one_another_are_taken_apart(tmp_path):
    """As ffmpeg writes them, also where a segment before the scan holds the marker of an end."""
    made = ("-f", "lavfi", "-i", "testsrc2=s=48x32:d=4:r=1", "-q:v", "2", "-bitexact")
    run_ffmpeg(*made, output=tmp_path / "%d.jpg")
    parts = [(tmp_path / f"{n}.jpg").read_bytes() for n in (1, 2, 3, 4)]
    comment = b"a" + END_OF_IMAGE
    parts[1] = parts[1][:2] + b"\xff\xfe\x00\x05" + comment + parts[1][2:]
    assert Image.open(io.BytesIO(parts[1])).info["comment"] == comment
    stream = b"".join(parts)
    assert split_jpegs(stream) == tuple(parts)
    for size in (0, 1, 3, 100, len(parts[3]) - 1):  # what was cut off is no picture
        assert split_jpegs(stream[: len(stream) - len(parts[3]) + size]) == tuple(parts[:3])
    assert split_jpegs(b"\xff\xd8" + bytes(9)) == ()
