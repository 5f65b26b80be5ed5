"""``av-pipeline list``: folders of every shape become data sets that are read as written."""

import os
import re
import shlex
import shutil

import pytest
import yaml

from pipeline_src.catalog import Catalog
from pipeline_src.catalog.check import check_all
from pipeline_src.commands.cli import main
from pipeline_src.commands.list_clips import choose_name
from pipeline_src.config import Config, load_config
from pipeline_src.datasets.classes import load_classes
from pipeline_src.datasets.clip_lists import read_clips
from pipeline_src.datasets.dataset import load_dataset
from pipeline_src.errors import ConfigError
from tests.media import copy_apart, make_broken_clips, make_clip

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """One good clip, to be copied."""
    return make_clip(tmp_path_factory.mktemp("clip") / "good.mp4")


@pytest.fixture
def listed(clip, tmp_path, capsys):
    """Fill a folder with copies of the clip, list it, and return what was written and printed."""

    def run(paths, *arguments, folder="My videos"):
        root = tmp_path / folder
        for path in paths:
            copy_apart(clip, root / path)
        assert main(["list", str(root), *arguments]) == 0
        printed = capsys.readouterr().out
        dataset = load_dataset(next(tmp_path.rglob("*.yaml")))
        return dataset, list(read_clips(dataset, max_seconds=600)), printed

    return run


def rows(dataset, clips):
    names = load_classes(dataset).names
    return {clip.source: (clip.split, names[clip.labels[0]]) for clip in clips}


TREES = {
    "splits and classes": (
        ["Train/dog/a.mp4", "validation/cat/b.mp4", "test/dog/c.mp4", "train/cat/in/d.MP4"],
        ["train", "val", "test", "train"],
        ["dog", "cat", "dog", "cat"],
    ),
    "classes and splits": (
        ["dog/train/a.mp4", "cat/val/b.mp4", "dog/test/c.mp4", "cat/train/d.mp4"],
        ["train", "val", "test", "train"],
        ["dog", "cat", "dog", "cat"],
    ),
    "one folder around all": (
        ["data/set/train/dog/a.mp4", "data/set/test/cat/b.mp4"],
        ["train", "test"],
        ["dog", "cat"],
    ),
    "splits alone": (["train/a.mp4", "test/b.mp4"], ["train", "test"], ["unlabelled"] * 2),
}


@pytest.mark.parametrize("kind", TREES)
def test_folders_name_splits_and_classes(listed, kind):
    paths, splits, classes = TREES[kind]
    dataset, clips, _ = listed(paths)
    assert rows(dataset, clips) == {
        path: (split, label) for path, split, label in zip(paths, splits, classes, strict=True)
    }
    assert dataset.name == "My_videos"


def test_without_split_folders_every_class_is_split_by_hash_and_the_same_again(listed):
    paths = [f"{label}/{n}.mp4" for label in ("dog", "cat", "cow") for n in range(10)]
    dataset, clips, printed = listed(paths)
    found = rows(dataset, clips)
    for label in ("dog", "cat", "cow"):
        splits = [split for split, name in found.values() if name == label]
        assert [splits.count(split) for split in ("train", "val", "test")] == [8, 1, 1]
    assert "clips: train 24, val 3, test 3" in printed
    assert "no clip in" not in printed
    assert listed(paths, "--update")[1] == clips


def test_a_class_too_small_for_every_split_is_named(listed):
    paths = [f"{label}/{n}.mp4" for label in ("dog", "cat") for n in range(10)]
    _, _, printed = listed([*paths, "rare bird/x.mp4"])
    assert "no clip in val of: 'rare bird'" in printed
    assert "no clip in test of: 'rare bird'" in printed
    assert "no clip in train" not in printed


