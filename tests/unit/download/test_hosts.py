"""Fetching over the network: resuming, archives and mirrors, limits per host, pages."""

import json
import sys
import tarfile
import threading
import time
from pathlib import Path

import pytest
from yt_dlp.utils import DownloadError

from pipeline_src.config.data import DownloadConfig, RateLimitConfig
from pipeline_src.download.hosts import CircuitOpenError, Host, RateLimitedError
from pipeline_src.download.retry_policy import RetryPolicy
from pipeline_src.download.source_choices import mirror_source
from pipeline_src.download.ytdlp import as_media_error, tool_name
from pipeline_src.errors import MediaError, StageError
from pipeline_src.manifest.chunks import read_chunk
from tests.media import QUICK, clips_of, download, download_one, rows_of
from tests.server import BODY, LONG_SECONDS, running_server

pytestmark = pytest.mark.slow


@pytest.fixture
def server():
    with running_server() as server:
        yield server


def parts(folder: Path) -> list[str]:
    return sorted(p.name for p in (folder / "results/raw").glob(".*") if "part" in p.name)


def test_a_body_is_continued_where_it_broke_off(tmp_path, server):
    row, body = download_one(tmp_path, server.url("torn.mp4"))
    assert (row.status, row.attempts, body) == ("ok", 2, BODY)
    assert server.ranges == [("torn.mp4", f"bytes={len(BODY) // 2}-")]
    assert server.headers[1]["If-Range"] == server.etag
    assert parts(tmp_path) == []


def test_a_later_job_continues_what_an_earlier_one_began(tmp_path, server):
    once = DownloadConfig(max_attempts=1)
    row, _ = download_one(tmp_path, server.url("torn.mp4"), once)
    assert row.reason == "network"
    assert parts(tmp_path) == [".a.mp4.part", ".a.mp4.part.json"]
    row, body = download_one(tmp_path, server.url("torn.mp4"), once)
    assert (row.status, row.attempts, body) == ("ok", 2, BODY)
    assert len(server.ranges) == 1


def test_a_body_that_changed_meanwhile_is_fetched_from_the_start(tmp_path, server):
    download_one(tmp_path, server.url("torn.mp4"), DownloadConfig(max_attempts=1))
    server.etag, server.files["torn.mp4"] = '"two"', b"\0other" * 99_000
    row, body = download_one(tmp_path, server.url("torn.mp4"), DownloadConfig(max_attempts=1))
    assert (row.status, body) == ("ok", b"\0other" * 99_000)


def test_a_body_that_shrank_is_fetched_from_the_start(tmp_path, server):
    download_one(tmp_path, server.url("torn.mp4"), DownloadConfig(max_attempts=1))
    server.files["torn.mp4"] = b"\0short"
    row, body = download_one(tmp_path, server.url("torn.mp4"))
    assert (row.status, body) == ("ok", b"\0short")


def test_a_trickle_ends_an_attempt(tmp_path, server):
    config = DownloadConfig(max_attempts=1, max_transfer_seconds=0.5)
    started = time.monotonic()
    row, _ = download_one(tmp_path, server.url("trickle.mp4"), config)
    assert row.reason == "timeout"
    assert time.monotonic() - started < LONG_SECONDS / 2


def test_the_ledger_says_what_was_fetched_when_and_by_what(tmp_path, server):
    row, body = download_one(tmp_path, server.url("good.mp4"))
    assert body == BODY
    assert (row.bytes, len(row.sha256), row.source) == (len(BODY), 64, server.url("good.mp4"))
    assert row.tool.startswith("requests ")
    assert row.finished.endswith("+00:00")
    assert row.seconds > 0


def test_several_clips_of_one_source_are_one_request(tmp_path, server):
    clips = [{"clip_id": f"c{n}", "source": server.url("good.mp4")} for n in range(3)]
    path = download(tmp_path, clips)
    assert len({clip["path"] for clip in read_chunk(path, "download").clips}) == 1
    assert {row.tool[:8] for row in rows_of(path).values()} == {"requests"}
    assert server.requests.total() == 1


def make_tar(path: Path, bodies: dict[str, bytes]) -> bytes:
    with tarfile.open(path, "w") as tar:
        for name, body in bodies.items():
            (path.parent / "member").write_bytes(body)
            tar.add(path.parent / "member", name)
    return path.read_bytes()


