"""Pages and playlists through yt-dlp: merged, bounded, and never a way to this machine's files."""

import json
import time

import pytest

from pipeline_src.commands.reproduce import check_settings
from pipeline_src.config.data import DownloadConfig
from pipeline_src.errors import ConfigError, StageError
from pipeline_src.transcode import ffmpeg
from tests.media import (
    clips_of,
    download,
    download_one,
    make_clip,
    rows_of,
    run_ffmpeg,
    transcode_one,
)
from tests.server import PAGE, answer, running_server

pytestmark = pytest.mark.slow

ONCE = DownloadConfig(max_attempts=1)
HLS = "application/vnd.apple.mpegurl"
MASTER = """#EXTM3U
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="x",URI="a.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=100000,CODECS="avc1.42c01e,mp4a.40.2",RESOLUTION=64x48,AUDIO="a"
v.m3u8
"""


@pytest.fixture
def server():
    with running_server() as server:
        yield server


def playlist(name):
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:2,\n{name}\n#EXT-X-ENDLIST\n"


def dash(url):
    return f"""<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT2S"
 minBufferTime="PT1S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period>
<AdaptationSet mimeType="audio/mp4" contentType="audio">
<Representation id="1" bandwidth="64000" codecs="mp4a.40.2"><BaseURL>{url}</BaseURL><SegmentBase/>
</Representation></AdaptationSet></Period></MPD>"""


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """A picture without sound, and a private sound file."""
    folder = tmp_path_factory.mktemp("media")
    sound = ("-f", "lavfi", "-i", "sine=f=777:d=2", "-c:a", "aac")
    return (
        make_clip(folder / "v.mp4", seconds=2, tone=None),
        run_ffmpeg(*sound, output=folder / "private.m4a"),
    )


def serve_two_streams(server, picture, sound):
    """A playlist whose sound and picture are apart, so that they have to be merged."""
    server.raw |= {
        "master.m3u8": answer(MASTER.encode(), HLS),
        "v.m3u8": answer(playlist("v0.mp4").encode(), HLS),
        "a.m3u8": answer(playlist("a0.mp4").encode(), HLS),
        "v0.mp4": answer(picture),
        "a0.mp4": answer(sound),
    }


def test_sound_and_picture_of_a_playlist_are_merged(tmp_path, server, media):
    picture, sound = media
    serve_two_streams(server, picture.read_bytes(), sound.read_bytes())
    clip, _ = transcode_one(tmp_path, clip_id="a", source=server.url("master.m3u8"))
    assert (clip["audio_codec"], clip["video_codec"]) == ("aac", "mpeg4")
    assert abs(clip["duration_seconds"] - 2) < 0.2


@pytest.mark.parametrize("padding", ["", "\0" * 5000])
@pytest.mark.parametrize("kind", ["dash", "hls", "concat", "dash-http"])
def test_no_file_that_a_page_names_is_read(tmp_path, server, media, kind, padding):
    """In place of the sound a manifest that names a file of this machine, or another server's."""
    picture, sound = media
    server.raw["secret.m4a"] = answer(sound.read_bytes())
    url = server.url("secret.m4a") if kind.endswith("http") else f"file://{sound}"
    text = {"dash": dash(url), "dash-http": dash(url), "hls": playlist(url)}
    manifest = text.get(kind, f"ffconcat version 1.0\nfile '{sound}'\n") + padding
    serve_two_streams(server, picture.read_bytes(), manifest.encode())
    body = PAGE.format(f"<video src='{server.url('master.m3u8')}'></video>").encode()
    server.raw["page"] = answer(body, "text/html")
    row, _ = download_one(tmp_path, server.url("page"), ONCE)
    assert row.status == "failed", row
    assert row.reason in ("unsupported", "corrupt", "unavailable")
    assert server.requests["secret.m4a"] == 0


@pytest.mark.parametrize("kind", ["dash", "dash-file"])
def test_a_dash_manifest_goes_to_the_page_reader_and_names_no_file(tmp_path, server, media, kind):
    url = f"file://{media[1]}" if kind == "dash-file" else server.url("a0.m4a")
    server.raw |= {
        "a.mpd": answer(dash(url).encode(), "application/dash+xml"),
        "a0.m4a": answer(media[1].read_bytes()),
    }
    row, body = download_one(tmp_path, server.url("a.mpd"), ONCE)
    assert row.tool.startswith("yt-dlp")
    assert (body == media[1].read_bytes()) == (kind == "dash")  # else what lies there on the server


