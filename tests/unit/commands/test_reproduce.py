"""What a reproduction says about another result."""

import json
from types import SimpleNamespace

import pytest

from pipeline_src.commands.reproduce import (
    _found,
    compare_metrics,
    differing_versions,
    prepare_checkout,
    read_origin,
    recorded_threads,
    run_workflow,
    target_of,
)
from pipeline_src.errors import StageError
from pipeline_src.evaluate.records import parse_scored
from tests.report_files import minimal_scores

STORED = minimal_scores(
    checkpoint_sha256="1",
    audio={"accuracy": {"value": 0.5, "low": 0.4}, "later": {"value": 1}},
    retrieval={"audio_to_video": {"R@1": 0.5}, "video_to_audio": {}, "gallery_size": 4},
    seconds=3.0,
    git_commit="c",
    versions={"torch": "2.11.0", "gone": "1"},
    of_another_version={"a": [1, 2]},
)


def compare(then, now):
    return list(compare_metrics(parse_scored(then), parse_scored(now)))


def test_time_and_commit_are_no_difference():
    assert compare(STORED, {**STORED, "seconds": 9.0, "git_commit": "e"}) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"clip_ids_sha256": "3"}, "clip_ids_sha256: other clips are scored"),
        ({"checkpoint_sha256": "3"}, "checkpoint_sha256: the weights differ"),
        (
            {"audio": STORED["audio"] | {"accuracy": {"value": 0.6, "low": 0.4}}},
            "audio.accuracy.value: was 0.5, is 0.6",
        ),
        ({"audio": {}}, "audio.accuracy.low: was 0.4, is None"),
        ({"audio": STORED["audio"] | {"later": {"value": 2}}}, "audio.later.value: was 1, is 2"),
        ({"retrieval": STORED["retrieval"] | {"gallery_size": 5}}, "retrieval.gallery_size: was 4"),
        ({"of_another_version": {"a": [1]}}, "of_another_version.a: was [1, 2], is [1]"),
        ({"num_frames": 0}, "num_frames: was None, is 0"),
        ({"warnings": []}, "warnings: was None, is []"),
    ],
)
def test_what_differs_is_named(change, sentence):
    assert compare(STORED, {**STORED, **change})[0].startswith(sentence)


@pytest.mark.slow
def test_packages_of_another_version_are_named():
    names = {name for name, _, _ in differing_versions(STORED["versions"])}
    assert "gone" in names
    assert "torch" not in names


def test_the_target_is_the_file_itself():
    assert target_of(parse_scored(STORED)) == "results/a/eval/d/metrics.json"
    assert target_of(parse_scored({**STORED, "probes": {}})) == "results/a/probe/d/metrics.json"


COMMIT = "0123456789abcdef0123456789abcdef01234567"
COMPLETE = {**STORED, "git_commit": COMMIT, "config": {"datasets": ["digits"]}}


def read(tmp_path, value):
    path = tmp_path / "metrics.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return read_origin(path)


@pytest.mark.parametrize(
    "change",
    [
        *({"git_commit": v} for v in ("--batch-check=%(objectname)", "-f", "HEAD", "HEAD^{/.}")),
        *({"git_commit": v} for v in (f"{COMMIT}\n--force", f"{COMMIT}\n", COMMIT[:12], "main")),
        *({"git_commit": v} for v in (["a"], 5, {"a": 1}, True, "../../x", "x" * 100_000)),
        *({"run": v} for v in ("../../x", "--forceall", "a b", "a\n", ["a"], "a/b", 3)),
        *({"dataset": v} for v in ("../x", "-n", ["x"], {"x": 1})),
        *({"split": v} for v in ("../x", ["fold1"], 1)),
        *({"versions": v} for v in (["x"], "x", 3)),
        *({"config": v} for v in (["x"], "x", 3)),
        *({"task": v} for v in ("guess", 3)),
    ],
)
def test_foreign_figures_are_refused_in_one_sentence(tmp_path, change):
    assert read(tmp_path, COMPLETE).git_commit == COMMIT
    (key,) = change
    with pytest.raises(StageError, match=rf"metrics\.json: {key} is .*, not ") as error:
        read(tmp_path, COMPLETE | change)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000, "null", "5", "{", "1" * 5000])
def test_files_that_hold_no_figures_are_refused(tmp_path, text):
    with pytest.raises(StageError, match=r"metrics\.json: not a (readable )?metrics\.json"):
        read(tmp_path, text)