def test_members_of_a_remote_archive_without_storing_it(tmp_path, server):
    bodies = {f"{n}.mp4": bytes([0, n]) * 1_500_000 for n in range(4)}
    server.files["a.tar"] = make_tar(tmp_path / "a.tar", bodies)
    wanted = ("0.mp4", "3.mp4", "no.mp4")
    clips = [{"clip_id": name, "source": server.url(f"a.tar::{name}")} for name in wanted]
    path = download(tmp_path, clips)
    assert clips_of(path) == {name: bodies[name] for name in ("0.mp4", "3.mp4")}
    assert rows_of(path)["no.mp4"].reason == "unavailable"
    assert server.ranges, "nothing was skipped"
    asked = server.requests.total()
    download(tmp_path, clips)
    assert server.requests.total() == asked  # neither what is there nor what is not


def test_a_remote_archive_that_is_missing_or_ill(tmp_path, server):
    whole = make_tar(tmp_path / "a.tar", {"a.mp4": BODY, "b.mp4": BODY})
    server.files["short.tar"] = whole[: len(BODY) + 5000]
    clips = [
        {"clip_id": "whole", "source": server.url("short.tar::a.mp4")},
        {"clip_id": "short", "source": server.url("short.tar::b.mp4")},
        {"clip_id": "gone", "source": server.url("404.tar::a.mp4")},
        {"clip_id": "torn", "source": server.url("half.tar::a.mp4")},
        {"clip_id": "page", "source": server.url("text.tar::a.mp4")},
    ]
    rows = rows_of(download(tmp_path, clips))
    reasons = {name: row.reason for name, row in rows.items()}
    assert reasons == {
        "whole": "",
        "short": "corrupt",
        "gone": "unavailable",
        "torn": "truncated",
        "page": "unavailable",
    }


def test_a_mirror_is_asked_first_and_the_list_after_it(tmp_path, server):
    server.files |= {"m/there.mp4": b"\0cut", "m/a%2Fb.mp4": b"\0slash", "whole.mp4": b"\0whole"}
    source = server.url("whole.mp4")
    clips = [
        {"clip_id": name, "source": source, "start_seconds": "3.0", "end_seconds": "5.0"}
        for name in ("there", "a/b", "404", "503")
    ]
    mirror = server.url("m/{clip_id}.mp4")
    path = download(tmp_path, clips, mirror=mirror)
    assert clips_of(path) == {"there": b"\0cut", "a/b": b"\0slash", "404": b"\0whole"}
    starts = {c["clip_id"]: c["start_seconds"] for c in read_chunk(path, "download").clips}
    assert starts == {"there": None, "a/b": None, "404": 3.0}
    ill = rows_of(path)["503"]
    assert (ill.reason, ill.source) == ("network", mirror.format(clip_id="503"))
    asked = server.requests.copy()
    download(tmp_path, clips, mirror=mirror)
    assert server.requests - asked == {"m/503.mp4": 2}
    uncut = download(tmp_path, clips[:1], mirror=mirror, mirror_is_cut=False)
    assert read_chunk(uncut, "download").clips[0]["start_seconds"] == 3.0


def test_the_mirror_of_a_clip_id_stays_where_the_template_says():
    hostile = "../../x?a=b#c&d"
    assert mirror_source("https://h/{clip_id}.mp4", hostile).startswith("https://h/..%2F..%2Fx%3F")
    archive = mirror_source("https://h/a.tar::{clip_id}.mp4", hostile)
    assert archive == f"https://h/a.tar::{hostile}.mp4"


def test_requests_are_spaced_over_all_threads(tmp_path, server):
    network = RateLimitConfig(requests_per_second=20)
    clips = [{"source": server.url(f"good.mp4?{n}")} for n in range(30)]
    download(tmp_path, clips, network=network)
    spread = max(server.times) - min(server.times)
    assert 0.4 < spread < 3  # 20 at once, ten more at 20 per second


def test_connections_per_host_are_bounded_over_all_threads(tmp_path, server):
    network = QUICK.model_copy(update={"connections_per_host": 2})
    clips = [{"source": server.url(f"slow.mp4?{n}")} for n in range(8)]
    download(tmp_path, clips, network=network)
    assert server.most_running == 2


def test_a_429_pauses_every_transfer_and_is_no_attempt(tmp_path, server):
    clips = [{"clip_id": f"c{n}", "source": server.url(f"limit.mp4?{n}")} for n in range(3)]
    network = QUICK.model_copy(update={"max_pause_seconds": 2.0})
    recovery = threading.Timer(0.5, setattr, (server, "is_ill", False))
    recovery.start()
    rows = rows_of(download(tmp_path, clips, network=network))
    recovery.join()
    assert {(row.status, row.attempts) for row in rows.values()} == {("ok", 1)}
    before, after = sorted(server.times)[:-3], sorted(server.times)[-3:]
    assert len(before) <= 3
    assert after[0] - before[-1] > 0.9, "asked again before Retry-After"


