"""Clip lists of all three forms: what is read, and what is refused with file, line and value."""

import gzip
import re

import pytest

from pipeline_src.datasets.classes import format_classes, load_classes
from pipeline_src.datasets.clip_lists import ClipRow, classes_of, read_clips
from pipeline_src.datasets.dataset import load_dataset
from pipeline_src.errors import ManifestError
from pipeline_src.runs.imported import read_classes

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


def without_classes(folder, rows, more=""):
    (folder / "list.csv").write_text(HEADER + rows)
    text = f"name: toy\ntask: multilabel\nclip_list: list.csv\n{more}"
    (folder / "toy.yaml").write_text(text)
    return load_dataset(folder / "toy.yaml")


def test_classes_left_out_are_the_labels_of_all_splits_sorted(tmp_path):
    rows = 'a,a.mp4,,,"dog; été",train\nb,b.mp4,,,"Cat, loud",val\nc,c.mp4,,,bird;dog,test\n'
    dataset = without_classes(tmp_path, rows)
    names = ("Cat, loud", "bird", "dog", "été")
    assert classes_of(dataset).names == names
    assert [row.labels for row in read(dataset)] == [(2, 3), (0,), (1, 2)]
    path = tmp_path / "classes.csv"
    path.write_text(format_classes(classes_of(dataset)))
    assert load_classes(dataset, path) == classes_of(dataset)
    shuffled = "".join(reversed(rows.splitlines(keepends=True)))
    assert classes_of(without_classes(tmp_path, shuffled)).names == names
    assert read_classes(tmp_path / "toy.yaml").names == names  # of a converted checkpoint


@pytest.mark.parametrize("label", ["dog,cat", "cat | dog", "dog,bird"])
def test_several_labels_behind_another_separator_are_no_class_of_their_own(tmp_path, label):
    rows = f'a,a.mp4,,,dog;bird,train\nb,b.mp4,,,cat,test\nc,c.mp4,,,"{label}",test\n'
    with pytest.raises(ManifestError, match=r"list\.csv:4: label .* separate .* by .*class_names"):
        read(without_classes(tmp_path, rows))
    (tmp_path / "names.csv").write_text(
        "index,id,display_name\n0,dog,Dog\n1,cat,Cat\n2,bird,Bird\n"
    )
    with pytest.raises(ManifestError, match=r"list\.csv:4: label .* not in .* separate .* by ';'$"):
        read(without_classes(tmp_path, rows, "class_names: names.csv\n"))


def test_a_comma_is_part_of_a_name_where_its_parts_are_no_labels(tmp_path):
    rows = 'a,a.mp4,,,"dog, loud",train\nb,b.mp4,,,dog,test\n'
    dataset = without_classes(tmp_path, rows + "c,c.mp4,,,dog;cat,test\n")
    assert classes_of(dataset).names == ("cat", "dog", "dog, loud")
    assert len(read(dataset)) == 3
    with pytest.raises(ManifestError, match=r"list\.csv:2: label 'dog, loud': .*class_names"):
        read(without_classes(tmp_path, rows))  # where nobody has separated any


@pytest.mark.parametrize("label", ["['dog']", "\"['dog', 'cat']\"", '"[""dog"", ""cat""]"'])
def test_lists_as_programs_write_them_are_no_classes(tmp_path, label):
    rows = f"a,a.mp4,,,dog;cat,train\nb,b.mp4,,,{label},test\nc,c.mp4,,,[dog],test\n"
    with pytest.raises(ManifestError, match=r"list\.csv:3: label .*separated by ';'"):
        read(without_classes(tmp_path, rows))


def test_rows_of_bare_commas_are_none(tmp_path):
    dataset = without_classes(tmp_path, "a,a.mp4,,,dog,train\n,,,,,\n , ,,,,\n")
    assert len(read(dataset)) == 1


def test_classes_left_out_with_folds(tmp_path):
    rows = "a,a.mp4,,,y,fold1\nb,b.mp4,,,x,fold2\n"
    dataset = without_classes(tmp_path, rows, "folds: 2\n")
    assert classes_of(dataset).names == ("x", "y")
    assert [row.labels for row in read(dataset)] == [(1,), (0,)]


def test_classes_left_out_leave_the_list_checked(tmp_path):
    with pytest.raises(ManifestError, match=r"list\.csv:2: label 'a.*' holds control characters"):
        read(without_classes(tmp_path, "a,a.mp4,,,a\x07b,train\n"))
    with pytest.raises(ManifestError, match=r"list\.csv:2: clip 'a' has no label"):
        read(without_classes(tmp_path, "a,a.mp4,,,,train\n"))


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


