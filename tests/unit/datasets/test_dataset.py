"""The data set YAML and its class list: what is accepted, and what a refusal says."""

import pytest

from pipeline_src.datasets.classes import load_classes
from pipeline_src.datasets.clip_lists import read_clips
from pipeline_src.datasets.dataset import load_dataset, split_view
from pipeline_src.datasets.retrieval_lists import load_gallery
from pipeline_src.errors import ConfigError, ManifestError

GOOD = "name: toy\ntask: multiclass\nclip_list: toy.csv\nclass_names: classes.csv\n"

AUDIOSET = GOOD.replace("toy.csv", "{train: a.csv, test: b.csv}") + "format: audioset\n"


def write(folder, text=GOOD, classes="index,id,display_name\n0,a,Alpha\n1,b,Beta\n"):
    (folder / "toy.yaml").write_text(text)
    (folder / "classes.csv").write_text(classes)
    return folder / "toy.yaml"


def test_paths_are_relative_to_the_yaml(tmp_path):
    dataset = load_dataset(write(tmp_path, GOOD + "root: ../raw\n"))
    assert dataset.clip_list == tmp_path / "toy.csv"
    assert dataset.class_names == tmp_path / "classes.csv"
    assert dataset.root == tmp_path / "../raw"
    assert load_dataset(write(tmp_path)).root == tmp_path


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (GOOD + "clases: x\n", ["clases", "unknown key", "class_names"]),
        (GOOD.replace("task: multiclass\n", ""), ["task", "missing"]),
        (GOOD.replace("multiclass", "regression"), ["task", "'regression'", "'multilabel'"]),
        (GOOD.replace("name: toy", "name: my-toy"), ["name", "'my-toy'"]),
        (GOOD + "format: audioset\n", ["clip_list", "audioset", "train:"]),
        (GOOD.replace("clip_list: toy.csv", "clip_list: {dev: toy.csv}"), ["dev"]),
        (GOOD.replace("clip_list: toy.csv", "clip_list: {test: toy.csv}"), ["needs one path"]),
        (GOOD + "clip_file: clip.mp4\n", ["clip_file", "'clip.mp4'", "{clip_id}"]),
        (GOOD + "clip_file: ../{clip_id}.mp4\n", ["clip_file", "below root"]),
        (AUDIOSET.replace("a.csv", "[]"), ["clip_list", "a path per split"]),
        (
            GOOD + "retrieval_size: 5\nretrieval_clips: g.txt\n",
            ["size and retrieval_clips"],
        ),
        (GOOD + "retrieval_size: -1\n", ["retrieval_size", "-1"]),
        (GOOD + "modalities: [video]\n", ["modalities", "['video']", "[audio, video]"]),
        (GOOD + "modalities: [sound]\n", ["modalities", "'sound'"]),
        (GOOD + "folds: 1\n", ["folds: 1", "at least 2"]),
        (GOOD + "format: vggsound\nfolds: 5\n", ["folds: 5", "vggsound"]),
        (GOOD + "format: esc50\n", ["esc50", "folds: 5"]),
        (GOOD + "format: speech_commands\n", ["clip_list", "val: ..., test: ..."]),
        (GOOD.replace("name: toy", "name: toy_fold2"), ["name", "'toy_fold2'", "rename"]),
        (GOOD.replace("name: toy", f"name: {'a' * 101}"), ["name", "at most 100 characters"]),
        (GOOD + "retrieval_size: true\n", ["retrieval_size", "true is no number"]),
        (GOOD + "retrieval_size: 1:30\n", ["retrieval_size", "1:30", "valid integer"]),
        ("- 1\n", ["expected keys"]),
        ("a: [", ["not valid YAML"]),
    ],
)
def test_a_wrong_yaml_is_refused_with_file_key_and_value(tmp_path, text, parts):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_dataset(path)
    for part in [str(path), *parts]:
        assert part in str(caught.value)


