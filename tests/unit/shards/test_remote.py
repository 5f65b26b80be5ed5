"""Shards at URLs: read by ranges, kept in a bounded folder, right after every kind of failure."""

import errno
import json
import os
import socket
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest

from pipeline_src.config.data import AudioConfig, RemoteConfig
from pipeline_src.errors import ManifestError, SampleError
from pipeline_src.loader.batches import evaluation_batches
from pipeline_src.loader.clip_format import ClipFormat
from pipeline_src.loader.dataset import ClipDataset
from pipeline_src.shards.fetch import fetch_index
from pipeline_src.shards.files import RemoteShard
from pipeline_src.shards.kept import kept_path
from pipeline_src.shards.reader import ShardReader
from pipeline_src.shards.remote import RemoteReader
from pipeline_src.shards.shard_set import open_shards
from pipeline_src.shards.transfer import Transfer
from tests import media
from tests.server import BODY, LONG_SECONDS, running_server, wait_for_port

pytestmark = pytest.mark.slow

AUDIO = AudioConfig(num_mel_bins=32)
NAMES = "abcd"


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The index of four packed clips."""
    folder = tmp_path_factory.mktemp("remote")
    for number, name in enumerate(NAMES):
        media.make_clip(folder / f"{name}.mp4", tone=(0.2 * number, 0.9))
    clips = [{"clip_id": k, "source": f"{k}.mp4", "labels": "1"} for k in NAMES]
    return media.make_shards(folder, clips, AUDIO)


@pytest.fixture
def server(local):
    with running_server() as running:
        for path in local.parent.iterdir():
            running.files[f"train/{path.name}"] = path.read_bytes()
        yield running


def make_config(tmp_path, **changes):
    values = {"cache_folder": str(tmp_path / "cache"), "backoff_seconds": 0}
    return RemoteConfig(**{**values, **changes})


def fetch(tmp_path, url, config, **changes):
    lines = {"name": "far", "task": "multilabel", "format": "shards", **changes}
    yaml_path = tmp_path / "far.yaml"
    text = "".join(f"{key}: {value}\n" for key, value in lines.items())
    yaml_path.write_text(f"{text}index_urls: {{train: '{url}'}}\n")
    index_path = tmp_path / "far" / "index.json"
    fetch_index(index_path=index_path, dataset_path=yaml_path, split="train", remote=config)
    return index_path


def check_equal(local, shards, config):
    reader, expected = ShardReader(config), open_shards([local])
    assert [sample.clip_id for sample in shards.samples] == list(NAMES)
    for far, near in zip(shards.samples, expected.samples, strict=True):
        assert reader.read(far) == ShardReader().read(near)


def test_samples_come_by_ranges_once(tmp_path, local, server):
    config = make_config(tmp_path)
    index_path = fetch(tmp_path, server.url("train/index.json"), config)
    assert json.loads(index_path.read_text())["dataset"] == "far"
    shards = open_shards([index_path], config)
    check_equal(local, shards, config)
    assert server.requests["train/train-00000.tar"] == 4
    (kept,) = (tmp_path / "cache").iterdir()
    check_equal(local, shards, config)
    assert server.requests["train/train-00000.tar"] == 4
    data = bytearray(kept.read_bytes())
    data[shards.samples[2].offset_bytes + 600] ^= 1  # a torn write is a hole
    kept.write_bytes(data)
    check_equal(local, shards, config)
    assert server.requests["train/train-00000.tar"] == 5


def test_a_server_without_ranges_is_asked_for_the_shard_once(tmp_path, local, server):
    server.serves_ranges = False
    config = make_config(tmp_path)
    shards = open_shards([fetch(tmp_path, server.url("train/index.json"), config)], config)
    check_equal(local, shards, config)
    assert server.requests["train/train-00000.tar"] == 2  # by range, then as a whole
    small = make_config(tmp_path, cache_folder=str(tmp_path / "none"), cache_gigabytes=1e-6)
    with pytest.raises(ManifestError, match="sends whole files only"):
        ShardReader(small).read(shards.samples[0])


def test_a_full_disk_is_no_fault_of_the_network(tmp_path, local, server, monkeypatch):
    """It was asked for again and again, and then the network was to be looked at."""
    server.serves_ranges = False
    config = make_config(tmp_path, max_attempts=6)
    shards = open_shards([fetch(tmp_path, server.url("train/index.json"), config)], config)
    server.requests.clear()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pipeline_src.shards.kept.os.pwrite", full)
    with pytest.raises(ManifestError, match=r"^disk full: .*free space"):
        ShardReader(config).read(shards.samples[0])
    assert server.requests["train/train-00000.tar"] == 2  # by range, then as a whole


@pytest.mark.parametrize("serves_ranges", [True, False])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_loader_gets_over_a_server_that_fails_at_times(
    tmp_path, local, server, serves_ranges, num_workers
):
    server.serves_ranges, server.fail_every = serves_ranges, 3
    config = make_config(tmp_path, max_attempts=6)
    shards = open_shards([fetch(tmp_path, server.url("train/index.json"), config)], config)

    def load(shards, num_workers):
        wanted = ClipFormat(
            target_length=96, img_size=32, num_frames=4, logmel_mean=0, logmel_std=1, training=False
        )
        batches = evaluation_batches(
            ClipDataset(shards, wanted), batch_size=2, num_workers=num_workers
        )
        return [{name: value.clone() for name, value in batch.items()} for batch in batches]

    for far, near in zip(load(shards, num_workers), load(open_shards([local]), 0), strict=True):
        assert all(np.array_equal(far[name], near[name]) for name in near)


def test_the_folder_stays_within_its_bounds(tmp_path, local, server):
    config = make_config(tmp_path, cache_gigabytes=1e-4)
    shards = open_shards([fetch(tmp_path, server.url("train/index.json"), config)], config)
    folder = tmp_path / "cache"
    folder.mkdir()
    kept = [kept_path(folder, RemoteShard(f"http://x/{number}", 1)) for number in range(5)]
    # Archives of the user's own, links, files of two names: not what reading shards has made.
    others = ["thesis.tar", f"{'0' * 32}.tar", f"x{'0' * 32}.av-shard", f"{'1' * 32}.av-shard.tar"]
    for number, path in enumerate([*kept, *(folder / name for name in others)]):
        path.write_bytes(os.urandom(30_000))
        os.utime(path, (number, number))
    linked, twice = (kept_path(folder, RemoteShard(f"http://x/{name}", 1)) for name in "ab")
    linked.symlink_to(folder / "thesis.tar")
    os.link(folder / others[1], twice)
    check_equal(local, shards, config)
    assert not kept[0].exists()
    assert all((folder / name).stat().st_size == 30_000 for name in others)
    assert linked.is_symlink()
    assert twice.exists()
    ours = [path for path in folder.glob("*.av-shard") if path not in (linked, twice)]
    ours.remove(folder / others[2])
    assert sum(path.stat().st_blocks * 512 for path in ours) <= 100_000 + 65_536


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: folder.chmod(0o777), "others may write there .mode 777."),
        (lambda folder: folder.chmod(0o770), "others may write there .mode 770."),
        (lambda folder: folder.parent.chmod(0o777), "anybody may rename it"),
        (lambda folder: [folder.rename(f"{folder}2"), folder.touch()], "it is no folder"),
        (lambda folder: [folder.rename(f"{folder}2"), folder.symlink_to(f"{folder}2")], "a link"),
        (lambda folder: [folder.rmdir(), folder.symlink_to("nowhere")], "it is a link to nowhere"),
    ],
)
def test_a_folder_that_others_may_change_is_refused(tmp_path, local, server, spoil, message):
    folder = tmp_path / "own" / "cache"
    folder.mkdir(parents=True)
    config = make_config(tmp_path, cache_folder=str(folder))
    shards = open_shards([fetch(tmp_path, server.url("train/index.json"), config)], config)
    spoil(folder)
    with pytest.raises(ManifestError, match=f"remote.cache_folder: .*{message}"):
        ShardReader(config).read(shards.samples[0])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root, as CI is, can give a folder away")
def test_a_folder_of_somebody_else_is_refused(tmp_path, local, server):
    config = make_config(tmp_path)
    shards = open_shards([fetch(tmp_path, server.url("train/index.json"), config)], config)
    (tmp_path / "cache").mkdir()
    os.chown(tmp_path / "cache", 12345, 12345)
    with pytest.raises(ManifestError, match="it belongs to user 12345, not to you"):
        ShardReader(config).read(shards.samples[0])


@pytest.mark.parametrize("serves_ranges", [True, False])
def test_a_link_in_the_folder_is_not_followed(tmp_path, local, server, serves_ranges):
    server.serves_ranges = serves_ranges
    config = make_config(tmp_path)
    shards = open_shards([fetch(tmp_path, server.url("train/index.json"), config)], config)
    victim = tmp_path / "authorized_keys"
    victim.write_bytes(b"precious")
    (tmp_path / "cache").mkdir()
    path = kept_path(tmp_path / "cache", shards.samples[0].shard)
    for plant in (path.symlink_to, path.hardlink_to):
        plant(victim)
        with pytest.raises(ManifestError, match=r"is a link|is not your own file"):
            ShardReader(config).read(shards.samples[0])
        assert victim.read_bytes() == b"precious"
        path.unlink()


@pytest.mark.parametrize("serves_ranges", [True, False])
def test_forged_samples_of_the_right_crc_are_refused(tmp_path, local, server, serves_ranges):
    server.serves_ranges = serves_ranges
    config = make_config(tmp_path)
    shards = open_shards([fetch(tmp_path, server.url("train/index.json"), config)], config)
    sample, other = shards.samples[:2]
    ShardReader(config).read(sample)
    kept = kept_path(tmp_path / "cache", sample.shard)
    data = bytearray(kept.read_bytes())
    for one in (sample, other):  # read before, and not yet
        data[one.offset_bytes : one.offset_bytes + 4] = b"evil"
    kept.write_bytes(data)
    for one in (sample, other):
        forged = data[one.offset_bytes : one.offset_bytes + one.size_bytes]
        with pytest.raises(SampleError, match="is not what was packed"):
            ShardReader(config).read(one._replace(crc32=zlib.crc32(forged)))
    check_equal(local, shards, config)


def test_a_whole_shard_is_fetched_by_the_path_where_it_is_kept(tmp_path, server):
    config = make_config(tmp_path)
    shards = open_shards([fetch(tmp_path, server.url("train/index.json"), config)], config)
    sample, reader = shards.samples[0], RemoteReader(config)
    path = kept_path(tmp_path / "cache", sample.shard)
    assert reader._fetch_whole(path, sample, sample.shard) == reader.read(sample)


def test_answers_are_bounded(tmp_path, server):
    server.files["long"] = bytes(5_000)
    transfer = Transfer(make_config(tmp_path, max_transfer_seconds=0.5))
    assert sum(map(len, transfer.stream(server.url("long"), 100))) == 101
    with pytest.raises(TimeoutError, match="max_transfer_seconds"):
        list(transfer.stream(server.url("trickle"), 10**9))
    with pytest.raises(TimeoutError, match="max_transfer_seconds"):
        transfer.whole(server.url("trickle.json"))


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
DRIPS = {
    "headers": b"HTTP/1.1 200 OK\r\nX: ",
    "chunk": CHUNKED + b"1\r\n\0\r\n5;",
    "trailer": CHUNKED + b"1\r\n\0\r\n0\r\nX: ",
    "no_length": b"HTTP/1.0 206 OK\r\n\r\n{}",
}
READS = {
    "whole": lambda transfer, url: transfer.whole(url),
    "span": lambda transfer, url: transfer.span(url, 0, 10_000, 10_000),
    "stream": lambda transfer, url: b"".join(transfer.stream(url, 10_000)),
}


@pytest.mark.parametrize(
    ("drip", "read"),
    [("headers", "span"), *((drip, "whole") for drip in DRIPS), ("chunk", "stream")],
)
def test_an_answer_that_drips_ends_at_the_deadline(tmp_path, server, drip, read):
    server.raw["drip"] = lambda handler: handler.drip(DRIPS[drip])
    transfer = Transfer(make_config(tmp_path, max_transfer_seconds=0.3))
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=r"max_transfer_seconds=0\.3"):
        READS[read](transfer, server.url("drip"))
    assert time.monotonic() - started < LONG_SECONDS / 2


def test_a_redirect_is_followed_without_its_body(tmp_path, server):
    head = b"HTTP/1.1 302 Found\r\nLocation: /good\r\nContent-Length: 9999\r\n\r\n"
    server.raw["moved"] = lambda handler: handler.drip(head)
    transfer = Transfer(make_config(tmp_path, max_transfer_seconds=2))
    assert transfer.whole(server.url("moved")) == BODY


def test_failures_name_the_address_and_what_to_do(tmp_path, server):
    config = make_config(tmp_path, max_attempts=2)
    url = server.url("train/index.json")
    for path, message in [
        ("train/404.json", "the server says 404"),
        ("train/ill.json", "not read after 2 attempts"),
        ("train/text.json", "no index.json of packed shards"),
        ("train/00000.json", "no index of this version"),
    ]:
        with pytest.raises(ManifestError, match=message):
            fetch(tmp_path, server.url(path), config)
    with pytest.raises(ManifestError, match=r"modalities is .*video"):
        fetch(tmp_path, url, config, modalities="[audio]")
    index_path = fetch(tmp_path, url, config)
    shards = open_shards([index_path], config)
    tar = server.files["train/train-00000.tar"]
    server.files["train/train-00000.tar"] = tar + b"more"
    with pytest.raises(ManifestError, match="was packed again; fetch the index again"):
        ShardReader(config).read(shards.samples[0])
    server.files["train/train-00000.tar"] = tar[:700] + b"?" + tar[701:]
    with pytest.raises(SampleError, match=r"clip a is not what was packed"):
        ShardReader(config).read(shards.samples[0])


@pytest.mark.parametrize("manifest", ["../../x.json", "/etc/passwd", "x.json"])
def test_an_index_cannot_name_files_elsewhere(tmp_path, server, manifest):
    index = json.loads(server.files["train/index.json"])
    index["shards"][0]["manifest"] = manifest
    server.files["train/index.json"] = json.dumps(index).encode()
    with pytest.raises(ManifestError, match="is no manifest's name"):
        fetch(tmp_path, server.url("train/index.json"), make_config(tmp_path))
    index["shards"][0]["manifest"] = "00000.json"
    chunk = json.loads(server.files["train/00000.json"])
    chunk["shards"][0]["file"] = "../train-00000.tar"
    server.files |= {
        "train/index.json": json.dumps(index).encode(),
        "train/00000.json": json.dumps(chunk).encode(),
    }
    with pytest.raises(ManifestError, match="is no shard's name"):
        fetch(tmp_path, server.url("train/index.json"), make_config(tmp_path))


def test_shards_in_another_folder_stay_there(tmp_path, local):
    config = make_config(tmp_path)
    shards = open_shards([fetch(tmp_path, local, config)], config)
    assert {sample.shard for sample in shards.samples} == {local.parent / "train-00000.tar"}
    check_equal(local, shards, config)
    with pytest.raises(ManifestError, match="not readable"):
        fetch(tmp_path, tmp_path / "nowhere.json", config)


def test_shards_are_read_from_s3(tmp_path, local, monkeypatch):
    import boto3

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    moto = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        endpoint = f"http://127.0.0.1:{port}"
        for name, value in {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        wait_for_port(port, moto)
        client = boto3.client("s3")
        client.create_bucket(Bucket="clips")
        for path in local.parent.iterdir():
            client.upload_file(str(path), "clips", f"train/{path.name}")
        config = make_config(tmp_path, max_attempts=2)
        shards = open_shards([fetch(tmp_path, "s3://clips/train/index.json", config)], config)
        check_equal(local, shards, config)
        with pytest.raises(ManifestError, match=r"s3://clips/x\.json: FileNotFoundError"):
            fetch(tmp_path, "s3://clips/x.json", config)
    finally:
        moto.terminate()
        moto.wait()