def test_our_own_form_may_name_what_clips_share(tmp_path):
    text = HEADER.replace("split", "split,group") + "a,a.mp4,,,Rain,val,ann \nb,b.mp4,,,Rain,val,\n"
    assert [clip.group for clip in read(make_dataset(tmp_path, text))] == ["ann", ""]
    with pytest.raises(ManifestError, match=r"list\.csv:2: group 'a.*' holds control characters"):
        read(make_dataset(tmp_path, text.replace("ann", "a\x07n")))
    with pytest.raises(ManifestError, match="column 'group' must be there once"):
        read(make_dataset(tmp_path, text.replace(",group", ",group,group")))


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


ESC50 = "filename,fold,target,category,esc10,src_file,take\n"


def test_official_esc50_form(tmp_path):
    rows = "1-100032-A-0.wav,1,0,Rain,True,100032,A\n2-7-B-1.wav,2,1,Speech,False,7,B\n"
    dataset = make_dataset(
        tmp_path, ESC50 + rows, form="esc50\nmodalities: [audio]\nfolds: 2", task="multiclass"
    )
    assert read(dataset) == [
        ClipRow("1-100032-A-0", "audio/1-100032-A-0.wav", None, None, (2,), "fold1", 2, "100032"),
        ClipRow("2-7-B-1", "audio/2-7-B-1.wav", None, None, (0,), "fold2", 3, "7"),
    ]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (ESC50 + "a.wav,3,0,Rain,True,1,A\n", [":2:", "'fold3'", "fold1, fold2"]),
        (ESC50.replace("fold", "part"), [":1:", "'fold'"]),
        (ESC50 + "a.wav,1,0,Rain\n", [":2:", "4 fields", "expected 7"]),
    ],
)
def test_a_wrong_row_of_esc50_is_refused(tmp_path, text, parts):
    dataset = make_dataset(tmp_path, text, form="esc50\nfolds: 2")
    with pytest.raises(ManifestError) as caught:
        read(dataset)
    for part in parts:
        assert part in str(caught.value)


