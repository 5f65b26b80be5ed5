"""Cutting a list into chunks: deterministic, cached, and only what changed is written again."""

import json
import subprocess
import sys
import tracemalloc

import pytest

from pipeline_src.datasets import chunk_plan
from pipeline_src.datasets.chunk_plan import ensure_plan, planned_clips, read_plan_chunk
from pipeline_src.datasets.clip_groups import read_groups
from pipeline_src.datasets.dataset import load_dataset
from pipeline_src.errors import ManifestError
from pipeline_src.manifest.chunks import clip_key

HEADER = "clip_id,source,start_seconds,end_seconds,labels,split\n"


def make_dataset(folder, rows):
    (folder / "classes.csv").write_text("index,id,display_name\n0,a,A\n1,b,B\n")
    (folder / "list.csv").write_text(HEADER + "".join(rows))
    text = "name: toy\ntask: multilabel\nclip_list: list.csv\nclass_names: classes.csv\n"
    (folder / "toy.yaml").write_text(text)
    return load_dataset(folder / "toy.yaml")


def plan(dataset, folder, chunk_size=2):
    return ensure_plan(dataset, chunk_size=chunk_size, max_seconds=600, folder=folder)


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.glob("*/*.csv"))}


ROWS = [f"c{n},c{n}.mp4,{n},{n + 0.1},a;b,{'test' if n % 4 == 3 else 'train'}\n" for n in range(8)]


def test_classes_left_out_are_written_beside_the_plan_and_only_when_they_change(tmp_path):
    make_dataset(tmp_path, ROWS)
    text = "name: toy\ntask: multilabel\nclip_list: list.csv\n"
    (tmp_path / "toy.yaml").write_text(text)
    dataset, path = load_dataset(tmp_path / "toy.yaml"), tmp_path / "results/toy/classes.csv"
    plan(dataset, path.with_name("plan"))
    assert path.read_text() == "index,id,display_name\n0,a,a\n1,b,b\n"
    written = path.stat().st_mtime_ns
    (tmp_path / "list.csv").write_text(HEADER + "".join(ROWS[1:]))
    plan(dataset, path.with_name("plan"))
    assert path.stat().st_mtime_ns == written
    for spoil in (path.unlink, lambda: path.write_text("index,id,display_name\n0,b,b\n")):
        spoil()
        plan(dataset, path.with_name("plan"))
        assert path.read_text() == "index,id,display_name\n0,a,a\n1,b,b\n"
    (tmp_path / "list.csv").write_text(HEADER + "".join(ROWS) + "z,z.mp4,,,Z,val\n")
    plan(dataset, path.with_name("plan"))
    assert path.read_text() == "index,id,display_name\n0,Z,Z\n1,a,a\n2,b,b\n"


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (("Dog", "cat", "dog"), "'Dog', 'dog'; if they"),
        (("caf\u00e9", "cafe\u0301", "cat"), "'cafe\u0301', 'caf\u00e9'; if they"),
        (("dog", "dogs", "cat"), ""),
    ],
)
def test_classes_that_a_reader_takes_for_one_are_told(tmp_path, caplog, labels, said):
    (tmp_path / "list.csv").write_text(
        "clip_id,source,start_seconds,end_seconds,labels,split\n"
        + "".join(f"c{n},{n}.mp4,,,{label},train\n" for n, label in enumerate(labels))
    )
    (tmp_path / "toy.yaml").write_text("name: toy\ntask: multiclass\nclip_list: list.csv\n")
    for _ in range(2):
        plan(load_dataset(tmp_path / "toy.yaml"), tmp_path / "results/plan")
    assert [said in text for text in caplog.messages] == ([True] if said else [])


