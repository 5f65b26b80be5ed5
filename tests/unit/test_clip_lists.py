"""Clip lists of all three forms: what is read, and what is refused with file, line and value."""

import gzip

import pytest

from pipeline_src.errors import ManifestError
from pipeline_src.manifest.clip_lists import ClipRow, read_clips
from pipeline_src.manifest.datasets import load_dataset

HEADER = "clip_id,source,start_seconds,end_seconds,labels,split\n"
CLASSES = 'index,mid,display_name\n0,/m/0,Speech\n1,/m/1,"Bark, loud"\n2,/m/2,Rain\n'


def make_dataset(folder, clip_list, *, form="clips", task="multilabel", name="list.csv"):
    (folder / "classes.csv").write_text(CLASSES)
    lists = clip_list if isinstance(clip_list, dict) else {"": clip_list}
    for split, text in lists.items():
        path = folder / f"{split}{name}"
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    entry = name if "" in lists else "{" + ", ".join(f"{s}: {s}{name}" for s in lists) + "}"
    (folder / "toy.yaml").write_text(
        f"name: toy\ntask: {task}\nformat: {form}\nclip_list: {entry}\nclass_names: classes.csv\n"
    )
    return load_dataset(folder / "toy.yaml")


def read(dataset):
    return list(read_clips(dataset, max_seconds=600))


@pytest.mark.parametrize("name", ["list.csv", "list.csv.gz"])
def test_our_own_form(tmp_path, name):
    rows = 'a,a.mp4,,,"/m/2;Speech",train\nb,t.tar::x/b.mp4,1.5,3,"Bark, loud",test\n'
    assert read(make_dataset(tmp_path, HEADER + rows, name=name)) == [
        ClipRow("a", "a.mp4", None, None, (0, 2), "train", 2),
        ClipRow("b", "t.tar::x/b.mp4", 1.5, 3.0, (1,), "test", 3),
    ]


def test_columns_may_come_in_any_order_with_others_between(tmp_path):
    text = "note,split,labels,end_seconds,start_seconds,source,clip_id\nx,val,Rain,2,1,s.mp4,c\n"
    assert read(make_dataset(tmp_path, text)) == [ClipRow("c", "s.mp4", 1, 2, (2,), "val", 2)]


def test_official_audioset_form(tmp_path):
    head = "# Segments csv created Sun Mar  5 10:54:31 2017\n# num_ytids=2\n# YTID, ...\n"
    train = head + '--PJHxphWEs, 30.000, 40.000, "/m/0,/m/2"\n'
    test = head + '-0RWZT-miFs, 420.000, 430.000, "/m/1"\n'
    dataset = make_dataset(tmp_path, {"train": train, "test": test}, form="audioset")
    assert read(dataset) == [
        ClipRow("--PJHxphWEs", "youtube:--PJHxphWEs", 30, 40, (0, 2), "train", 4),
        ClipRow("-0RWZT-miFs", "youtube:-0RWZT-miFs", 420, 430, (1,), "test", 4),
    ]


def test_official_vggsound_form(tmp_path):
    text = '---g-f_I2yQ,1,"Bark, loud",test\n--0PQM4-hqg,30,Rain,train\n'
    assert read(make_dataset(tmp_path, text, form="vggsound", task="multiclass")) == [
        ClipRow("---g-f_I2yQ_000001", "youtube:---g-f_I2yQ", 1, 11, (1,), "test", 1),
        ClipRow("--0PQM4-hqg_000030", "youtube:--0PQM4-hqg", 30, 40, (2,), "train", 2),
    ]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("clip_id,source,start_seconds,end_seconds,labels\n", [":1:", "'split'"]),
        (HEADER, ["no clips at all"]),
        ("", [":1:", "'clip_id'"]),
        (HEADER + "a,a.mp4,,,Rain,train\na,b.mp4,,,Rain,test\n", [":3:", "'a'", ":2"]),
        (
            HEADER + "a,a.mp4,0,5,Rain,train\nb,a.mp4,5,9,Rain,test\n",
            [":3:", "'a.mp4'", "in split test and in train"],
        ),
        (HEADER + "a,a.mp4,,,Snow,train\n", [":2:", "'Snow'", "classes.csv"]),
        (HEADER + "a,a.mp4,,,,train\n", [":2:", "no label"]),
        (HEADER + "a,a.mp4,,,Rain;Speech,train\n", [":2:", "2 labels", "multiclass"]),
        (HEADER + "a,a.mp4,5,5,Rain,train\n", [":2:", "'5'", "not below"]),
        (HEADER + "a,a.mp4,x,5,Rain,train\n", [":2:", "start_seconds", "'x'"]),
        (HEADER + "a,a.mp4,-1,5,Rain,train\n", [":2:", "'-1'"]),
        (HEADER + "a,a.mp4,0,inf,Rain,train\n", [":2:", "'inf'"]),
        (HEADER + "a,a.mp4,nan,5,Rain,train\n", [":2:", "'nan'"]),
        (HEADER + "a,a.mp4,0,601,Rain,train\n", [":2:", "601 s", "media.max_seconds=600"]),
        (HEADER + "a,a.mp4,,,Rain,dev\n", [":2:", "'dev'", "train, val, test"]),
        (HEADER + " ,a.mp4,,,Rain,train\n", [":2:", "clip_id", "' '"]),
        (HEADER + "a\x07,a.mp4,,,Rain,train\n", [":2:", "clip_id", "'a\\x07'"]),
        (HEADER + '"a\nb",a.mp4,,,Rain,train\n', [":3:", "clip_id", "'a\\nb'"]),
        (HEADER + "a,,,,Rain,train\n", [":2:", "source"]),
        (HEADER + "a,a.mp4,,Rain,train\n", [":2:", "5 fields", "expected 6"]),
    ],
)
def test_a_wrong_row_is_refused_with_file_line_and_value(tmp_path, text, parts):
    dataset = make_dataset(tmp_path, text, task="multiclass")
    with pytest.raises(ManifestError) as caught:
        read(dataset)
    for part in ["list.csv", *parts]:
        assert part in str(caught.value)


def test_a_video_in_two_audioset_lists_is_refused(tmp_path):
    row = '--PJHxphWEs, 30.000, 40.000, "/m/0"\n'
    dataset = make_dataset(tmp_path, {"train": row, "test": row}, form="audioset")
    with pytest.raises(ManifestError, match=r"testlist.csv:1: .*trainlist.csv:1"):
        read(dataset)


def test_a_damaged_gzip_is_refused(tmp_path):
    dataset = make_dataset(tmp_path, HEADER + "a,a.mp4,,,Rain,train\n" * 50, name="list.csv.gz")
    path = tmp_path / "list.csv.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(ManifestError, match=r"list\.csv\.gz"):
        read(dataset)


def test_a_missing_list_says_what_it_should_hold(tmp_path):
    dataset = make_dataset(tmp_path, HEADER)
    (tmp_path / "list.csv").unlink()
    with pytest.raises(ManifestError, match=r"list.csv: no such file.*clip_id,source"):
        read(dataset)