def test_a_longer_folder_listed_anew_leaves_every_clip_in_its_split(listed):
    first = {c.source: c.split for c in listed([f"a/{n}.mp4" for n in range(12)])[1]}
    again = {c.source: c.split for c in listed(["b/x.mp4", "b/y.mp4", "a/0 0.mp4"], "--update")[1]}
    assert first.items() <= again.items()
    assert len(again) == 15
    assert list(again)[:12] == list(first)  # in between they would move others into other chunks


NAMES = [
    "plain.mp4",
    " two  spaces .mp4",
    "é.mp4",
    "e\u0301.mp4",
    "dog 🐕.mp4",
    "犬\u3000鳴き声.mp4",
    "می\u200cروم.mp4",
    'q "quoted", comma; semicolon.mp4',
    "-dash.mp4",
    "youtube:abc.mp4",
    "back\\slash.mp4",
    "100% #1 {x}.mp4",
    "a.mkv",
    "a.mp4",
]


def test_names_survive_and_ids_are_safe_and_apart(listed):
    dataset, clips, _ = listed([f"ça va/{name}" for name in NAMES] + ["a; b/a.mp4", "a  b/a.mp4"])
    assert {clip.source.partition("/")[2] for clip in clips} == set(NAMES)
    assert {(dataset.root / clip.source).is_file() for clip in clips} == {True}
    assert len({clip.clip_id for clip in clips}) == len(clips) == len(NAMES) + 2
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", clip.clip_id) for clip in clips)
    assert set(load_classes(dataset).names) == {"ça va", "a; b", "a b"}


def test_what_no_list_can_hold_is_named_and_the_rest_is_listed(listed, tmp_path):
    (tmp_path / "My videos").mkdir()
    for name in (b"bad\xff.mp4", b"two\nlines.mp4"):
        (tmp_path / "My videos" / os.fsdecode(name)).write_bytes(b"x")
    (tmp_path / "My videos" / "._a.mp4").write_bytes(b"left by another system")
    (tmp_path / "My videos" / "notes.txt").write_text("x")
    paths = ["a.mp4", "b.mp4", "c.mp4", "x.tar::y.mp4"]
    _, clips, printed = listed(paths)
    assert {clip.source for clip in clips} == {"a.mp4", "b.mp4", "c.mp4"}
    assert printed.count("\nnot listed: ") == 3
    assert r"not listed: 'two\nlines.mp4': its name holds a line break" in printed
    assert "no recordings, not listed: .txt 1" in printed


def test_what_will_be_lost_is_said_before_anything_runs(listed, tmp_path):
    root = tmp_path / "My videos"
    root.mkdir()
    reasons = make_broken_clips(root)
    del reasons["nowhere.mp4"], reasons["truncated.mp4"]  # the latter only decoding tells
    _, clips, printed = listed(["whole.mp4", *(f"good {n}.mp4" for n in range(20))])
    assert len(clips) == 22 + len(reasons)
    for name, reason in reasons.items():
        assert f"'{name}': {reason}: " in printed
    assert f"will be lost: {len(reasons)} of {len(clips)} clips: corrupt 3, no_video 1" in printed
    _, usable, printed = listed([], "--update", "--usable")
    assert len(usable) == 22
    assert "left out: " in printed
    assert "will be lost" not in printed


def test_sound_alone_is_recognised_by_the_files(tmp_path, capsys):
    (tmp_path / "birds").mkdir()
    for n in range(4):
        make_clip(tmp_path / "birds" / f"{n}.wav", has_video=False, options=("-c:a", "pcm_s16le"))
    assert main(["list", str(tmp_path / "birds")]) == 0
    assert load_dataset(tmp_path / "birds/birds.yaml").modalities == ("audio",)
    assert "nothing will be lost" in capsys.readouterr().out


def test_a_folder_of_a_long_name_gives_a_shorter_one(tmp_path):
    for letters in ("a" * 200, "1" * 200):
        assert len(choose_name(tmp_path / letters, "", [])) <= 100


