"""Cookies, proxies and yt-dlp options: sent where they belong, and written nowhere."""

import json

import pytest

from pipeline_src.config.data import DownloadConfig
from pipeline_src.errors import ConfigError
from pipeline_src.joblog import log_to_file
from tests.media import download, download_one
from tests.server import running_server


@pytest.fixture
def server():
    with running_server() as server:
        yield server


SECRETS = ("COOKIESECRET", "PROXYSECRET", "OPTIONSECRET", "HEADERSECRET")


@pytest.fixture
def secret_env(tmp_path, monkeypatch, server):
    """A cookie of 127.0.0.1, the test server as a proxy with a password, and private options."""
    line = "\t".join(("127.0.0.1", "FALSE", "/", "FALSE", "0", "session", SECRETS[0]))
    (tmp_path / "cookies.txt").write_text(f"# Netscape HTTP Cookie File\n{line}\n")
    monkeypatch.setenv("PIPELINE_COOKIES", str(tmp_path / "cookies.txt"))
    address = server.url("").removeprefix("http://")
    monkeypatch.setenv("PIPELINE_PROXY", f"http://user:{SECRETS[1]}@{address}")
    options = {"videopassword": SECRETS[2], "http_headers": {"X-Token": SECRETS[3]}}
    monkeypatch.setenv("PIPELINE_YTDLP_OPTIONS", json.dumps(options))


def test_secrets_are_sent_and_stand_nowhere(tmp_path, server, secret_env, caplog, capfd):
    sources = [server.url(name) for name in ("good.mp4", "404.mp4", "see-good", "see-403")]
    sources += ["http://elsewhere.invalid/reset.mp4", "youtube:abc"]
    with log_to_file(f"{tmp_path}/results/job.log"):
        caplog.set_level("DEBUG")
        download(tmp_path, [{"source": source} for source in sources])
    cookies = [header.get("Cookie", "") for header in server.headers]
    assert sum(SECRETS[0] in cookie for cookie in cookies) >= 6  # requests' and yt-dlp's
    assert sum("Proxy-Authorization" in header for header in server.headers) >= 6
    assert sum(header.get("X-Token") == SECRETS[3] for header in server.headers) >= 3  # yt-dlp's
    files = [path for path in (tmp_path / "results").rglob("*") if path.is_file()]
    assert len(files) > 4
    assert "download toy" in (tmp_path / "results/job.log").read_text()
    for text in (
        caplog.text,
        *capfd.readouterr(),
        *(file.read_text(errors="replace") for file in files),
    ):
        assert not any(secret in text for secret in SECRETS)
    assert SECRETS[0] in (tmp_path / "cookies.txt").read_text()


def test_what_a_message_quotes_of_a_secret_is_blotted_out(tmp_path, server, secret_env):
    for secret in SECRETS:
        for word in ("404", "see-404"):
            row, _ = download_one(tmp_path, server.url(f"{word}?{secret}"))
            assert "***" in row.detail
            assert secret not in row.detail


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PIPELINE_COOKIES", "/no/such/file"),
        ("PIPELINE_PROXY", "SECRET"),
        ("PIPELINE_YTDLP_OPTIONS", "[SECRET]"),
        ("PIPELINE_YTDLP_OPTIONS", '{"outtmpl": "SECRET"}'),
    ],
)
def test_an_unusable_secret_is_named_and_not_shown(tmp_path, server, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=variable) as error:
        download_one(tmp_path, server.url("see-good"))
    assert "SECRET" not in str(error.value)


def test_secrets_have_no_place_in_the_configuration():
    for name in ("cookiefile", "proxy", "password", "http_headers", "outtmpl"):
        with pytest.raises(ValueError, match=name):
            DownloadConfig(ytdlp_options={name: "x"})