def test_groups_are_written_beside_the_plan_and_change_no_chunk(tmp_path):
    folder = tmp_path / "results/toy/plan"
    groups = folder.with_name("groups")
    plan(make_dataset(tmp_path, ROWS), folder)
    plain = contents(folder)
    assert not groups.exists()
    header = HEADER.replace("split", "split,group")
    speakers = ["ann" if n in (0, 3, 7) else "" for n in range(len(ROWS))]
    rows = [f"{row[:-1]},{name}\n" for row, name in zip(ROWS, speakers, strict=True)]
    (tmp_path / "list.csv").write_text(header + "".join(rows))
    dataset = load_dataset(tmp_path / "toy.yaml")
    plan(dataset, folder)
    assert contents(folder) == plain
    assert read_groups(groups / "train.csv") == {"c0": "ann"}
    assert read_groups(groups / "test.csv") == {"c3": "ann", "c7": "ann"}
    written = (groups / "test.csv").stat().st_mtime_ns
    (groups / "train.csv").unlink()  # as before groups were read
    plan(dataset, folder)
    assert read_groups(groups / "train.csv") == {"c0": "ann"}
    assert (groups / "test.csv").stat().st_mtime_ns == written
    plan(make_dataset(tmp_path, ROWS), folder)
    assert list(groups.iterdir()) == []


def test_a_planned_list_is_not_read_again_for_its_classes(tmp_path, monkeypatch):
    rows = "".join(ROWS)
    (tmp_path / "list.csv").write_text(HEADER + rows)
    (tmp_path / "toy.yaml").write_text("name: toy\ntask: multilabel\nclip_list: list.csv\n")
    dataset = load_dataset(tmp_path / "toy.yaml")
    plan(dataset, tmp_path / "plan")
    monkeypatch.setattr("pipeline_src.datasets.chunk_plan.classes_of", None)  # would be called
    assert plan(dataset, tmp_path / "plan") == {"train": 3, "test": 1}


def test_every_clip_is_in_one_chunk_of_its_split_in_list_order(tmp_path):
    dataset = make_dataset(tmp_path, ROWS)
    assert plan(dataset, tmp_path / "plan") == {"train": 3, "test": 1}
    chunks = [read_plan_chunk(tmp_path / f"plan/train/{n:05d}.csv", "train") for n in range(3)]
    assert [[clip.clip_id for clip in chunk] for chunk in chunks] == [
        ["c0", "c1"],
        ["c2", "c4"],
        ["c5", "c6"],
    ]
    assert chunks[1][1][2:] == (4.0, 4.1, (0, 1), "train", 6, "")
    plan(dataset, tmp_path / "again")
    assert contents(tmp_path / "plan") == contents(tmp_path / "again")


def test_a_longer_list_touches_only_chunks_that_change_and_a_shorter_one_leaves_none(tmp_path):
    folder = tmp_path / "plan"
    plan(make_dataset(tmp_path, ROWS), folder)
    before = {p: p.stat().st_mtime_ns for p in folder.glob("*/*.csv")}
    assert plan(make_dataset(tmp_path, [*ROWS, "d,d.mp4,,,a,test\n"]), folder)["test"] == 2
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
    plan(make_dataset(tmp_path, ROWS[:1]), folder)
    assert list(contents(folder)) == ["train/00000.csv"]


def test_a_row_more_leaves_chunks_of_other_splits_as_they_are(tmp_path):
    """Every chunk behind it was made again for the numbers of its lines."""
    folder = tmp_path / "plan"
    plan(make_dataset(tmp_path, ROWS), folder)
    before = {p: p.stat().st_mtime_ns for p in folder.glob("*/*.csv")}
    plan(make_dataset(tmp_path, [*ROWS[:5], "d,d.mp4,,,a,train\n", *ROWS[5:]]), folder)
    kept = [path for path, stamp in before.items() if path.stat().st_mtime_ns == stamp]
    assert sorted(str(path.relative_to(folder)) for path in kept) == [
        *("test/00000.csv", "train/00000.csv", "train/00001.csv")
    ]


def test_what_is_made_of_a_chunk_does_not_hang_on_the_lines_of_its_list(tmp_path):
    """A list that had grown made results of before stale wherever it was planned anew."""
    for folder, rows in (("old", ROWS), ("new", ["d,d.mp4,,,a,test\n", *ROWS])):
        plan(make_dataset(tmp_path, rows), tmp_path / folder)
    chunks = [tmp_path / folder / "train/00001.csv" for folder in ("old", "new")]
    assert chunks[0].read_bytes() != chunks[1].read_bytes()
    assert planned_clips(chunks[0]) == planned_clips(chunks[1])
    assert planned_clips(chunks[0]) != planned_clips(tmp_path / "old/train/00000.csv")


