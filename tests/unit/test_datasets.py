"""The data set YAML and its class list: what is accepted, and what a refusal says."""

import pytest

from pipeline_src.errors import ConfigError, ManifestError
from pipeline_src.manifest.datasets import load_classes, load_dataset

GOOD = "name: toy\ntask: multiclass\nclip_list: toy.csv\nclass_names: classes.csv\n"


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
        ("index,id,display_name\n0,a,A\n", ["1 classes"]),
    ],
)
def test_a_wrong_class_list_is_refused(tmp_path, classes, parts):
    dataset = load_dataset(write(tmp_path, classes=classes))
    with pytest.raises(ManifestError) as caught:
        load_classes(dataset)
    for part in ["classes.csv", *parts]:
        assert part in str(caught.value)


@pytest.mark.parametrize(("name", "origin"), [("vggsound", "Oxford"), ("audioset_20k", "Google")])
def test_shipped_data_sets_say_where_their_lists_come_from(root, tmp_path, name, origin):
    text = (root / "config" / "datasets" / f"{name}.yaml").read_text()
    (tmp_path / f"{name}.yaml").write_text(text)
    dataset = load_dataset(tmp_path / f"{name}.yaml")
    with pytest.raises(ManifestError, match=origin):
        load_classes(dataset)
