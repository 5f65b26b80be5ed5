"""What a reproduction says about another result."""

import pytest

from pipeline_src.reproduce import compare_metrics, differing_versions, target_of

STORED = {
    "run": "a",
    "dataset": "d",
    "checkpoint_sha256": "1",
    "clip_ids_sha256": "2",
    "audio": {"accuracy": {"value": 0.5, "low": 0.4}},
    "seconds": 3.0,
    "git_commit": "c",
    "versions": {"torch": "2.11.0", "gone": "1"},
}


def test_time_and_commit_are_no_difference():
    assert list(compare_metrics(STORED, {**STORED, "seconds": 9.0, "git_commit": "e"})) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"clip_ids_sha256": "3"}, "clip_ids_sha256: other clips are scored"),
        ({"checkpoint_sha256": "3"}, "checkpoint_sha256: the weights differ"),
        (
            {"audio": {"accuracy": {"value": 0.6, "low": 0.4}}},
            "audio.accuracy.value: was 0.5, is 0.6",
        ),
        ({"audio": {}}, "audio.accuracy.low: was 0.4, is None"),
    ],
)
def test_what_differs_is_named(change, sentence):
    found = list(compare_metrics(STORED, {**STORED, **change}))
    assert found[0].startswith(sentence)


def test_packages_of_another_version_are_named():
    names = {name for name, _, _ in differing_versions(STORED)}
    assert "gone" in names
    assert "torch" not in names


def test_the_target_is_the_file_itself():
    assert target_of(STORED) == "results/a/eval/d/metrics.json"
    assert target_of({**STORED, "probes": {}}) == "results/a/probe/d/metrics.json"
