"""What a data set costs to fetch, before anything is fetched."""

import json
import subprocess
import sys
from collections import Counter

import pytest

from pipeline_src.commands.estimate import Assumed, describe_estimate, estimate, read_listing
from pipeline_src.commands.estimate_workload import describe_workload, tar_bytes, workload
from pipeline_src.config import Config, DownloadConfig, RateLimitConfig
from pipeline_src.config.data import AudioConfig
from pipeline_src.datasets.dataset import load_dataset
from pipeline_src.manifest.chunks import read_chunk
from tests.media import download, make_clip, make_shards
from tests.server import BODY, running_server

ASSUMED = Assumed(kbit_per_second=1000, minutes_per_video=4, mbit_per_second=100)


def make_dataset(folder, rows, **keys):
    header = "clip_id,source,start_seconds,end_seconds,labels,split\n"
    (folder / "list.csv").write_text(header + "\n".join(rows) + "\n")
    (folder / "classes.csv").write_text("index,id,display_name\n0,a,A\n1,b,B\n")
    keys = {"name": "toy", "task": "multiclass", "clip_list": "list.csv"} | keys
    text = "".join(f"{key}: {value!r}\n" for key, value in keys.items())
    (folder / "toy.yaml").write_text(text + "class_names: classes.csv\n")
    return load_dataset(folder / "toy.yaml")


def by_name(folder, rows, config=None, **keys):
    dataset = make_dataset(folder, rows, **keys)
    config = config or Config(results=str(folder / "results"))
    listing = read_listing(dataset, config, ASSUMED)
    return {place.name: place for place in estimate(listing, dataset, config, ASSUMED)}


def test_local_sizes_are_read_and_hosts_assumed(tmp_path):
    (tmp_path / "a.mp4").write_bytes(bytes(1000))
    rows = [
        "a,a.mp4,,,a,train",
        "b,gone.mp4,,,a,train",
        "c,youtube:x,0,10,a,train",
        "d,youtube:x,20,30,a,train",
        "e,https://h/e.mp4,,,a,train",
    ]
    places = by_name(tmp_path, rows)
    assert set(places) == {"this machine", "youtube.com", "h"}
    local, youtube = places["this machine"], places["youtube.com"]
    assert (local.num_clips, local.num_missing, local.gigabytes) == (2, 1, 1e-6)
    assert (youtube.num_clips, youtube.num_sources, youtube.basis) == (2, 1, "assumed")
    assert youtube.gigabytes == pytest.approx(240 * 1e6 / 8 / 1e9)  # the whole video
    text = "\n".join(describe_estimate([*places.values()], ASSUMED))
    assert "5 clips" in text
    assert "assumed: 1000 kbit/s" in text


def test_hours_follow_from_the_rate_of_a_host_or_the_line(tmp_path):
    rows = [f"c{n},youtube:{n},0,10,a,train" for n in range(100)]
    slow = Config(rate_limits=RateLimitConfig(host_requests_per_second={"youtube.com": 0.01}))
    assert by_name(tmp_path, rows, slow)["youtube.com"].hours == pytest.approx(10_000 / 3600)
    fast = Config(rate_limits=RateLimitConfig(host_requests_per_second={"youtube.com": 0}))
    seconds = 100 * 240 * 1e6 / 100e6
    assert by_name(tmp_path, rows, fast)["youtube.com"].hours == pytest.approx(seconds / 3600)


def test_a_mirror_of_ready_cut_clips_is_smaller(tmp_path):
    rows = ["c,youtube:x,0,10,a,train"]
    place = by_name(tmp_path, rows, mirror="https://m/{clip_id}.mp4")["m"]
    assert place.gigabytes == pytest.approx(10 * 1e6 / 8 / 1e9)


