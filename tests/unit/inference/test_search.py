"""An index of clips: built, continued, kept up to date, and searched exactly."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline_src.commands.cli import main
from pipeline_src.errors import CheckpointError, ConfigError
from pipeline_src.inference.model import load
from pipeline_src.inference.search.build import build_index
from pipeline_src.inference.search.layout import place_clips
from pipeline_src.inference.search.nearest import BLOCK_ROWS, Pair, nearest
from pipeline_src.inference.search.open import open_indexed_model
from pipeline_src.inference.search.query import Question, find, row_vectors
from pipeline_src.inference.search.store import ClipIndex, IndexWriter
from pipeline_src.inference.stream import Options
from tests.checkpoints import make_checkpoint, make_split
from tests.media import CODECS, make_clip

pytestmark = pytest.mark.slow

QUIET = Options(num_workers=1, batch_size=3)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("run"), classes=())


@pytest.fixture(scope="module")
def model(checkpoint):
    return load(checkpoint, device="cpu")


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """Two classes of clips, a picture, a sound, a long file and one that is none."""
    folder = tmp_path_factory.mktemp("media")
    for label in ("high", "low"):
        (folder / label).mkdir()
    make_clip(folder / "high/a.mp4", seconds=1.2, tone=(0.0, 0.5), is_static=True)
    make_clip(folder / "low/b.mp4", seconds=1.2, tone=(0.7, 1.2))
    make_clip(folder / "low/long.wav", seconds=3.4, tone=(1.0, 3.0), has_video=False, options=())
    Image.effect_noise((64, 48), 60).convert("RGB").save(folder / "high/c.png")
    (folder / "low/broken.mp4").write_bytes(b"no video at all")
    return folder


@pytest.fixture(scope="module")
def built(model, media, tmp_path_factory):
    return build_index(model, [media], tmp_path_factory.mktemp("index") / "i", QUIET)


def rows_of(index):
    return [index.row(number) for number in np.flatnonzero(index.columns["counts"])]


def test_rows_say_what_each_clip_is(built, media):
    rows = rows_of(built)
    names = [Path(row["clip"]).name for row in rows]
    assert names == ["a.mp4", "c.png", "b.mp4", "broken.mp4", *["long.wav"] * (len(rows) - 4)]
    by_name = dict(zip(names, rows, strict=True))
    assert by_name["a.mp4"]["labels"] == ["high"]
    assert by_name["a.mp4"]["has"] == ["audio", "video"]
    assert by_name["c.png"]["has"] == ["video"]
    assert by_name["broken.mp4"]["reason"] == "corrupt"
    assert built.about["num_refused"] == 1
    assert len(rows) > 5  # windows of the long one
    assert rows[-1]["end"] == pytest.approx(3.4, abs=0.1)


def test_vectors_are_those_that_the_model_compares(built, model, media):
    (clip,) = model.embed(media / "low/b.mp4")
    row = next(row for row in rows_of(built) if row["clip"].endswith("b.mp4"))
    for name in ("audio", "video"):
        assert np.allclose(built.vectors[name][row["row"]], clip.compared(name), atol=1e-5)
        assert np.linalg.norm(built.vectors[name][row["row"]]) == pytest.approx(1, abs=1e-5)
    refused = next(row for row in rows_of(built) if row["reason"])
    assert not built.vectors["audio"][refused["row"]].any()
    assert built.preview(row, "video")[:2] == built.preview(row, "audio")[:2] == b"\xff\xd8"
    assert np.isnan(built.columns["places"][refused["row"]]).all()
    assert np.abs(built.columns["places"][row["row"]]).max() <= 1


def test_a_clip_finds_itself_by_what_it_has(built):
    row = next(row for row in rows_of(built) if row["clip"].endswith("b.mp4"))["row"]
    wanted = row_vectors(built, row)
    for by in ("audio", "video", "both"):
        first = find(built, wanted, Question(by, "same"))[0]
        assert (first["row"], first["score"]) == (row, pytest.approx(1, abs=1e-4))
    assert all(hit["row"] != row for hit in find(built, wanted, Question(without=row)))
    crossed = find(built, wanted, Question("audio"))  # its sound with their pictures
    assert {hit["clip"].rpartition("/")[2] for hit in crossed} == {"a.mp4", "b.mp4", "c.png"}
    assert all("video" in hit["has"] for hit in crossed)
    expected = built.vectors["video"][crossed[0]["row"]] @ wanted["audio"]
    assert crossed[0]["score"] == pytest.approx(float(expected), abs=1e-5)


def test_only_clips_of_a_class_are_found(built):
    wanted = row_vectors(built, 0)
    hits = find(built, wanted, Question("audio", "same", label="low"))
    assert hits
    assert all(hit["labels"] == ["low"] for hit in hits)
    with pytest.raises(ConfigError, match=r"'lo' is not in .*known: high, low"):
        find(built, wanted, Question(label="lo"))
    with pytest.raises(ConfigError, match=r"split 'val' is not in .*known: none"):
        find(built, wanted, Question(split="val"))  # files of a folder have no splits


@pytest.fixture(scope="module")
def split_index(model, tmp_path_factory):
    """An index of packed clips: of each split one of either class."""
    sources = [make_split(tmp_path_factory.mktemp(name), name) for name in ("train", "test")]
    return build_index(model, sources, tmp_path_factory.mktemp("index") / "i", QUIET)


def test_only_clips_of_a_split_and_of_a_class_in_it_are_found(split_index):
    assert split_index.about["splits"] == ["test", "train"]
    labels = split_index.about["labels"]
    wanted = row_vectors(split_index, 0)

    def found(**asked):
        hits = find(split_index, wanted, Question("audio", "same", **asked))
        return {hit["clip"] for hit in hits}

    assert len(found()) == 4
    for split in ("train", "test"):
        names = [f"toy/{split}/{split}{number}.mp4" for number in (0, 1)]
        assert found(split=split) == set(names)
        for name, label in zip(names, labels, strict=True):
            assert found(split=split, label=label) == {name}
    with pytest.raises(ConfigError, match=r"split 'val' is not in .*known: test, train"):
        find(split_index, wanted, Question(split="val"))


def test_the_command_asks_for_a_split(split_index, media, capsys):
    ask = ["search", "query", str(media / "low/b.mp4"), "--index", str(split_index.folder)]
    assert main([*ask, "--json", "--split", "test"]) == 0
    rows = list(map(json.loads, capsys.readouterr().out.splitlines()))
    assert [row["split"] for row in rows] == ["test", "test"]
    label = rows[1]["labels"][0]
    assert main([*ask, "--split", "test", "--label", label]) == 0
    table = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[-1] for line in table] == [rows[1]["clip"]]
    with pytest.raises(SystemExit, match="split 'val' is not in"):
        main([*ask, "--split", "val"])


def test_a_picture_has_no_sound_to_compare(built):
    row = next(row for row in rows_of(built) if row["clip"].endswith("c.png"))["row"]
    with pytest.raises(ConfigError, match=r"by audio .*has video"):
        find(built, row_vectors(built, row), Question("audio"))
    assert find(built, row_vectors(built, row), Question("both"))


def test_what_was_begun_is_continued_and_what_changed_made_again(model, media, tmp_path):
    own = shutil.copytree(media, tmp_path / "media")
    folder = tmp_path / "index"
    whole = build_index(model, [own], folder, QUIET)
    expected = {name: np.array(stored) for name, stored in whole.vectors.items()}
    rows = (folder / "rows.jsonl").read_bytes()
    # Killed within an input: half a line, and windows of which the last is missing.
    (folder / "rows.jsonl").write_bytes(rows[:-30])
    with (folder / "audio.npy").open("ab") as stream:
        stream.write(b"rest of a row")
    (folder / "index.json").unlink()
    with pytest.raises(ConfigError, match="begun but is not complete"):
        ClipIndex(folder)
    again = build_index(model, [own], folder, QUIET)
    assert (folder / "rows.jsonl").read_bytes() == rows
    for name, stored in again.vectors.items():
        assert np.allclose(stored, expected[name], atol=1e-6)
    size = (folder / "rows.jsonl").stat().st_size
    build_index(model, [own], folder, QUIET)
    assert (folder / "rows.jsonl").stat().st_size == size  # nothing was made again
    make_clip(own / "high/new.mp4", seconds=1.0)
    (own / "high/a.mp4").unlink()
    os.utime(own / "low/b.mp4", (1, 1))
    changed = build_index(model, [own], folder, QUIET)
    names = [row["clip"].rpartition("/")[2] for row in rows_of(changed)]
    assert names.count("b.mp4") == names.count("new.mp4") == 1
    assert "a.mp4" not in names
    assert changed.num_rows == len(rows.splitlines()) + 2


def test_a_link_to_nothing_is_a_refused_row(model, tmp_path):
    """It ended the build, and so did a file that went between listing and reading."""
    (tmp_path / "media").mkdir()
    make_clip(tmp_path / "media/clip.mp4", seconds=1.2)
    (tmp_path / "media/gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    index = build_index(model, [tmp_path / "media"], tmp_path / "index", QUIET)
    reasons = {Path(row["path"]).name: row["reason"] for row in map(index.row, range(2))}
    assert reasons == {"clip.mp4": "", "gone.mp4": "unavailable"}


def test_other_weights_and_other_folders_are_refused(built, media, tmp_path):
    other = load(make_checkpoint(tmp_path / "other", classes=(), embed_dim=32), device="cpu")
    with pytest.raises(ConfigError, match="another checkpoint or with other settings"):
        build_index(other, [media], built.folder, QUIET)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").touch()
    with pytest.raises(ConfigError, match="holds other files"):
        build_index(other, [media], tmp_path / "mine", QUIET)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no recordings"):
        build_index(other, [tmp_path / "empty"], tmp_path / "new", QUIET)
    with pytest.raises(ConfigError, match="search build CHECKPOINT"):
        ClipIndex(tmp_path)


def test_one_process_builds_at_a_time_and_lost_rows_are_noticed(built, model, media, tmp_path):
    folder = shutil.copytree(built.folder, tmp_path / "index")
    made_by = json.loads((folder / "begun.json").read_text())["made_by"]
    with (
        IndexWriter(folder, made_by, built.about["widths"]),
        pytest.raises(ConfigError, match="another process builds it"),
    ):
        build_index(model, [media], folder, QUIET)
    (folder / "audio.npy").write_bytes((folder / "audio.npy").read_bytes()[:-1])
    with pytest.raises(ConfigError, match=r"audio\.npy: lacks rows; delete"):
        build_index(model, [media], folder, QUIET)


def test_a_replaced_checkpoint_is_noticed(model, media, checkpoint, tmp_path):
    index = build_index(model, [media / "high"], tmp_path / "index", QUIET)
    assert open_indexed_model(index, "cpu").sha256 == model.sha256
    index.about["checkpoint_sha256"] = "0" * 64
    with pytest.raises(CheckpointError, match="other weights"):
        open_indexed_model(index, "cpu")


def test_search_is_exact_over_blocks_and_ties_go_to_the_first(monkeypatch):
    rng = np.random.default_rng(0)
    stored = rng.standard_normal((2 * BLOCK_ROWS + 77, 16), np.float32)
    stored[BLOCK_ROWS + 5] = stored[3]
    wanted = stored[3]
    found = nearest([Pair(wanted, stored)], 20)
    order = np.argsort(-(stored @ wanted), kind="stable")[:20]
    assert found.rows_K.tolist()[2:] == order.tolist()[2:]
    assert set(found.rows_K[:2].tolist()) <= {3, BLOCK_ROWS + 5, *order[:2].tolist()}
    allowed = np.zeros(len(stored), bool)
    allowed[[7, BLOCK_ROWS + 9]] = True
    assert set(nearest([Pair(wanted, stored)], 20, allowed).rows_K.tolist()) == {7, BLOCK_ROWS + 9}
    assert not len(nearest([Pair(wanted, stored)], 20, np.zeros(len(stored), bool)).rows_K)
    both = nearest([Pair(wanted, stored), Pair(-wanted, stored)], 3)
    assert np.allclose(both.scores_K, 0, atol=1e-5)


def test_embed_counts_what_it_refused_wholly_and_in_part(checkpoint, media, tmp_path, capsys):
    folder = tmp_path / "clips"
    shutil.copytree(media, folder)
    (folder / "gone.mp4").symlink_to(folder / "nowhere.mp4")
    half = make_clip(folder / "half.mp4", seconds=3, options=[*CODECS, "-movflags", "+faststart"])
    half.write_bytes(half.read_bytes()[: half.stat().st_size * 2 // 3])
    table = tmp_path / "rows.jsonl"
    main(["embed", str(checkpoint), str(folder), "--window", "0.5", "--output", str(table)])
    rows = list(map(json.loads, table.read_text().splitlines()))
    windows = {(Path(row["source"]).name, row["reason"]) for row in rows}
    assert ("gone.mp4", "unavailable") in windows
    partly = {reason for file, reason in windows if file == "half.mp4"}
    assert {"", "corrupt"} <= partly
    *_, said = capsys.readouterr().err.splitlines()
    wholly, part = said.removeprefix("7 inputs; refused: ").split("; in part: ")
    assert set(wholly.split(", ")) == {"corrupt 1", "unavailable 1"}
    assert set(part.split(", ")) == {f"{reason} 1" for reason in partly - {""}}


@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_equal_clips_have_one_place(count):
    same = {"audio": np.full((count, 8), 0.25, np.float32)}
    places = place_clips(same, np.arange(count))
    assert places.shape == (count, 2)
    assert np.abs(places).max() <= 0.5
    assert count < 3 or not places.any()


def test_the_commands_build_and_ask(checkpoint, media, tmp_path, capsys):
    index = str(tmp_path / "index")
    build = ["search", "build", str(checkpoint), str(media), "--index", index, "--device", "cpu"]
    assert main(build) == 0
    assert "refused: corrupt 1" in capsys.readouterr().out
    ask = ["search", "query", str(media / "low/b.mp4"), "--index", index, "--against", "same"]
    assert main([*ask, "--json", "--top", "2"]) == 0
    rows = list(map(json.loads, capsys.readouterr().out.splitlines()))
    assert rows[0]["clip"].endswith("b.mp4")
    assert "stamp" not in rows[0]
    assert main([*ask, "--label", "high"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["score", "seconds", "label", "split", "clip"]
    assert "high" in table[1]
    with pytest.raises(SystemExit, match="corrupt"):
        main(["search", "query", str(media / "low/broken.mp4"), "--index", index])