def test_long_recordings_become_pieces_of_one_split(listed, tmp_path):
    (tmp_path / "My videos").mkdir()
    make_clip(tmp_path / "My videos" / "long.mp4", seconds=3.3)
    _, clips, _ = listed(["a.mp4", "b.mp4", "c.mp4", "d.mp4"], "--clip-seconds", "1")
    pieces = [clip for clip in clips if clip.source == "long.mp4"]
    assert [(clip.start_seconds, clip.end_seconds) for clip in pieces] == [(0, 1), (1, 2), (2, 3)]
    assert len({clip.split for clip in pieces}) == 1
    whole = [clip for clip in clips if clip.source != "long.mp4"]
    assert {(clip.start_seconds, clip.end_seconds) for clip in whole} == {(None, None)}


@pytest.mark.parametrize(
    ("paths", "arguments", "message"),
    [
        (["train/a.mp4", "dog/b.mp4"], [], "train is a split, dog is not; .*--splits hash"),
        (["readme.txt"], [], "no recording in it; found .txt 1; accepted suffixes"),
        (["a.mp4"], ["--name", "avdigits"], "--name 'avdigits': letters, digits and _"),
        (["a.mp4"], ["--name", "a b"], "--name 'a b'"),
        (["a.mp4"], ["--name", "a" * 101], "at most 100"),
        (["a.mp4"], ["--clip-seconds", "nan"], "--clip-seconds nan: a number of seconds"),
        (["a.mp4"], ["--clip-seconds", "inf"], "--clip-seconds inf: a number of seconds"),
        (["a.mp4"], ["--clip-seconds=-1"], "--clip-seconds -1: a number of seconds"),
        ([".in/a.mp4"], [], "no recording in it; left out: '.in': a hidden folder; accepted"),
        (["a.mp4"], ["--output", "/proc"], "/proc: cannot be written.*--output"),
    ],
)
def test_refusals_say_what_to_do(listed, paths, arguments, message):
    with pytest.raises(SystemExit, match=message):
        listed(paths, *arguments)


def test_a_data_set_that_is_there_is_not_written_over(listed):
    listed(["a.mp4", "b.mp4", "c.mp4"])
    with pytest.raises(SystemExit, match=r"My_videos\.yaml is there already; --update"):
        listed([])


def test_a_file_is_no_folder(clip):
    with pytest.raises(SystemExit, match=r"good\.mp4: is a file; name the folder that it lies in"):
        main(["list", str(clip)])


def test_a_missing_folder_is_one_sentence(tmp_path):
    with pytest.raises(SystemExit, match="no such folder"):
        main(["list", str(tmp_path / "nowhere")])


def test_folders_that_link_to_each_other_end(listed, tmp_path):
    (tmp_path / "My videos/dog").mkdir(parents=True)
    (tmp_path / "My videos/dog/again").symlink_to(tmp_path / "My videos")
    _, clips, _ = listed(["dog/a.mp4", "dog/b.mp4", "cat/c.mp4"])
    assert len(clips) == 3


@pytest.mark.parametrize("name", ["clips", "2024", "犬", "avdigits", "a_fold1", "model"])
def test_every_folder_gives_a_name_that_the_workflow_takes(listed, root, name):
    dataset, _, printed = listed([f"{c}/{n}.mp4" for c in "xy" for n in range(3)], folder=name)
    assert dataset.name.startswith("my_")
    catalog = Catalog(
        Config(datasets=tuple(proposed(printed)["datasets"])), root / "config/datasets"
    )
    assert catalog.listed == (dataset.name,)


def proposed(printed):
    """Settings of the printed command, by section; none where it is not printed."""
    words = shlex.split(printed.partition("run it:")[2].partition("\n")[0])
    return {k: yaml.safe_load(v) for k, _, v in (w.partition("=") for w in words) if v}


