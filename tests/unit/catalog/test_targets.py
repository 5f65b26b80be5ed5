"""What a wrong word is told: the nearest right one, and the place that set it."""

import shlex

import pytest

from pipeline_src.catalog import Catalog
from pipeline_src.catalog.targets import refuse_unknown
from pipeline_src.config import Config, load_config, merge_files
from pipeline_src.config.yaml_files import parse_assignments
from pipeline_src.datasets.clip_lists import read_clips
from pipeline_src.datasets.dataset import load_dataset
from pipeline_src.errors import ConfigError, ManifestError

HEADER = "clip_id,source,start_seconds,end_seconds,labels,split\n"


def refusal(root, *assignments, overlay=None):
    files = [root / "config/config.yaml", *([overlay] if overlay else [])]
    with pytest.raises(ConfigError) as caught:
        load_config(merge_files(files, assignments), files, assignments)
    return str(caught.value)


def test_the_command_line_is_blamed_for_what_it_set(root, tmp_path):
    overlay = tmp_path / "over.yaml"
    overlay.write_text("finetune: {lr: -2}\n")
    assert f"{overlay}: finetune.lr = -2" in refusal(root, overlay=overlay)
    assert "--config: finetune.lr = -1" in refusal(root, "finetune={lr: -1}", overlay=overlay)


def test_keys_that_do_not_fit_are_named_with_the_place_of_each(root, tmp_path):
    overlay = tmp_path / "over.yaml"
    overlay.write_text("pretrain: {num_frames: 2}\n")
    text = refusal(root, "finetune={num_frames: 3}", overlay=overlay)
    assert "finetune.num_frames is set in --config" in text
    assert f"pretrain.num_frames is set in {overlay}" in text
    overlay.write_text("runs: {avsiam_tiny: {pretrain: {num_frames: 2}}}\n")
    assert f"pretrain.num_frames is set in {overlay}" in refusal(root, overlay=overlay)


@pytest.mark.parametrize(
    ("assignment", "near"),
    [
        ("finetune={ephocs: 1}", "unknown key; did you mean 'epochs'?"),
        ("finetun={epochs: 1}", "unknown key; did you mean 'finetune'?"),
    ],
)
def test_misspelt_keys(root, assignment, near):
    assert near in refusal(root, assignment)


def test_misspelt_data_sets_and_runs(root):
    with pytest.raises(ConfigError, match="did you mean 'vggsound'"):
        Catalog(Config(datasets=("vgg_sound",)), root / "config/datasets")
    with pytest.raises(ConfigError, match="did you mean 'avsiam_tiny'"):
        Catalog(Config(), root / "config/datasets").run("avsiam_tny")


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        (["-n", "evel_vggsound"], "eval_vggsound"),
        (["--config", "a=1", "--", "reprot"], "report"),
        (["--cores", "2", "shard_vggsound"], "shards_vggsound"),
    ],
)
def test_misspelt_targets(arguments, near):
    known = ["all", "report", "eval_vggsound", "shards_vggsound", "slurm_x"]
    with pytest.raises(ConfigError, match=f"did you mean '{near}'"):
        refuse_unknown(arguments, known)


@pytest.mark.parametrize(
    ("word", "option"),
    [
        ("finetune.lr=0.1", "--config 'finetune={lr: 0.1}' -- <targets>"),
        ("runs.exp1.finetune.lr=.1", "--config 'runs={exp1: {finetune: {lr: 0.1}}}' -- <targets>"),
        ("pretrain.curriculum.end=.8", "--config 'pretrain={curriculum: {end: 0.8}}' -- <targets>"),
        ("finetune.init=a: b", None),
        ("finetune.lr=[1", None),
        ("finetune..lr=1", None),
        ("results.x=1", None),
        ("pretrain.datasets=[a,b]", "--config 'pretrain={datasets: [a, b]}' -- <targets>"),
        ("pretrain.note=a,b", "--config 'pretrain={note: '\"'\"'a,b'\"'\"'}' -- <targets>"),
    ],
)
def test_a_setting_for_a_target_is_written_as_one(word, option):
    if option is None:
        refuse_unknown(["-n", "all", word], ["all"])
        return
    with pytest.raises(ConfigError) as caught:
        refuse_unknown(["-n", "all", word], ["all"])
    assert str(caught.value) == f"{word}: a setting is given as {option}"
    given = shlex.split(option)[1]
    assert parse_assignments([given])[word.partition(".")[0]]


def test_what_a_run_scores_elsewhere_is_shown_at_its_end(root):
    """Its table looked at the listed data sets alone, and a run that went well ended with 1."""
    elsewhere = {"datasets": ("vggsound",)}
    config = Config(datasets=("avdigits",), runs={"one": {}}, finetune=elsewhere)
    catalog = Catalog(config, root / "config/datasets")
    shown = catalog.configured_evaluations()
    assert shown == ["results/one/eval/vggsound/metrics.json", *catalog.report_probes()]
    assert "results/one/probe/avdigits/metrics.json" in shown


def test_values_of_options_and_files_are_no_targets():
    known = ["all", "report", "eval_vggsound", "pack_shard"]
    fine = ["--profile", "reports", "--until", "pack_shards", "results/eval_vggsund", "all", "-n"]
    fine += ["--set-resources", "pack_shard:mem_mb=1", "results/finetune.lr=1", "nothing.lr=1"]
    refuse_unknown(fine, known)


def make_list(folder, rows):
    (folder / "classes.csv").write_text("index,id,display_name\n0,dog,Dog\n1,cat,Cat\n")
    (folder / "list.csv").write_text(HEADER + "\n".join(rows) + "\n")
    head = "name: toy\ntask: multiclass\nclip_list: list.csv\nclass_names: classes.csv\n"
    (folder / "toy.yaml").write_text(head)
    return load_dataset(folder / "toy.yaml")


def test_a_list_is_refused_with_its_first_ten_wrong_rows_and_their_number(tmp_path):
    rows = [f"c{n},{n}.mp4,,,{'dgo' if n % 2 else 'dog'},trian" for n in range(20)]
    dataset = make_list(tmp_path, [*rows, "good,g.mp4,,,dog,train", "c0,h.mp4,,,dgo,train"])
    with pytest.raises(ManifestError) as caught:
        list(read_clips(dataset, max_seconds=600))
    lines = str(caught.value).splitlines()
    assert lines[0] == "21 rows are wrong, the first 10:"
    assert len(lines) == 11
    assert (
        "list.csv:2: split 'trian' is not one of train, val, test; did you mean 'train'?"
        in lines[1]
    )


def test_one_wrong_row_is_one_sentence(tmp_path):
    with pytest.raises(ManifestError, match=r"list\.csv:2: label 'dgo' .*; did you mean 'Dog'\?$"):
        list(read_clips(make_list(tmp_path, ["a,a.mp4,,,dgo,train"]), max_seconds=600))
