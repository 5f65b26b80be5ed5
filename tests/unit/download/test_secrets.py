"""Cookies, proxies and yt-dlp options: sent where they belong, and written nowhere."""

import csv
import io
import json
import logging

import pytest

from pipeline_src.config.data import DownloadConfig
from pipeline_src.datasets.chunk_plan import ensure_plan
from pipeline_src.datasets.dataset import load_dataset
from pipeline_src.errors import ConfigError, ManifestError
from pipeline_src.system.joblog import log_to_file
from tests.media import download, download_one, rows_of
from tests.server import answer, running_server


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


@pytest.mark.slow
def test_tokens_of_a_lists_addresses_are_sent_and_stand_nowhere_else(tmp_path, server, caplog):
    """The list is read again for them: plan, log, ledger, manifest and messages have a hash."""
    server.raw["to.mp4"] = answer(status="302 F", Location="/404?X-Amz-Signature=TOKENFOUR")
    names = ("good.mp4?token=TOKENONE", "good.mp4?TOKENTWO", "torn.mp4?st=TOKENTHREE")
    names = (*names, "to.mp4?a=1", "see-good?a&TOKENFIVE", "reset.mp4?hash=TOKENSIX")
    lines = "".join(f"c{n},{server.url(name)},,,a,train\n" for n, name in enumerate(names))
    header = "clip_id,source,start_seconds,end_seconds,labels,split\n"
    (tmp_path / "list.csv").write_text(header + lines)
    (tmp_path / "classes.csv").write_text("index,id,display_name\n0,a,A\n1,b,B\n")
    text = "name: toy\ntask: multilabel\nclip_list: list.csv\nclass_names: classes.csv\n"
    (tmp_path / "toy.yaml").write_text(text)
    results = tmp_path / "results"
    dataset = load_dataset(tmp_path / "toy.yaml")
    ensure_plan(dataset, chunk_size=9, max_seconds=600, folder=results / "plan")
    planned = (results / "plan/train/00000.csv").read_text()
    clips = list(csv.DictReader(io.StringIO(planned)))
    for _ in range(2):
        with log_to_file(f"{results}/job.log"):
            logging.getLogger("x").warning("asked %s", server.url(names[0]))
            path = download(tmp_path, clips, clip_list=str(tmp_path / "list.csv"))
    rows = rows_of(path)
    assert [rows[f"c{n}"].reason for n in range(6)] == ["", "", "", "unavailable", "", "network"]
    assert server.requests["good.mp4"] == 3  # two tokens are two sources; the page's video
    sent = " ".join(server.paths)
    assert all(f"TOKEN{word}" in sent for word in ("ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX"))
    files = [file for file in results.rglob("*") if file.is_file()]
    assert {"job.log", "fetched.jsonl", "00000.csv"} <= {file.name for file in files}
    for file in files:
        assert b"TOKEN" not in file.read_bytes(), file
    (tmp_path / "list.csv").write_text(header + lines.replace("TOKENONE", "OTHER"))
    with pytest.raises(ManifestError, match=r"list.csv:2: no longer the source that was planned"):
        download(tmp_path, clips, clip_list=str(tmp_path / "list.csv"))


def test_a_password_in_an_address_is_never_sent_nor_written(tmp_path, server):
    source = server.url("good.mp4").replace("//", "//alice:PASSWORD1@")
    row, _ = download_one(tmp_path, source)
    assert (row.reason, server.requests.total()) == ("unsupported", 0)
    written = [file for file in (tmp_path / "results").rglob("*") if file.is_file()]
    assert not [file for file in written if b"PASSWORD1" in file.read_bytes()]