SMALL = {
    "one clip": (["a.mp4"], "no usable clip is held out for a test: the last recording"),
    "a file a class": (["a/x.mp4", "b/y.mp4", "c/z.mp4"], "no usable clip is held out for a test"),
    "one to train on": (["a.mp4", "b.mp4"], "batch_size=1 is smaller than the number of contrast"),
    "two to train on": (["train/a/x.mp4", "train/b/x.mp4", "test/a/x.mp4"], "batch_size=2 is smal"),
    "no train folder": (["val/a/x.mp4", "test/b/x.mp4"], "put recordings into a folder train"),
    "train alone": (["train/a/x.mp4", "train/b/x.mp4"], "put recordings into a folder test"),
}


@pytest.mark.parametrize("kind", SMALL)
def test_what_is_missing_is_said_in_place_of_a_command_that_would_be_refused(listed, kind):
    paths, problem = SMALL[kind]
    printed = listed(paths)[2]
    assert "cannot be run as it is: " in printed
    assert problem in printed
    assert not proposed(printed)


def test_three_clips_to_train_on_are_one_batch(listed):
    paths = [f"train/{c}/{n}.mp4" for c, n in ("a1", "a2", "b3")] + ["val/a/x.mp4"]
    settings = proposed(listed(paths)[2])
    assert settings["pretrain"] == settings["finetune"] == {"batch_size": 3}
    assert settings["evaluate"] == {"split": "val"}


def test_batches_are_what_the_method_takes(listed, tmp_path):
    overlay = tmp_path / "overlay.cfg"
    recipe = {"batch_size": 50, "batch_multiple": 5, "adaptive_batch": "tokens"}
    recipe["curriculum"] = {"shape": "linear"}
    overlay.write_text(yaml.safe_dump({"pretrain": recipe, "finetune": {"label_fraction": 0.5}}))
    settings = proposed(listed([f"{c}/{n}.mp4" for c in "ab" for n in range(8)], str(overlay))[2])
    assert (settings["pretrain"], settings["finetune"]) == ({"batch_size": 10}, {"batch_size": 6})


def test_data_sets_that_a_run_fetches_first_refuse_nothing(listed, root, tmp_path):
    listed([f"{c}/{n}.mp4" for c in "ab" for n in range(10)])
    paths = [str(tmp_path / "My videos/My_videos.yaml"), str(tmp_path / "sets/esc50.yaml")]
    (tmp_path / "sets").mkdir()
    shutil.copy(root / "config/datasets/esc50.yaml", paths[1])
    config = Config(datasets=tuple(paths), results=str(tmp_path / "results"))
    config = load_config(
        config.model_dump(mode="json")
        | {"pretrain": {"datasets": ["My_videos"], "batch_size": 8}, "finetune": {"batch_size": 8}}
    )
    check_all(Catalog(config, tmp_path / "sets"))


def test_no_command_for_a_split_that_will_fail(listed, tmp_path):
    (tmp_path / "My videos/test/a").mkdir(parents=True)
    (tmp_path / "My videos/test/a/x.mp4").write_bytes(b"no video")
    paths = [f"train/{label}/{n}.mp4" for label in "ab" for n in range(3)]
    printed = listed(paths)[2]
    assert "test would fail: 1 of its 1 clips are lost" in printed
    assert not proposed(printed)
    assert "put recordings into a folder test" in listed([], "--update", "--usable")[2]


def test_sound_alone_is_learnt_without_pre_training(tmp_path, capsys):
    for label in "ab":
        (tmp_path / "birds" / label).mkdir(parents=True)
        for n in range(3):
            path = tmp_path / "birds" / label / f"{n}.wav"
            make_clip(path, has_video=False, options=("-c:a", "pcm_s16le", "-t", f"0.{9 - n}"))
    assert main(["list", str(tmp_path / "birds")]) == 0
    assert proposed(capsys.readouterr().out)["finetune"]["init"] == "scratch"


