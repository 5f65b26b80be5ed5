"""Packing, the index, and random access to samples."""

import hashlib
import io
import json
import pickle
import tarfile

import numpy as np
import pytest
import webdataset

from pipeline_src.config.data import AudioConfig, ShardsConfig
from pipeline_src.datasets.chunk_plan import ensure_plan, read_plan_chunk
from pipeline_src.datasets.dataset import load_dataset
from pipeline_src.errors import ManifestError, StageError
from pipeline_src.logmel.chunk import extract_chunk
from pipeline_src.manifest.chunks import read_chunk
from pipeline_src.manifest.ledger import FLAGS, read_ledger
from pipeline_src.runs.spec import index_fingerprint
from pipeline_src.shards.duplicates import content_hash
from pipeline_src.shards.index import write_index
from pipeline_src.shards.reader import ShardReader
from pipeline_src.shards.running_stats import Moments, moments_of
from pipeline_src.shards.shard_set import dropped_clips, open_shards
from pipeline_src.shards.write import pack_chunk
from tests import media

pytestmark = pytest.mark.slow

CLIPS = (
    {"clip_id": "a", "source": "a.mp4", "labels": "0"},
    {"clip_id": "gone", "source": "gone.mp4", "labels": "1"},
    {"clip_id": "b.1/x" + "y" * 200, "source": "b.mp4", "labels": "0;1"},
    {"clip_id": "quiet", "source": "quiet.mp4", "labels": "1"},
)