@pytest.mark.parametrize("key", ["git_commit", "config", "versions", "run", "num_clips"])
@pytest.mark.parametrize("is_null", [False, True])
def test_what_an_older_file_lacks_is_named(tmp_path, key, is_null):
    stored = {k: v for k, v in COMPLETE.items() if k != key} | ({key: None} if is_null else {})
    with pytest.raises(StageError, match=f": {key} missing; only newer files can be made again"):
        read(tmp_path, stored)


def test_a_mean_over_folds_is_not_made_again_as_one(tmp_path):
    with pytest.raises(StageError, match=r"a mean over folds; give the metrics\.json of each fold"):
        read(tmp_path, {**COMPLETE, "folds": ["fold1", "fold2"]})


def test_the_threads_of_a_training_are_those_it_is_made_again_with(tmp_path):
    """With others the weights differ in their last bits, and so does their hash."""
    metrics = tmp_path / "run/eval/digits/metrics.json"
    whole, fold = (
        SimpleNamespace(run="run", dataset="digits", split=split, config={"runs": {"run": {}}})
        for split in ("test", "fold2")
    )
    assert recorded_threads(metrics, whole) == {}
    trained = (("pretrain", 3), ("finetune/digits", 1), ("finetune/digits_fold2", 4))
    for folder, threads in trained:
        state = tmp_path / "run" / folder / "checkpoint/state.json"
        state.parent.mkdir(parents=True)
        state.write_text(json.dumps({"num_threads": threads}))
    assert recorded_threads(metrics, whole) == {"pretrain_model": 3, "finetune_model": 1}
    assert recorded_threads(metrics, fold) == {"pretrain_model": 3, "finetune_model": 4}
    named = {"runs": {"run": {"finetune": {"checkpoint_run": "first"}}, "first": {}}}
    whole.config, state = named, tmp_path / "first/pretrain/checkpoint/state.json"
    state.parent.mkdir(parents=True)
    state.write_text(json.dumps({"num_threads": 2}))
    assert recorded_threads(metrics, whole) == {"pretrain_model": 2, "finetune_model": 1}


@pytest.mark.slow
def test_a_training_is_made_again_with_its_threads_whatever_this_machine_has(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline_src.commands.reproduce.num_cores", lambda: 3)
    rule = 'rule {0}:\n output: "{0}"\n threads: 3\n shell: "echo {{threads}} > {{output}}"\n'
    names = ("pretrain_model", "finetune_model", "evaluate_pretrained", "pack_shard")
    rules = (rule.format(name) for name in names)
    (tmp_path / "Snakefile").write_text("".join(rules))
    (tmp_path / "profiles/default").mkdir(parents=True)
    (tmp_path / "profiles/default/config.yaml").write_text("cores: 3\n")
    run_workflow(tmp_path, "finetune_model", threads={"pretrain_model": 2, "finetune_model": 64})
    assert (tmp_path / "finetune_model").read_text() == "64\n"
    run_workflow(tmp_path, "pretrain_model", threads={"pretrain_model": 2, "finetune_model": 64})
    assert (tmp_path / "pretrain_model").read_text() == "2\n"
    (tmp_path / "finetune_model").unlink()
    run_workflow(tmp_path, "finetune_model", threads={})
    assert (tmp_path / "finetune_model").read_text() == "3\n"
    (tmp_path / "pretrain_model").unlink()
    run_workflow(tmp_path, "pretrain_model", threads={"finetune_model": 2})  # another run's
    assert (tmp_path / "pretrain_model").read_text() == "2\n"
    run_workflow(tmp_path, "evaluate_pretrained", threads={"finetune_model": 2})
    assert (tmp_path / "evaluate_pretrained").read_text() == "2\n"
    run_workflow(tmp_path, "pack_shard", threads={"finetune_model": 2})  # no figure hangs on its
    assert (tmp_path / "pack_shard").read_text() == "3\n"


def test_a_data_set_of_the_current_folder_is_found_there(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").touch()
    monkeypatch.chdir(tmp_path)
    assert _found("mine.yaml") == str(tmp_path / "mine.yaml")
    assert _found("avdigits") == "avdigits"
    assert _found("gone.yaml") == "gone.yaml"


def test_figures_of_unknown_code_are_not_made_again(tmp_path):
    with pytest.raises(StageError, match="the code that made them is missing"):
        prepare_checkout(tmp_path, "unknown", {})