def test_a_file_with_several_names_is_listed_once(listed, tmp_path):
    root = tmp_path / "My videos"
    root.mkdir()
    (root / "a link.mp4").symlink_to(root / "v.mp4")
    (root / "nowhere.mp4").symlink_to(tmp_path / "gone.mp4")
    os.mkfifo(root / "pipe.mp4")
    listed(["v.mp4", "b.mp4", "c.mp4"])
    os.link(root / "v.mp4", root / "w.mp4")
    _, clips, printed = listed([], "--update")
    assert {clip.source for clip in clips} == {"v.mp4", "b.mp4", "c.mp4", "nowhere.mp4"}
    assert "not listed: 'pipe.mp4': no regular file" in printed
    for name in ("a link.mp4", "w.mp4"):
        assert f"not listed: {name!r}: the same file as 'v.mp4', which is listed" in printed


def test_a_link_to_a_folder_takes_no_class_away(listed, tmp_path):
    root, elsewhere = tmp_path / "My videos", tmp_path / "elsewhere"
    for folder in (root / "cat", root / ".store", elsewhere):
        folder.mkdir(parents=True)
    (root / "cat/doglink").symlink_to("../dog")
    (root / "cat/up").symlink_to(tmp_path)
    (root / "cow").symlink_to(elsewhere)
    (root / "cow2").symlink_to(elsewhere)
    (root / "hen").symlink_to(".store")
    paths = [f"{c}/{n}.mp4" for c in ("cat", "dog", "cow", ".store") for n in range(2)]
    dataset, clips, printed = listed(paths)
    found = {label for _, label in rows(dataset, clips).values()}
    assert found == {"cat", "dog", "cow", "hen"}
    assert len(clips) == 8
    assert "not listed: 'cat/doglink': the same folder as 'dog', which is listed" in printed
    assert "not listed: 'cow2': the same folder as 'cow', which is listed" in printed
    assert "not listed: 'cat/up': leads back to the folder that is listed, or to one" in printed


def test_folders_of_the_system_are_no_classes(listed):
    left_out = ("@eaDir", "__MACOSX", ".thumbs", "dog/@eaDir", "#recycle")
    classes = [f"{label}/{n}.mp4" for label in ("dog", "cat") for n in range(3)]
    dataset, clips, printed = listed(classes + [f"{name}/x.mp4" for name in left_out])
    assert set(rows(dataset, clips)) == set(classes)
    for name in left_out:
        assert f"not listed: {name!r}: a " in printed


def test_files_of_the_same_bytes_share_a_split(listed, clip, tmp_path):
    root = tmp_path / "My videos"
    (root / "a").mkdir(parents=True)
    for n in range(6):
        shutil.copy(clip, root / "a" / f"same {n}.mp4")
    _, clips, printed = listed([f"{c}/{n}.mp4" for c in "ab" for n in range(12)])
    assert len({c.split for c in clips if "same" in c.source}) == 1
    assert {c.split for c in clips} == {"train", "val", "test"}
    assert "copy: 'a/same 1.mp4': the same bytes as 'a/same 0.mp4'" in printed


def test_the_same_bytes_in_two_splits_or_classes_are_said(listed, clip, tmp_path):
    for path in ("train/a/x.mp4", "test/a/y.mp4", "train/b/z.mp4"):
        (tmp_path / "My videos" / path).parent.mkdir(parents=True)
        shutil.copy(clip, tmp_path / "My videos" / path)
    printed = listed(["train/b/c.mp4"])[2]
    assert "the same bytes as 'test/a/y.mp4', which is in test; this is in train" in printed


def test_files_without_classes_are_pre_trained_on_and_no_more(listed, root, tmp_path):
    dataset, _, printed = listed([f"{n}.mp4" for n in range(10)])
    assert "'finetune={\"skip\": true}' 'evaluate={\"probes\": false}'" in printed
    path = str(tmp_path / "My videos" / f"{dataset.name}.yaml")
    config = Config(datasets=(path,), results=str(tmp_path / "results"))
    catalog = Catalog(config, root / "config/datasets")
    with pytest.raises(ConfigError, match="has one class and fine-tuning needs two; set finetune"):
        catalog.finetune_train_indexes("avsiam_tiny", dataset.name)