def test_lines_count_where_an_address_is_looked_up_by_its_line(tmp_path):
    folder, row = tmp_path / "plan", "c,https://h/c.mp4?token=abc,,,a,test\n"
    plan(make_dataset(tmp_path, [*ROWS[:3], row]), folder)
    plan(make_dataset(tmp_path, [*ROWS[:4], row]), folder)
    (hidden,) = [c for c in read_plan_chunk(folder / "test/00000.csv", "test") if c.clip_id == "c"]
    assert hidden.line == 6


def test_a_known_list_is_not_read_again(tmp_path, monkeypatch):
    dataset = make_dataset(tmp_path, [f"c{n},c{n}.mp4,,,a,train\n" for n in range(20)])
    counts = plan(dataset, tmp_path / "plan", 1)
    monkeypatch.setattr(chunk_plan, "read_clips", None)
    assert plan(dataset, tmp_path / "plan", 1) == counts == {"train": 20}


@pytest.mark.slow
def test_a_long_list_is_never_whole_in_memory(tmp_path):
    num_clips = 20_000
    dataset = make_dataset(
        tmp_path, [f"c{n},c{n}.mp4,{n},{n + 1},a;b,train\n" for n in range(num_clips)]
    )
    tracemalloc.start()
    try:
        plan(dataset, tmp_path / "plan", 1000)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes / num_clips < 450  # 580 with its rows and places


@pytest.mark.slow
def test_two_calls_at_once_make_the_same_plan(tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "from pipeline_src.datasets.dataset import load_dataset\n"
        "from tests.unit.datasets.test_chunk_plan import plan\n"
        "plan(load_dataset(Path(sys.argv[1])), Path(sys.argv[2]), 10)\n"
    )
    folder = tmp_path / "plan"
    plan(make_dataset(tmp_path, ROWS), folder, 1)  # chunks to change and chunks to remove
    make_dataset(tmp_path, [f"c{n},c{n}.mp4,,,a,train\n" for n in range(3000)])
    command = [sys.executable, "-c", code, str(tmp_path / "toy.yaml"), str(folder)]
    calls = [subprocess.Popen(command) for _ in range(3)]
    assert [call.wait(60) for call in calls] == [0, 0, 0]
    assert json.loads((folder / "plan.json").read_text())["num_chunks"] == {"train": 300}
    plan(load_dataset(tmp_path / "toy.yaml"), tmp_path / "alone", 10)
    assert contents(folder) == contents(tmp_path / "alone")
    assert not list(folder.glob("*/.*"))


def test_the_recorded_plan_of_two_million_clips_is_within_its_goals(root):
    record = json.loads((root / "benchmarks/results/scale.json").read_text())
    goals = record["goals"]
    assert (record["num_clips"], record["num_chunks_per_stage"]) == (2_000_000, 2000)
    for used in record["commands"].values():
        assert used["seconds"] <= goals["plan_seconds"]
        assert used["max_megabytes"] <= goals["plan_megabytes"]
    assert record["parse_seconds"] <= goals["parse_seconds"]


def test_a_wrong_list_is_refused_before_anything_is_written(tmp_path):
    dataset = make_dataset(tmp_path, [*ROWS, "bad,b.mp4,,,zebra,train\n"])
    with pytest.raises(ManifestError, match=r"list\.csv:10: label 'zebra'"):
        plan(dataset, tmp_path / "plan")
    assert not (tmp_path / "plan").exists()


def test_keys_are_safe_and_distinct():
    assert clip_key("-0RWZT-miFs_000030") == "-0RWZT-miFs_000030"
    hostile = [
        "../../etc/passwd",
        "a.b",
        "a_b",
        "",
        "x" * 200,
        "x" * 201,
        "caf\u00e9",
        "a/b",
        "a\\b",
    ]
    keys = [clip_key(clip_id) for clip_id in hostile]
    assert len(set(keys)) == len(hostile)
    assert all(key.isascii() and not set(key) & set("./\\ ") and len(key) <= 120 for key in keys)