def make_words(folder, *, val="Rain/b.wav\n", test="Speech/a.wav\n\n"):
    """Speech Commands' layout: a folder per word, background noise, two lists."""
    for name in ("Rain/a.wav", "Rain/b.wav", "Speech/a.wav", "Speech/c.wav", "Rain/notes.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    (folder / "_background_noise_").mkdir(exist_ok=True)
    (folder / "_background_noise_/hum.wav").touch()
    lists = {"val": val, "test": test}
    return make_dataset(folder, lists, form="speech_commands", task="multiclass", name="ing.txt")


def test_official_speech_commands_form(tmp_path):
    assert read(make_words(tmp_path)) == [
        ClipRow("Rain/b", "Rain/b.wav", None, None, (2,), "val", 1),
        ClipRow("Speech/a", "Speech/a.wav", None, None, (0,), "test", 1),
        ClipRow("Rain/a", "Rain/a.wav", None, None, (2,), "train", 1),
        ClipRow("Speech/c", "Speech/c.wav", None, None, (0,), "train", 2),
    ]


def test_the_speaker_of_speech_commands_is_in_the_name_of_a_file(tmp_path):
    said = ("Rain/0a7c2a8d_nohash_0.wav", "Speech/0a7c2a8d_nohash_0.wav", "Rain/x_nohash_1.wav")
    clips = read(make_words(tmp_path, val="".join(f"{name}\n" for name in said), test=""))
    assert [clip.group for clip in clips if clip.split == "val"] == ["0a7c2a8d", "0a7c2a8d", "x"]
    assert {clip.group for clip in clips if clip.split == "train"} == {""}


def test_a_wrong_line_of_speech_commands_is_refused(tmp_path):
    with pytest.raises(ManifestError, match=r"valing.txt:2: 'b.wav' is not of the form word/file"):
        read(make_words(tmp_path, val="Rain/b.wav\nb.wav\n"))
    with pytest.raises(ManifestError, match=r"testing.txt:1: clip_id 'Rain/b' .*valing.txt:1"):
        read(make_words(tmp_path, test="Rain/b.wav\n"))


def test_a_folder_that_is_no_word_of_the_class_list_is_refused(tmp_path):
    dataset = make_words(tmp_path)
    (tmp_path / "Snow").mkdir()
    (tmp_path / "Snow/a.wav").touch()
    with pytest.raises(ManifestError, match=r"Snow:1: label 'Snow' is not in .*classes.csv"):
        read(dataset)


def test_our_own_form_takes_folds(tmp_path):
    rows = "a,a.wav,,,Rain,fold1\nb,b.wav,,,Speech,fold2\n"
    dataset = make_dataset(tmp_path, HEADER + rows, form="clips\nfolds: 2")
    assert [clip.split for clip in read(dataset)] == ["fold1", "fold2"]
    dataset = make_dataset(tmp_path, HEADER + "a,a.wav,,,Rain,train\n", form="clips\nfolds: 2")
    with pytest.raises(ManifestError, match=r"'train' is not one of fold1, fold2"):
        read(dataset)


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
        (HEADER + "a,a.mp4,1_0,50,Rain,train\n", [":2:", "start_seconds", "'1_0'"]),
        (HEADER + "a,a.mp4,\u0661,50,Rain,train\n", [":2:", "start_seconds", "'\u0661'"]),
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


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_the_line_that_is_no_utf_8_is_named(tmp_path, ending):
    """The file is read in large pieces: the first line was named."""
    header = b"clip_id,source,start_seconds,end_seconds,labels,split\n"
    content = header + b"a,a.mp4,,,dog,train\n" + "caf\u00e9,b.mp4,,,dog,train\n".encode("latin-1")
    path = tmp_path / f"list.csv{ending}"
    path.write_bytes(gzip.compress(content) if ending else content)
    text = f"name: toy\ntask: multiclass\nclip_list: {path.name}\n"
    (tmp_path / "toy.yaml").write_text(text)
    refusal = rf"{path.name}:3: not a CSV file in UTF-8: .*; save it as CSV in UTF-8"
    with pytest.raises(ManifestError, match=refusal):
        list(read_clips(load_dataset(tmp_path / "toy.yaml"), max_seconds=600))


@pytest.mark.parametrize("youtube_id", ["PKx4dRjqb9w", "PAR1dRjqb9w", "PK-4dRjqb9w"])
def test_an_id_that_begins_like_an_archive_is_text(tmp_path, youtube_id):
    rows = "".join(f"{youtube_id},{second},Rain,train\n" for second in (30, 50))
    dataset = make_dataset(tmp_path, rows, form="vggsound", task="multiclass")
    assert [row.start_seconds for row in read(dataset)] == [30, 50]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PAR1\x15\x04\xe2\x00", "this is Parquet; pandas.read_parquet"),
        ("\ufeffclip_id,source\n".encode("utf-16-le"), "this is text in UTF-16; save it as CSV"),
        ("clip_id,source\n".encode("utf-16-be"), "this is text in UTF-16; save it as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "this is a spreadsheet of old Excel; save it as CSV"),
        (
            gzip.compress(b"clip_id,source\n", mtime=0),
            "compressed with gzip; its name has to end in .gz",
        ),
        (b"PK\x03\x04\x14\xff\xfe", "this is a spreadsheet or an archive; save it as CSV in UTF-8"),
        (b'{"clip_id": "a", "source": "a.mp4"}\n', "is CSV: pandas.read_json(..., lines=True)"),
        (b'[{"clip_id": "a", "source": "a.mp4"}]\n', "a list is CSV: pandas.read_json(...) reads"),
        (b'{"clip_id":"a","labels":["x"]}\n{"clip_id":"b"}\n', "read_json(..., lines=True)"),
        (b'{"clip_id":{"0":"a"},"source":{"0":"a.mp4"}}', "is CSV: pandas.read_json(...) reads"),
        (b'[\n {"clip_id": "a"}\n]\n', "a list is CSV: pandas.read_json(...) reads"),
        (b'{"clip_id":"a","labels":["x"]}\n\n', "read_json(..., lines=True)"),
        (b'{"a":' * 20_000, "this is JSON, a list is CSV"),
        (
            b"CLIP_ID,source,start_seconds,end_seconds,labels,split\n",
            "'CLIP_ID' is written 'clip_id'",
        ),
        (
            b"clip_id,source,start_seconds,end_seconds,labels,split\na,a.mp4,,,dog,validation\n",
            "'val'?",
        ),
    ],
)
def test_a_list_in_another_form_is_named(tmp_path, content, said):
    dataset = without_classes(tmp_path, "a,a.mp4,,,dog,train\n")
    (tmp_path / "list.csv").write_bytes(content)
    with pytest.raises(ManifestError, match=re.escape(said)):
        read(dataset)
