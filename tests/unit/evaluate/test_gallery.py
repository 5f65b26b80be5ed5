"""Galleries of retrieval: how they are chosen and what is said of clips that are not there."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline_src.config import EvaluateConfig
from pipeline_src.errors import ManifestError
from pipeline_src.evaluate.common import Split
from pipeline_src.evaluate.gallery import (
    checkpoint_past,
    choose_gallery,
    score_retrieval,
    select_lowest_hashes,
    select_per_class,
)
from pipeline_src.evaluate.predict import SINGLE
from pipeline_src.manifest.chunks import ChunkId, ChunkManifest, write_chunk
from pipeline_src.manifest.ledger import LedgerRow

IDS = [f"clip{n}" for n in range(8)]
TARGETS = np.eye(4, dtype=int)[np.arange(8) % 4]
INDEX = {
    "dataset": "vggsound",
    "split": "test",
    "collection": "vggsound",
    "retrieval_per_class": 0,
    "retrieval_size": 0,
    "retrieval_clips": None,
    "excludes_duplicates": False,
    "duplicates": [],
    "num_clips": len(IDS),
    "class_names": ["a", "b", "c", "d"],
    "task": "multiclass",
    "modalities": ["audio", "video"],
    "audio": {},
    "sample_rate_hz": 16000,
    "num_mel_bins": 128,
    "logmel_mean": 0.0,
    "logmel_std": 1.0,
    "shards": [{"manifest": "00000.json"}],
}
VGGSOUND = {"dataset": "vggsound", "collection": "vggsound"}
AUDIOSET_2M = {"dataset": "audioset_2m", "collection": "audioset"}
AUDIOSET_20K = {"dataset": "audioset_20k", "collection": "audioset"}


def make_split(folder: Path, **changes) -> Split:
    """A split of IDS whose list also had ``gone``, with a chunk manifest that says so."""
    dropped = {"clip_id": "gone", "reason": "removed"}
    rows = [LedgerRow(clip_id, "ok") for clip_id in IDS]
    rows.append(LedgerRow("gone", "failed", "removed"))
    entry = {"labels": [0], "flags": [], "content": ""}
    clips = [{"clip_id": clip_id, "key": clip_id, **entry} for clip_id in IDS]
    chunk = ChunkId("vggsound", "test", "00000")
    manifest = ChunkManifest("pack", chunk, 1, len(rows), None, {}, clips, [dropped], input_hash="")
    write_chunk(folder / "00000.json", folder / "00000.ledger.csv", manifest, rows)
    index = {**INDEX, **changes}
    (folder / "index.json").write_text(json.dumps(index))
    samples = [SimpleNamespace(clip_id=clip_id) for clip_id in IDS]
    return Split(SimpleNamespace(samples=samples), index, folder / "index.json")  # type: ignore[arg-type]


def choose(split, **evaluate):
    return choose_gallery(IDS, TARGETS, split, EvaluateConfig(**evaluate))


def test_the_first_clips_of_each_class():
    targets = np.eye(3, dtype=int)[[2, 0, 2, 0, 2, 0]]
    np.testing.assert_array_equal(select_per_class(targets, 2), [0, 1, 2, 3])
    multi_hot = np.array([[1, 1], [0, 1], [1, 0]])
    np.testing.assert_array_equal(select_per_class(multi_hot, 1), [0, 1])


def test_the_lowest_hashes_are_the_same_clips_whatever_else_is_there():
    chosen = {IDS[n] for n in select_lowest_hashes(IDS, 3)}
    reversed_ids = IDS[::-1]
    assert {reversed_ids[n] for n in select_lowest_hashes(reversed_ids, 3)} == chosen
    fewer = [clip_id for clip_id in IDS if clip_id != min(chosen)]
    assert chosen - {min(chosen)} < {fewer[n] for n in select_lowest_hashes(fewer, 3)}
    assert len(select_lowest_hashes(IDS, 100)) == 8


def test_the_gallery_of_the_data_set_is_the_default_and_the_configuration_wins(tmp_path):
    split = make_split(tmp_path, retrieval_per_class=1)
    chosen, record = choose(split)
    assert (list(chosen), record["rule"]) == ([0, 1, 2, 3], "per_class")
    assert len(choose(split, retrieval_per_class=0)[0]) == 8
    chosen, record = choose(split, retrieval_size=5)
    assert (len(chosen), record["rule"], record["size"]) == (5, "size", 5)
    of_set = make_split(tmp_path, retrieval_size=5)
    assert choose(of_set)[1]["clip_ids_sha256"] == record["clip_ids_sha256"]
    assert choose(split)[1]["clip_ids_sha256"] != record["clip_ids_sha256"]


def test_listed_clips_that_are_not_there_are_counted_and_named(tmp_path):
    split = make_split(tmp_path, retrieval_clips=["clip5", "nowhere", "clip2", "gone"])
    chosen, record = choose(split)
    assert list(chosen) == [2, 5]
    assert (record["num_listed"], record["num_found"]) == (4, 2)
    assert record["unknown"] == ["nowhere"]
    assert record["lost"] == {"gone": "removed"}


def test_a_list_without_one_known_clip_is_refused(tmp_path):
    split = make_split(tmp_path, retrieval_clips=["a", "b"])
    with pytest.raises(ManifestError, match=r"vggsound/test: none of its 2 ids.*'a'.*'clip0'"):
        choose(split)


def test_retrieval_is_scored_on_the_gallery_and_with_one_frame_beside(tmp_path):
    rng = np.random.default_rng(0)
    audio = rng.standard_normal((8, 6))
    features = {
        "audio": audio,
        "video": rng.standard_normal((8, 6)),
        SINGLE + "video": audio,
        "targets": TARGETS,
        "index": np.arange(8),
    }
    evaluate = EvaluateConfig(num_bootstrap=0, retrieval_per_class=1)
    path = tmp_path / "retrieval.npz"
    scores = score_retrieval(features, make_split(tmp_path), evaluate, path)
    assert scores["gallery_size"] == 4
    with np.load(path) as ranks:
        assert len(set(ranks["clip_ids"])) == 4
        hits = (ranks["audio_to_video"] < 1).mean()
    assert hits == scores["audio_to_video"]["R@1"]["value"]
    assert scores["single_frame"]["audio_to_video"]["R@1"]["value"] == 1
    assert scores["audio_to_video"]["R@1"]["value"] < 1
    del features[SINGLE + "video"]
    assert "single_frame" not in score_retrieval(features, make_split(tmp_path), evaluate)


@pytest.mark.parametrize(
    ("scored", "learnt", "names", "zero_shot"),
    [
        (VGGSOUND, [AUDIOSET_2M], ["audioset_2m"], True),
        (VGGSOUND, [AUDIOSET_2M, VGGSOUND], ["audioset_2m", "vggsound"], False),
        (AUDIOSET_20K, [AUDIOSET_2M], ["audioset_2m"], False),
        (VGGSOUND, None, None, None),
    ],
)
def test_zero_shot_is_said_of_collections_that_are_new(tmp_path, scored, learnt, names, zero_shot):
    state = {"sha256": {"model.safetensors": "ab"}, "trained_on": learnt}
    split = make_split(tmp_path, **scored)
    past = checkpoint_past(SimpleNamespace(state=state), split)  # type: ignore[arg-type]
    assert past == {
        "checkpoint_sha256": "ab",
        "trained_on": names,
        "scored_on": f"{scored['dataset']}/test",
        "zero_shot": zero_shot,
    }