def extract(transcode_path, logmel_path):
    """Compute the log-mels of a transcoded chunk."""
    extract_chunk(
        transcode_manifest=transcode_path,
        manifest_path=logmel_path,
        ledger_path=logmel_path.with_suffix(".ledger.csv"),
        audio=AudioConfig(),
        sample_rate_hz=16000,
        num_workers=1,
        version=1,
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A results folder with one chunk packed: a, a clip with a long hostile id, a silent one."""
    folder = tmp_path_factory.mktemp("shards")
    media.make_clip(folder / "a.mp4", tone=(0, 0.5))
    media.make_clip(folder / "b.mp4", seconds=2, tone=(1, 2))
    media.make_clip(folder / "quiet.mp4", tone=(50, 60))
    transcode_path = media.transcode(media.download(folder, CLIPS))
    logmel_path = folder / "results" / "logmel" / "00000.json"
    extract(transcode_path, logmel_path)
    (folder / "classes.csv").write_text("index,id,display_name\n0,a,Alpha\n1,b,Beta\n")
    text = "name: toy\ntask: multilabel\nclip_list: toy.csv\nclass_names: classes.csv\n"
    (folder / "toy.yaml").write_text(text)
    pack(folder / "results")
    return folder / "results"


def pack(results, name="shards", config=None, **shards):
    manifest_path = results / name / "00000.json"
    pack_chunk(
        logmel_manifest=results / "logmel" / "00000.json",
        transcode_manifest=results / "transcode" / "00000.json",
        manifest_path=manifest_path,
        ledger_path=manifest_path.with_suffix(".ledger.csv"),
        shard_path=manifest_path.parent / "train-00000.tar",
        shards=config or ShardsConfig(**shards),
        version=1,
    )
    return manifest_path


def index(
    results,
    name="shards",
    *,
    limit=0.3,
    media_config=media.SMALL,
    split="train",
    train=True,
    earlier=(),
    exclude=False,
):
    path = results / name / f"index_{split}.json"
    manifest_path = results / name / "00000.json"
    write_index(
        shard_manifests=[manifest_path],
        train_manifests=[manifest_path] if train else [],
        earlier_manifests=earlier,
        index_path=path,
        dataset_path=results.parent / "toy.yaml",
        exclude_duplicates=exclude,
        split=split,
        max_failed_fraction=limit,
        audio=AudioConfig(),
        media=media_config,
        version=1,
    )
    return path


def test_a_sample_holds_all_that_the_design_lists(results):
    shards = open_shards([index(results)])
    assert [sample.clip_id for sample in shards.samples] == ["a", CLIPS[2]["clip_id"], "quiet"]
    assert [sample.labels for sample in shards.samples] == [(0,), (0, 1), (1,)]
    members = ShardReader().read(shards.samples[1])
    frames = [f"frame_{n:02d}.jpg" for n in range(media.SMALL.num_frames)]
    assert sorted(members) == sorted(["flac", "json", "logmel.npy", *frames])
    metadata = json.loads(bytes(members["json"]))
    assert metadata == {
        "clip_id": CLIPS[2]["clip_id"],
        "labels": [0, 1],
        "start_seconds": 0.0,
        "end_seconds": 2.0,
        "duration_seconds": 2.0,
        "fps": 10.0,
        "frame_seconds": [0.25, 0.75, 1.25, 1.75],
        "flags": [],
        "source": "b.mp4",
    }
    assert media.frame_numbers(members) == [2, 7, 12, 17]
    assert np.load(io.BytesIO(members["logmel.npy"])).shape == (198, 128)


def test_webdataset_and_tarfile_read_the_same_samples(results):
    path = results / "shards" / "train-00000.tar"
    shards = open_shards([index(results)])
    reader = ShardReader()
    stored = list(webdataset.WebDataset(str(path), shardshuffle=False))
    assert [sample["__key__"] for sample in stored] == [sample.key for sample in shards.samples]
    for theirs, sample in zip(stored, shards.samples, strict=True):
        ours = reader.read(sample)
        assert ours == {name: data for name, data in theirs.items() if not name.startswith("__")}
    with tarfile.open(path) as tar:
        assert {(member.mtime, member.uname) for member in tar} == {(0, "root")}


def test_only_wanted_members_are_returned(results):
    sample = open_shards([index(results)]).samples[0]
    reader = pickle.loads(pickle.dumps(ShardReader()))
    assert sorted(reader.read(sample, {"frame_02.jpg", "json"})) == ["frame_02.jpg", "json"]
    with pytest.raises(ManifestError, match="no member mp3"):
        reader.read(sample, {"mp3", "json"})


def test_packing_again_after_a_kill_gives_the_same_bytes_and_leaves_nothing_else(results):
    (results / "again").mkdir()
    (results / "again" / ".train-00000.tar.99999.part").write_bytes(b"half a shard")
    first, second = results / "shards", pack(results, "again").parent
    assert len(list(second.iterdir())) == 3
    for name in ("00000.json", "00000.ledger.csv", "train-00000.tar"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_a_chunk_is_split_by_bytes_and_packed_again_exactly(results):
    one = results / "shards"
    size = (one / "train-00000.tar").stat().st_size
    config = ShardsConfig.model_construct(target_bytes=size // 4)  # below the bound of the key
    parts = pack(results, "parts", config=config).parent
    names = ["train-00000.tar", "train-00000_001.tar", "train-00000_002.tar"]
    assert sorted(path.name for path in parts.glob("*.tar")) == names
    before = {path.name: path.read_bytes() for path in parts.iterdir()}
    (parts / "train-00000_003.tar").write_bytes(b"of a longer list")
    pack(results, "parts", config=config)
    assert {path.name: path.read_bytes() for path in parts.iterdir()} == before
    path = index(results, "parts")
    listed = json.loads(path.read_text())["shards"]
    assert [(shard["file"], shard["num_samples"]) for shard in listed] == [(n, 1) for n in names]
    for shard in listed:
        assert hashlib.sha256(before[shard["file"]]).hexdigest() == shard["sha256"]
    whole, split = open_shards([index(results)]), open_shards([path])
    reader = ShardReader()
    for ours, theirs in zip(split.samples, whole.samples, strict=True):
        assert ours.clip_id == theirs.clip_id
        assert reader.read(ours) == reader.read(theirs)
    urls = [str(parts / name) for name in names]
    assert len(list(webdataset.WebDataset(urls, shardshuffle=False))) == 3


def test_a_file_listed_under_two_spellings_in_two_splits_is_counted(tmp_path):
    """One spelling in two splits is refused with the list; that of two is known when it is read."""
    (tmp_path / "raw").mkdir()
    media.make_clip(tmp_path / "raw" / "a.mp4", seconds=3)
    rows = ["a,raw/a.mp4,0,1,x,train", "b,raw/./a.mp4,1.5,2.5,x,test"]
    head = "clip_id,source,start_seconds,end_seconds,labels,split"
    (tmp_path / "list.csv").write_text("\n".join([head, *rows]) + "\n")
    (tmp_path / "classes.csv").write_text("index,id,display_name\n0,x,X\n")
    text = "name: toy\ntask: multilabel\nclip_list: list.csv\nclass_names: classes.csv\n"
    (tmp_path / "toy.yaml").write_text(text)
    dataset = load_dataset(tmp_path / "toy.yaml")
    ensure_plan(dataset, chunk_size=10, max_seconds=600, folder=tmp_path / "plan")
    results = tmp_path / "results"
    for split in ("train", "test"):
        (clip,) = read_plan_chunk(tmp_path / "plan" / split / "00000.csv", split)
        times = {"start_seconds": clip.start_seconds, "end_seconds": clip.end_seconds}
        row = {"clip_id": clip.clip_id, "source": clip.source, **times}
        transcode_path = media.transcode(media.download(tmp_path, [row], split=split))
        logmel_path = results / "logmel" / "00000.json"
        extract(transcode_path, logmel_path)
        pack(results, split)
    train = results / "train" / "00000.json"
    value = json.loads(
        index(results, "test", split="test", train=False, earlier=[train]).read_text()
    )
    assert (value["num_clips"], value["duplicates"]) == (1, [])
    assert value["shared_files"] == {"train": 1}


def test_clips_of_the_same_content_are_found_over_all_splits_and_can_be_left_out(results):
    for split in ("train", "test"):  # the same clips under other ids
        value = json.loads((results / "shards" / "00000.json").read_text())
        value["split"] = split
        for clip in (*value["clips"], *value["samples"]):
            key = "clip_id" if isinstance(clip, dict) else 2
            clip[key] = f"{split}/{clip[key]}"
        if split == "train":
            value["clips"][1]["content"] = "of its own"
        folder = results / f"same_{split}"
        folder.mkdir()
        (folder / "00000.json").write_text(json.dumps(value))
        tar = (results / "shards" / "train-00000.tar").read_bytes()
        (folder / "train-00000.tar").write_bytes(tar)
    test = results / "same_test" / "00000.json"
    first = json.loads(index(results, "same_test", split="test").read_text())
    assert (first["duplicates"], first["shared_files"]) == ([], {})
    kept = index(results, "same_train", earlier=[test])
    value = json.loads(kept.read_text())
    found = [["train/a", "test", "test/a"], ["train/quiet", "test", "test/quiet"]]
    assert value["duplicates"] == found
    assert value["flags"]["duplicate"] == 2
    assert value["shared_files"] == {"test": 3}  # whatever part of the file, and its name
    assert len(open_shards([kept])) == value["num_clips"] == 3

    fingerprint = index_fingerprint(kept)
    left_out = index(results, "same_train", earlier=[test], exclude=True, limit=1.0)
    value = json.loads(left_out.read_text())
    assert (value["num_clips"], value["num_clips_in_list"]) == (1, 4)
    assert value["reasons"] == {"duplicate": 2, "unavailable": 1}
    assert value["flags"]["duplicate"] == 0
    shards = open_shards([left_out])
    assert [sample.clip_id for sample in shards.samples] == [f"train/{CLIPS[2]['clip_id']}"]
    assert dropped_clips(left_out)["train/a"] == "duplicate"
    assert index_fingerprint(left_out) != fingerprint
    with pytest.raises(StageError, match="duplicate 2"):
        index(results, "same_train", earlier=[test], exclude=True)


def test_only_sound_and_frames_make_a_duplicate():
    members = {"flac": b"s", "frame_00.jpg": b"f", "json": b"{}", "logmel.npy": b"l"}
    own = content_hash(members)
    assert content_hash({**members, "json": b"other", "logmel.npy": b"other"}) == own
    assert content_hash({**members, "flac": b"t"}) != own
    assert content_hash({**members, "frame_00.jpg": b"g"}) != own
    assert content_hash({"flac": b"sf", "frame_00.jpg": b""}) != own


def test_waveforms_and_flagged_clips_can_be_left_out(results):
    path = pack(results, "lean", waveform=False, exclude_flags=["silent_audio"])
    rows = {row.clip_id: row for row in read_ledger(path.with_suffix(".ledger.csv"))}
    assert (rows["quiet"].status, rows["quiet"].reason) == ("failed", "no_audio")
    assert (rows["gone"].status, rows["gone"].reason) == ("skipped", "unavailable")
    shards = open_shards([index(results, "lean", limit=0.5)])
    assert len(shards) == 2
    assert "flac" not in ShardReader().read(shards.samples[0])


FLAGGED = {"silent_audio": "no_audio", "static_video": "no_video", "short": "too_short"}


@pytest.fixture(scope="module")
def flagged(tmp_path_factory):
    """A folder with one clip of each flag, packed."""
    folder = tmp_path_factory.mktemp("flagged")
    media.make_clip(folder / "silent_audio", options=("-f", "matroska"), tone=(50, 60))
    media.make_clip(folder / "static_video", options=("-f", "matroska"), is_static=True)
    media.make_clip(folder / "short", options=("-f", "matroska"))
    clips = [{"source": flag, "start_seconds": 0, "end_seconds": 1} for flag in FLAGGED]
    media.make_shards(folder, [*clips[:2], {**clips[2], "end_seconds": 5}], AudioConfig())
    return folder


@pytest.mark.parametrize("flag", FLAGGED)
def test_clips_of_each_flag_can_be_left_out(flagged, flag):
    path = media.pack_shards(flagged, AudioConfig(), flag, exclude_flags=[flag])
    assert json.loads(path.read_text())["reasons"] == {FLAGGED[flag]: 1}
    assert dropped_clips(path) == {flag: FLAGGED[flag]}
    kept = {sample.clip_id for sample in open_shards([path]).samples}
    assert kept == FLAGGED.keys() - {flag}


def test_the_index_states_coverage_and_statistics(results):
    path = index(results)
    value = json.loads(path.read_text())
    assert (value["num_clips"], value["num_clips_in_list"]) == (3, 4)
    assert value["reasons"] == {"unavailable": 1}
    assert value["flags"] == {flag: int(flag == "silent_audio") for flag in FLAGS}
    assert value["class_names"] == ["Alpha", "Beta"]
    assert value["audio"] == AudioConfig().model_dump()
    ids = "\n".join(sorted(clip["clip_id"] for clip in CLIPS if clip["clip_id"] != "gone"))
    assert value["clip_ids_sha256"] == hashlib.sha256(ids.encode()).hexdigest()
    shards = open_shards([path])
    arrays = [
        np.load(io.BytesIO(ShardReader().read(sample)["logmel.npy"])).astype(float).ravel()
        for sample in shards.samples
    ]
    joined = np.concatenate(arrays)
    assert (shards.logmel_mean, shards.logmel_std) == pytest.approx((joined.mean(), joined.std()))
    assert value["logmel_stats_split"] == "train"
    alone = json.loads(index(results, split="test", train=False).read_text())
    assert alone["logmel_stats_split"] == "test"


def test_too_many_losses_stop_the_stage_with_counts_and_reasons(results):
    message = r"toy/train: 1 of 4 clips lost: unavailable 1 \(allowed by .*: 20 %\)"
    with pytest.raises(StageError, match=message) as error:
        index(results, limit=0.2)
    assert "duplicate" not in str(error.value)  # no ledger lies beside these shards


def test_no_clip_left_stops_the_stage_whatever_is_allowed(results):
    manifest = json.loads((results / "shards" / "00000.json").read_text())
    manifest["lost"] = [{"clip_id": str(n), "reason": "unsupported"} for n in range(4)]
    manifest |= {"clips": [], "samples": [], "num_ok": 0, "num_skipped": 0, "num_failed": 4}
    (results / "none").mkdir()
    (results / "none" / "00000.json").write_text(json.dumps(manifest))
    tar = (results / "shards" / "train-00000.tar").read_bytes()
    (results / "none" / "train-00000.tar").write_bytes(tar)
    with pytest.raises(StageError, match="4 of 4 clips lost: unsupported 4"):
        index(results, "none", limit=1.0)


def test_shards_of_other_settings_are_refused(results):
    other = media.SMALL.model_copy(update={"frame_size": 64})
    with pytest.raises(StageError, match="'frame_size': 32"):
        index(results, media_config=other)


def test_a_missing_or_short_shard_is_found_before_reading(results):
    pack(results, "torn")
    path = index(results, "torn")
    shard = results / "torn" / "train-00000.tar"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(ManifestError, match=r"train-00000.tar: \d+ bytes"):
        open_shards([path])
    shard.unlink()
    with pytest.raises(ManifestError, match=r"train-00000\.tar: missing"):
        index(results, "torn")


@pytest.mark.parametrize("position", [0, 150, 200])
def test_a_damaged_sample_is_refused(results, position):
    name = f"damaged_{position}"
    pack(results, name)
    sample = open_shards([index(results, name)]).samples[1]
    with sample.shard.open("r+b") as stream:
        stream.seek(sample.offset_bytes + position)
        stream.write(b"\x07")
    with pytest.raises(ManifestError, match="damaged"):
        ShardReader().read(sample)


def test_a_manifest_whose_counts_do_not_add_up_is_refused(results, tmp_path):
    value = json.loads((results / "shards" / "00000.json").read_text())
    value["clips"].pop()
    (tmp_path / "x.json").write_text(json.dumps(value))
    with pytest.raises(ManifestError, match="do not add up"):
        read_chunk(tmp_path / "x.json", "pack")
    with pytest.raises(ManifestError, match="not a logmel manifest"):
        read_chunk(results / "shards" / "00000.json", "logmel")


def test_several_splits_read_as_one(results):
    one = open_shards([index(results)])
    two = open_shards([index(results), index(results)])
    assert len(two) == 6
    assert two.class_names == one.class_names
    assert (two.logmel_mean, two.logmel_std) == pytest.approx((one.logmel_mean, one.logmel_std))
    assert [*two.subset([5, 0]).samples] == [one.samples[2], one.samples[0]]


def test_moments_merge_exactly():
    values = np.random.default_rng(0).normal(-7, 3, 1000)
    merged = Moments()
    for part in np.split(values, [1, 400, 401]):
        merged = merged.merge(moments_of(part))
    assert (merged.count, merged.mean, merged.std) == pytest.approx(
        (1000, values.mean(), values.std())
    )
    assert merged.merge(Moments()) == merged
