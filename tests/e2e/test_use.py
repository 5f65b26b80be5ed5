"""Checkpoints of the tiny run in use: files give what the evaluation gave for them."""

import csv
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from pipeline_src import load
from pipeline_src.commands.cli import main
from pipeline_src.inference.complete import complete
from pipeline_src.inference.search.open import open_indexed_model
from pipeline_src.inference.serve.media import media_response
from pipeline_src.inference.serve.places import find_index
from pipeline_src.manifest.chunks import read_chunk

pytestmark = pytest.mark.e2e

RUN = "results/test/avsiam_tiny"


@pytest.fixture
def here(built, monkeypatch):
    """The built project as the current folder."""
    monkeypatch.chdir(built.root)
    return built.root


def test_files(root: Path) -> dict[str, Path]:
    """Raw files of the test split by clip id."""
    found = {}
    for path in sorted((root / "results/test/digits/download/test").glob("?????.json")):
        for clip in read_chunk(path, "download").clips:
            found[clip["clip_id"]] = path.parent / clip["path"]
    return found


test_files.__test__ = False  # pytest would take its name for a test's


def evaluated(root: Path, name: str) -> dict[str, np.ndarray]:
    return dict(np.load(root / RUN / f"eval/digits/{name}.npz"))


def test_embeddings_of_files_are_those_of_the_evaluation(here):
    files, expected = test_files(here), evaluated(here, "embeddings")
    model = load(f"{RUN}/pretrain", device="cpu")
    found = model.embed([files[clip_id] for clip_id in expected["clip_ids"]], window_seconds=None)
    assert len(found) == 8
    for name in ("audio", "video"):
        ours = np.stack([getattr(one, name) for one in found])
        assert np.abs(ours - expected[name]).max() < 1e-5


def test_scores_of_files_are_those_of_the_evaluation(here):
    files, expected = test_files(here), evaluated(here, "predictions")
    model = load(f"{RUN}/finetune/digits", device="cpu")
    given = [files[clip_id] for clip_id in expected["clip_ids"]]
    kinds = {
        "audio": ("audio",),
        "video": ("video",),
        "audio_video": ("audio", "video"),
    }
    for head, modalities in kinds.items():
        found = model.classify(given, modalities=modalities, window_seconds=None)
        assert {one.head for one in found} == {head}
        assert np.abs(np.stack([one.scores for one in found]) - expected[head]).max() < 1e-5


def test_a_checkpoint_says_what_it_was_trained_on(here):
    state = json.loads((here / RUN / "pretrain/checkpoint/state.json").read_text())
    assert state["media"]["frame_size"] == 32
    (data,) = state["data"]
    assert (data["dataset"], data["split"], data["num_clips"]) == ("digits", "train", 24)
    assert data["licence"].startswith("CC-BY-SA-4.0")


def test_one_of_before_is_completed(here):
    path = here / RUN / "finetune/digits/checkpoint/state.json"
    index_path = here / "results/test/digits/shards/train/index.json"
    whole, index = path.read_text(), index_path.read_text()
    before = {
        key: value for key, value in json.loads(whole).items() if key not in ("media", "data")
    }
    old_index = {k: v for k, v in json.loads(index).items() if k not in ("media", "licence")}
    try:
        path.write_text(json.dumps(before))
        index_path.write_text(json.dumps(old_index))
        complete(Path(RUN) / "finetune/digits")  # by what the evaluation has kept
        found = json.loads(path.read_text())
    finally:
        path.write_text(whole)
        index_path.write_text(index)
    assert found["media"] == json.loads(whole)["media"]
    assert found["data"][0]["licence"] == json.loads(whole)["data"][0]["licence"]


def test_an_export_gives_the_same_and_its_card_the_figures(here):
    files = list(test_files(here).values())
    given = [f"{RUN}/finetune/digits", "shared"]
    assert main(["export", *given]) == 0
    before, after = (load(folder, device="cpu").classify(files) for folder in given)
    for one, other in zip(before, after, strict=True):
        assert np.array_equal(one.scores, other.scores)
    card = (here / "shared/README.md").read_text()
    accuracy = json.loads((here / RUN / "eval/digits/metrics.json").read_text())["audio"][
        "accuracy"
    ]
    assert f"{accuracy['value']:.3f} ({accuracy['low']:.3f} to {accuracy['high']:.3f})" in card
    assert "| digits | fine-tuning | train | 24 of 24 | CC-BY-SA-4.0" in card
    assert "| digits | pre-training | train | 24 of 24 | CC-BY-SA-4.0" in card
    assert str(here) not in card + (here / "shared/config.json").read_text()


@pytest.mark.exhaustive
def test_the_example_finds_clips_of_a_folder(built):
    folder = built.root / "own"
    folder.mkdir()
    files = list(test_files(built.root).values())
    for number, path in enumerate(files[1:]):
        (folder / f"{number}{path.suffix}").symlink_to(os.path.realpath(path))
    (folder / "broken.mp4").write_bytes(b"no video")
    query = os.path.realpath(files[0])
    output = built.run("python", "examples/quickstart.py", f"{RUN}/pretrain", "own", query)
    assert "passed over: own/broken.mp4 (corrupt" in output
    assert len(re.findall(r"^  [+-]0\.\d+  own/\d", output, re.MULTILINE)) == 2 * 5


def test_a_run_is_searched_by_the_vectors_of_its_evaluation(here):
    expected = evaluated(here, "embeddings")
    index = find_index(Path(RUN), "cpu")
    shown = [index.row(number) for number in range(index.num_rows)]
    rows = {row["clip"].rpartition("/")[2]: row for row in shown if row["split"] == "test"}
    assert (index.about["num_clips"], index.about["splits"]) == (40, ["test", "train", "val"])
    assert set(rows) == set(expected["clip_ids"])
    model = open_indexed_model(index, "cpu")
    files = test_files(here)
    for clip_id, row in rows.items():
        assert Path(row["path"]).samefile(files[clip_id])
        (made,) = model.embed(files[clip_id], window_seconds=None)
        for name in ("audio", "video"):
            assert np.abs(made.compared(name) - index.vectors[name][row["row"]]).max() < 1e-5
        without_file = {**row, "path": ""}
        assert media_response(without_file).body[:4] == b"fLaC"


def test_the_commands_write_a_row_per_file_and_go_on(built):
    folder = built.root / "clips"
    folder.mkdir()
    for number, path in enumerate(test_files(built.root).values()):
        (folder / f"{number}{path.suffix}").symlink_to(os.path.realpath(path))
    (folder / "broken.mp4").write_bytes(b"no video")
    command = ("python", "-m", "pipeline_src")
    built.run(*command, "embed", f"{RUN}/pretrain", "clips", "--output", "out/e.csv")
    with (built.root / "out/e.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 9
    assert [row["reason"] for row in rows if row["reason"]] == ["corrupt"]
    width = sum(name.startswith("audio_") for name in rows[0])
    assert all(float(row[f"audio_{width - 1}"]) for row in rows if not row["reason"])

    classify = (*command, "classify", f"{RUN}/finetune/digits", "clips", "--output", "out/c.jsonl")
    built.run(*classify)
    path = built.root / "out/c.jsonl"
    whole = path.read_text()
    path.write_text("\n".join(whole.splitlines()[:4]) + "\n{")
    assert "4 of 9 are done" in built.run(*classify)
    rows = list(map(json.loads, path.read_text().splitlines()))
    assert sorted(path.read_text()) == sorted(whole)
    assert all(sum(row["scores"].values()) == pytest.approx(1, abs=1e-5) for row in rows[:8])