def test_a_429_behind_a_page_pauses_for_as_long_as_it_asks(tmp_path, server):
    server.heals_after = 1
    network = QUICK.model_copy(update={"max_pause_seconds": 2.0})
    row, body = download_one(tmp_path, server.url("see-limit"), network=network)
    assert (row.status, row.attempts, body) == ("ok", 1, BODY)
    assert row.tool.startswith("yt-dlp")
    assert server.requests == {"see-limit": 3, "limit.mp4": 2}
    assert server.times[3] - server.times[2] > 0.9, "asked again before Retry-After"


def test_waits_double_up_to_a_limit_and_no_two_are_alike(tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    config = RateLimitConfig(backoff_seconds=2, max_backoff_seconds=12)
    retries, failure = RetryPolicy(tmp_path, config, max_attempts=6), MediaError("network")
    for _ in range(20):
        assert [retries.should_retry(failure, n) for n in range(1, 7)] == [True] * 5 + [False]
    assert not retries.should_retry(MediaError("private"), 1)
    for number, longest in enumerate((2, 4, 8, 12, 12)):
        drawn = waits[number::5]
        assert longest / 2 <= min(drawn) < max(drawn) <= longest
        assert len(set(drawn)) == 20


@pytest.mark.parametrize("recovers", [True, False])
def test_a_bot_check_pauses_its_host_and_is_no_attempt(tmp_path, server, monkeypatch, recovers):
    """A site that yt-dlp knows, by way of the test server as a proxy."""
    monkeypatch.setenv("PIPELINE_PROXY", server.url(""))
    server.heals_after = 2 if recovers else 0
    row, body = download_one(tmp_path, "http://www.teachertube.com/video/human-1")
    assert row.tool.startswith("yt-dlp")
    if recovers:
        assert (row.status, row.attempts, body) == ("ok", 1, BODY)
    else:
        assert (row.reason, row.attempts) == ("bot_check", 0)
        assert "Confirm that you are not a bot" in row.detail
    first, second, third = server.times[:3]
    assert second - first > 0.1
    assert third - second > 0.2, "the pause did not double"
    assert server.requests["video/human-1"] == (3 if recovers else QUICK.max_pauses)


def test_a_host_that_stays_shut_is_left_alone(tmp_path, server):
    clips = [{"clip_id": f"c{n}", "source": server.url(f"429.mp4?{n}")} for n in range(30)]
    config = DownloadConfig(num_connections=2)
    network = QUICK.model_copy(update={"max_pauses": 2})
    rows = rows_of(download(tmp_path, clips, config, network=network))
    assert {(row.reason, row.attempts) for row in rows.values()} == {("rate_limited", 0)}
    assert server.requests.total() <= 8  # and not 60


def test_other_hosts_go_on_during_a_pause(tmp_path, server):
    shut = server.url("429.mp4")
    others = [server.url(f"{n}.mp4").replace("127.0.0.1", "localhost") for n in ("a", "b", "c")]
    network = QUICK.model_copy(update={"max_pauses": 2, "pause_seconds": 1, "max_pause_seconds": 1})
    rows = rows_of(
        download(tmp_path, [{"source": url} for url in (shut, *others)], network=network)
    )
    assert rows[shut].reason == "rate_limited"
    assert {rows[url].status for url in others} == {"ok"}
    hosts = [headers["Host"].partition(":")[0] for headers in server.headers]
    asked = list(zip(server.times, hosts, strict=True))
    first, second = (seconds for seconds, host in asked if host == "127.0.0.1")
    assert second - first > 0.9
    assert [host for seconds, host in asked if seconds < second].count("localhost") == 3


def test_a_pause_is_seen_by_other_jobs_and_ends_with_an_answer(tmp_path):
    config = RateLimitConfig(pause_seconds=0.3, max_pauses=1, requests_per_second=0)
    ours, theirs = Host(tmp_path, "h", config), Host(tmp_path, "h", config)
    with pytest.raises(RateLimitedError), ours.acquire():
        raise RateLimitedError("bot_check", "are you there")
    with pytest.raises(CircuitOpenError) as shut, theirs.acquire():
        pytest.fail("asked during the pause")
    assert shut.value.reason == "bot_check"
    with Host(tmp_path, "other", config).acquire():
        pass
    time.sleep(0.35)
    with theirs.acquire():
        pass
    assert json.loads((tmp_path / "h.json").read_text())["pauses"] == 0


def test_a_pause_does_not_last_until_a_clock_that_was_set_back_has_caught_up(tmp_path):
    config = RateLimitConfig(pause_seconds=0.2, max_pauses=3, requests_per_second=0)
    host = Host(tmp_path, "h", config)
    with pytest.raises(RateLimitedError), host.acquire():
        raise RateLimitedError("bot_check", "are you there")
    path = tmp_path / "h.json"
    state = json.loads(path.read_text())
    a_day = {name: state[name] + 86_400 for name in ("paused_at", "paused_until")}
    path.write_text(json.dumps({**state, **a_day}))
    with host.acquire():
        pass
    assert json.loads(path.read_text())["pauses"] == 0


def test_pages_end_with_the_reason_of_what_they_link(tmp_path, server):
    expected = {
        "404": "unavailable",
        "403": "private",
        "451": "geo_blocked",
        "429": "rate_limited",
        "500": "network",
        "cut": "truncated",
        "reset": "network",
        "good": "",
        "huge": "unsupported",
        "text": "unsupported",
    }
    clips = [{"clip_id": word, "source": server.url(f"see-{word}")} for word in expected]
    path = download(tmp_path, clips)
    rows = rows_of(path)
    assert {word: row.reason for word, row in rows.items()} == expected, rows
    assert clips_of(path) == {"good": BODY}
    assert {row.tool[:6] for row in rows.values()} == {"yt-dlp"}


def test_a_page_whose_video_falls_silent_ends_as_a_timeout(tmp_path, server):
    config = DownloadConfig(timeout_seconds=1, max_attempts=1)
    row, _ = download_one(tmp_path, server.url("see-hang"), config)
    assert (row.reason, row.tool[:6]) == ("timeout", "yt-dlp")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("Sign in to confirm you're not a bot. Use --cookies", "bot_check"),
        (
            "This content isn't available, try again later. It is rate-limited",
            "rate_limited",
        ),
        ("Sign in to confirm your age. This video may be inappropriate", "age_restricted"),
        ("Private video. Sign in if you've been granted access to this video", "private"),
        ("Join this channel to get access to members-only content", "private"),
        ("This video has been removed by the uploader", "removed"),
        (
            "Video unavailable. The account of this video has been terminated",
            "removed",
        ),
        ("The uploader has not made this video available in your country", "geo_blocked"),
        ("Incomplete YouTube ID abc. URL looks truncated.", "unavailable"),
        ("Video unavailable", "unavailable"),
        ("Requested format is not available", "unsupported"),
        ("Unable to download webpage: HTTP Error 503: Service Unavailable", "network"),
        ("The read operation timed out", "timeout"),
        ("Unable to extract yt initial data", "unsupported"),
    ],
)
def test_what_a_site_says_becomes_a_reason(words, reason):
    error = as_media_error(DownloadError(f"ERROR: [youtube] abc: {words}"), "youtube:abc")
    assert error.reason == reason
    assert isinstance(error, RateLimitedError) == (reason in ("bot_check", "rate_limited"))


@pytest.mark.parametrize("words", ["captcha", "removed", "log-in", "timed-out"])
def test_what_an_address_says_is_no_reason(tmp_path, server, words):
    row, _ = download_one(tmp_path, server.url(f"text-{words}"))
    assert (row.reason, row.attempts) == ("unsupported", 1)
    assert words in row.detail
    error = as_media_error(DownloadError(f"ERROR: [a:b] {words}: Not Found"), "https://h/x")
    assert error.reason == "unsupported"


def test_a_full_disk_is_not_the_clips_fault():
    words = "ERROR: unable to write data: [Errno 28] No space left on device"
    with pytest.raises(StageError, match="disk full"):
        as_media_error(DownloadError(words), "youtube:abc")


def test_without_yt_dlp_a_page_says_what_is_missing(tmp_path, server, monkeypatch):
    monkeypatch.setitem(sys.modules, "yt_dlp", None)
    tool_name.cache_clear()
    for source in ("youtube:abc", server.url("see-good")):
        row, _ = download_one(tmp_path, source)
        assert row.reason == "unsupported"
        assert "pip install 'yt-dlp[default]'" in row.detail
    tool_name.cache_clear()