def test_a_merge_that_does_not_end_is_killed(tmp_path, server, media, monkeypatch):
    picture, sound = media
    serve_two_streams(server, picture.read_bytes(), sound.read_bytes())
    config = ONCE.model_copy(update={"max_transfer_seconds": 3})
    sleeper = tmp_path / "ffmpeg"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr(ffmpeg, "find_ffmpeg", lambda: str(sleeper))
    started = time.monotonic()
    row, _ = download_one(tmp_path, server.url("master.m3u8"), config)
    assert row.reason == "timeout", row
    assert server.requests["a0.mp4"] == 1  # so the merge had begun
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("kind", ["live", "protected", "file"])
def test_a_playlist_is_never_given_to_ffmpeg(tmp_path, server, media, kind):
    text = playlist("a0.mp4")
    if kind == "live":
        text = text.replace("#EXT-X-ENDLIST\n", "#EXT-X-MEDIA-SEQUENCE:7\n")
    elif kind == "protected":
        text = text.replace("#EXTINF", '#EXT-X-KEY:METHOD=SAMPLE-AES,URI="k"\n#EXTINF')
    else:
        text = playlist(f"file://{media[1]}")
    server.raw |= {"a.m3u8": answer(text.encode(), HLS), "a0.mp4": answer(media[1].read_bytes())}
    path = download(tmp_path, [{"clip_id": "a", "source": server.url("a.m3u8")}], ONCE)
    if kind == "live":  # its pieces so far, fetched one by one
        assert set(clips_of(path)) <= {"a"}
    else:
        assert rows_of(path)["a"].status == "failed"


def test_a_page_that_drips_or_never_ends_is_bounded(tmp_path, server):
    head = b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n<html><title>x</title>"

    def endless(handler):
        if "yt" not in handler.path:
            handler.wfile.write(head)
        while True:
            handler.wfile.write(b" " * (1 << 20))

    server.raw |= {"drip": lambda handler: handler.drip(head), "endless": endless}
    config = ONCE.model_copy(update={"max_transfer_seconds": 1.5})
    started = time.monotonic()
    clips = [{"clip_id": name, "source": server.url(name)} for name in ("drip", "endless")]
    rows = rows_of(download(tmp_path, clips, config))
    assert rows["drip"].reason == "timeout"
    assert rows["endless"].reason in ("unsupported", "timeout")
    assert time.monotonic() - started < 15


def test_a_page_on_another_machine_leads_to_no_private_address(tmp_path, server, monkeypatch):
    """By way of the test server as a proxy, which answers for every host."""
    monkeypatch.setenv("PIPELINE_PROXY", server.url(""))
    target = "http://169.254.169.254/good.mp4"
    for address in (target, server.url("good.mp4")):
        body = PAGE.format(f"<video src='{address}'></video>").encode()
        server.raw["page"] = answer(body, "text/html")
        row, _ = download_one(tmp_path, f"http://elsewhere.invalid/page?{address[7:12]}", ONCE)
        assert (row.reason, "does not allow it" in row.detail) == ("unsupported", True), row
    assert server.requests["good.mp4"] == 0


HOSTILE_OPTIONS = {
    "postprocessors": [{"key": "Exec", "exec_cmd": "touch x"}],
    "netrc_cmd": "touch x",
    "plugin_dirs": ["."],
    "enable_file_urls": True,
    "writeinfojson": True,
    "download_archive": "x",
    "postprocessor_args": {"merger": ["-y", "x"]},
    "print_to_file": {"video": [["%(id)s", "x"]]},
    "external_downloader": "curl",
    "load_info_filename": "x",
    "ffmpeg_location": "x",
    "outtmpl": "x",
}


@pytest.mark.parametrize("name", HOSTILE_OPTIONS)
def test_options_are_allowed_by_name(tmp_path, server, monkeypatch, name):
    options = {name: HOSTILE_OPTIONS[name]}
    with pytest.raises(ValueError, match=f"ytdlp_options.{name} is not allowed; allowed are"):
        DownloadConfig(ytdlp_options=options)
    monkeypatch.setenv("PIPELINE_YTDLP_OPTIONS", json.dumps(options))
    with pytest.raises(ConfigError, match=f"PIPELINE_YTDLP_OPTIONS: {name} is not allowed"):
        download_one(tmp_path, server.url("see-good"))
    stored = {"download": {"ytdlp_options": options}}
    with pytest.raises(
        StageError, match=f"(?s)metrics.json: .*ytdlp_options.{name} is not allowed"
    ):
        check_settings(tmp_path / "metrics.json", stored)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"sleep_interval": 1, "format_sort": ["res:360"], "playlist_items": "2"}, ""),
        ({"extractor_args": {"youtube": {"player_client": ["tv"]}}}, ""),
        ({"sleep_interval": "1"}, "sleep_interval must be int or float"),
        ({"sleep_interval": True}, "sleep_interval must be int or float"),
        ({"format_sort": [{"a": 1}]}, "format_sort must be list"),
        ({"extractor_args": {"youtube": "x"}}, "extractor_args must be dict: "),
        ({"password": "x"}, "password may be private"),
    ],
)
def test_options_are_of_the_right_kind(options, problem):
    if not problem:
        assert DownloadConfig(ytdlp_options=options).ytdlp_options == options
        return
    with pytest.raises(ValueError, match=problem):
        DownloadConfig(ytdlp_options=options)