@pytest.mark.slow
def test_what_was_fetched_is_not_counted_and_measures_the_rest(tmp_path):
    with running_server() as server:
        sources = [server.url(name) for name in ("good.mp4", "404.mp4", "500.mp4", "later.mp4")]
        config = DownloadConfig(max_attempts=1)
        download(tmp_path, [{"source": source} for source in sources[:3]], config)
    raw = tmp_path / "results/toy/raw/train"
    raw.mkdir(parents=True)
    (tmp_path / "results/raw").rename(raw / "00000")
    rows = [f"c{n},{source},,,a,train" for n, source in enumerate(sources)]
    place = by_name(tmp_path, rows)["127.0.0.1"]
    assert (place.num_sources, place.num_done, place.basis) == (4, 2, "measured on 1")
    assert place.gigabytes == pytest.approx(2 * len(BODY) / 1e9)


def timed_chunk(folder, chunk, seconds):
    """A chunk that has been fetched and timed: two clips, one of which is not there."""
    config = DownloadConfig(max_attempts=1)
    download(folder, [{"source": "a.mp4"}, {"source": "no.mp4"}], config)
    made = folder / "results/toy/download/train"
    made.mkdir(parents=True, exist_ok=True)
    (folder / "results/download/00000.json").rename(made / f"{chunk}.json")
    timing = folder / f"results/benchmarks/download_clips/toy/train/{chunk}.tsv"
    timing.parent.mkdir(parents=True, exist_ok=True)
    timing.write_text(f"s\th:m:s\tcpu_time\n{seconds}\t0:00:01\tNA\n")


@pytest.mark.slow
def test_the_work_follows_from_chunks_that_were_made_and_else_stays_unknown(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"a")
    timed_chunk(tmp_path, "00000", 30.0)
    timed_chunk(tmp_path, "00001", 50.0)
    config = Config(results=str(tmp_path / "results"))
    loads = {load.stage: load for load in workload(config, "toy", Counter(train=2500, test=1), 7.0)}
    assert {load.num_jobs for load in loads.values()} == {4}
    fetched, decoded = loads["download"], loads["transcode"]
    assert fetched.hours == pytest.approx(2501 * 20 / 3600)
    assert fetched.basis == "jobs of 2 chunks"
    assert (fetched.gigabytes, fetched.num_files) == (None, 32)
    assert (decoded.gigabytes, decoded.hours, decoded.basis) == (None, None, "unknown")
    _, row, *_ = describe_workload([*loads.values()], num_raw=100)
    assert row.split()[:5] == ["download", "4", "132", "?", "13.9"]


def test_the_recorded_rate_is_taken_for_clips_of_its_length_alone(tmp_path, monkeypatch):
    rates = {"transcode": 90.0, "logmel": 9.0, "pack": 18.0}
    sizes = dict.fromkeys(("transcode", "logmel", "pack"), 9e6)
    record = {"clip_seconds": 10.0, "num_clips": 9, "cpu_seconds": rates, "bytes": sizes}
    path = tmp_path / "benchmarks/results/preprocess_clips.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"by_clip_seconds": [record]}))
    monkeypatch.chdir(tmp_path)
    for seconds, hours in ((10.0, [100.0, 10.0, 20.0]), (1.0, [None] * 3), (0.0, [None] * 3)):
        _, *loads = workload(Config(), "toy", Counter(train=36_000), seconds)
        assert [load.hours for load in loads] == hours
        assert [load.gigabytes for load in loads] == [36.0 if seconds == 10 else None] * 3


@pytest.mark.slow
def test_bytes_of_a_stage_are_those_of_its_tars(tmp_path):
    make_clip(tmp_path / "a.mp4", seconds=1)
    clips = [{"clip_id": "a", "source": "a.mp4", "labels": "0"}]
    index = make_shards(tmp_path, clips, AudioConfig(num_mel_bins=64))
    manifest = read_chunk(next(index.parent.glob("0*.json")), "pack")
    tars = [*index.parent.glob("*.tar")]
    assert tar_bytes(manifest) == sum(tar.stat().st_size for tar in tars) > 0


@pytest.mark.slow
def test_the_command_names_what_is_known(root):
    command = [sys.executable, "-m", "pipeline_src", "estimate"]
    done = subprocess.run([*command, "avdigits"], cwd=root, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "3000 clips; 0.0 GB to fetch" in done.stdout
    wrong = subprocess.run([*command, "nowhere"], cwd=root, capture_output=True, text=True)
    assert wrong.returncode
    assert "unknown data set 'nowhere'; known: audioset_20k" in wrong.stderr