def test_a_split_may_have_several_lists(tmp_path):
    dataset = load_dataset(write(tmp_path, AUDIOSET.replace("a.csv", "[a.csv, c.csv]")))
    assert dataset.clip_lists["train"] == (tmp_path / "a.csv", tmp_path / "c.csv")
    assert dataset.list_files == tuple(tmp_path / f"{name}.csv" for name in "acb")
    assert (dataset.collection, load_dataset(write(tmp_path)).collection) == ("audioset", "toy")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (None, ["no such file", "one clip_id per line"]),
        ("\n", ["no clip_id at all"]),
        ("x\ny\nx\n", ["'x'", "2 times"]),
    ],
)
def test_a_wrong_gallery_list_is_refused(tmp_path, text, parts):
    dataset = load_dataset(write(tmp_path, GOOD + "retrieval_clips: g.txt\n"))
    if text is not None:
        (tmp_path / "g.txt").write_text(text)
    with pytest.raises(ManifestError) as caught:
        load_gallery(dataset)
    for part in [str(tmp_path / "g.txt"), *parts]:
        assert part in str(caught.value)


def test_a_gallery_list_is_read_in_its_order(tmp_path):
    dataset = load_dataset(write(tmp_path, GOOD + "retrieval_clips: g.txt\n"))
    (tmp_path / "g.txt").write_text("b\n\n a \n")
    assert load_gallery(dataset) == ["b", "a"]
    assert load_gallery(load_dataset(write(tmp_path))) is None


def test_a_missing_yaml_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_dataset(tmp_path / "nowhere.yaml")


def test_classes_are_found_by_id_and_by_name(tmp_path):
    header = "index,mid,display_name\n"
    path = write(tmp_path, classes=header + '0,/m/1,"Speech, male"\n1,/m/2,Dog\n')
    classes = load_classes(load_dataset(path))
    assert classes.names == ("Speech, male", "Dog")
    assert (classes.index["/m/2"], classes.index["Speech, male"]) == (1, 0)


@pytest.mark.parametrize(
    ("classes", "parts"),
    [
        ("index,id\n0,a\n", [":1:", "display_name"]),
        ("index,id,display_name\n0,a,A\n2,b,B\n", [":3:", "'2'", "expected 1"]),
        ("index,id,display_name\n0,a,A\n1,b,A\n", [":3:", "'A'", "class 0"]),
        ("index,id,display_name\n", ["no class at all"]),
    ],
)
def test_a_wrong_class_list_is_refused(tmp_path, classes, parts):
    dataset = load_dataset(write(tmp_path, classes=classes))
    with pytest.raises(ManifestError) as caught:
        load_classes(dataset)
    for part in ["classes.csv", *parts]:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("name", "origin"),
    [("vggsound", "Oxford"), ("audioset_20k", "Google"), ("audioset_2m", "Google")],
)
def test_shipped_data_sets_say_where_their_lists_come_from(root, tmp_path, name, origin):
    text = (root / "config" / "datasets" / f"{name}.yaml").read_text()
    (tmp_path / f"{name}.yaml").write_text(text)
    dataset = load_dataset(tmp_path / f"{name}.yaml")
    with pytest.raises(ManifestError, match=origin):
        load_classes(dataset)


@pytest.mark.parametrize(("name", "num_classes"), [("esc50", 50), ("speech_commands", 35)])
def test_data_sets_of_sound_alone_ship_their_classes(root, name, num_classes):
    dataset = load_dataset(root / "config" / "datasets" / f"{name}.yaml")
    assert not dataset.has_video
    assert len(load_classes(dataset).names) == num_classes
    assert dataset.licence.startswith("CC-BY")
    with pytest.raises(ManifestError, match=r"no such file; data set .*unpack it"):
        list(read_clips(dataset, max_seconds=600))


def test_a_view_names_a_data_set_and_the_fold_held_out():
    assert split_view("esc50_fold3") == ("esc50", "fold3")
    assert split_view("my_fold") == ("my_fold", "")
    assert split_view("a_fold2_fold1") == ("a_fold2", "fold1")
