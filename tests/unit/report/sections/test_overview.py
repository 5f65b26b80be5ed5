"""The top of the page: runs are chosen by validation, and all of them stand in a grid."""

import json

import numpy as np
import pytest

from pipeline_src.evaluate.records import EvalMetrics, ProbeMetrics, read_record
from pipeline_src.report.arms import ArmFigures, find_arms
from pipeline_src.report.load import Problems
from pipeline_src.report.sections.overview import make_overview
from tests.report_files import write_evaluation, write_probe, write_training


def write_run(root, run, *, lift=0.0, accuracy=0.5, seed=0):
    """Write a run with a test accuracy, and validation scores that are ``lift`` higher."""
    path = write_evaluation(root, run)
    record = json.loads(path.read_text())
    for modality in ("audio", "video", "audio_video"):
        record[modality]["accuracy"] = {"value": accuracy, "low": 0.0, "high": 1.0}
    path.write_text(json.dumps(record))
    write_training(root, run, lift=lift, seed=seed)
    return path


def overview_of(*paths):
    records = [(path, read_record(path, EvalMetrics, "rule")) for path in paths]
    problems = Problems()
    arms = find_arms(problems, records)
    return make_overview(problems, arms, ArmFigures(), [], [], "2026-01-02")


def test_the_run_that_is_best_on_test_is_not_chosen(tmp_path):
    top = overview_of(
        write_run(tmp_path, "lucky", lift=-0.2, accuracy=0.9),
        write_run(tmp_path, "steady", lift=-0.1, accuracy=0.6),
    )
    group = top.card_groups[0]
    assert group.choice.startswith(
        "steady, chosen from 2 runs on digits by its score on validation"
    )
    assert {card.value for card in group.cards} == {"60.0 %"}
    assert {card.note for card in group.cards} == {"steady, chosen on validation"}
    assert "steady reaches accuracy 60.0 %" in " ".join(top.summary)
    (grid,) = top.grids
    assert [row[0].text for row in grid.rows] == ["lucky", "steady"]
    assert [row[0].sub for row in grid.rows] == ["", "shown above"]
    assert [row[1].text for row in grid.rows] == ["80.0", "90.0"]
    assert [row[2].text for row in grid.rows] == ["90.0", "60.0"]


def test_an_only_run_has_no_grid_and_says_that_it_is_the_only_one(tmp_path):
    top = overview_of(write_run(tmp_path, "alone"))
    assert "alone, the only one on digits" in top.card_groups[0].choice
    assert top.grids == []
    assert dict(top.origin) == {
        "Made": "2026-01-02",
        "Commit": "0123456789 with local changes",
        "Data": "digits",
        "Runs": "1",
    }


def test_without_validation_the_first_is_shown_and_the_page_says_so(tmp_path):
    paths = write_run(tmp_path, "one", accuracy=0.3), write_run(tmp_path, "two", accuracy=0.9)
    for path in paths:
        (path.parents[2] / "finetune" / "digits" / "metrics.jsonl").unlink()
    group = overview_of(*paths).card_groups[0]
    assert group.choice.startswith(
        "one, the first of 2 runs on digits, none with validation scores"
    )


def test_seeds_are_shown_as_their_mean(tmp_path):
    paths = [
        write_run(tmp_path, f"base_seed{seed}", seed=seed, lift=-0.1 * seed, accuracy=accuracy)
        for seed, accuracy in enumerate((0.5, 0.7))
    ]
    top = overview_of(*paths)
    group = top.card_groups[0]
    assert group.choice.startswith("base, mean of 2 seeds, the only one on digits")
    assert group.cards[0].sub.endswith("100.0")  # of the scores, which are alike for both seeds
    assert top.grids == []


@pytest.mark.parametrize("value", [None, [0.5]])
def test_rows_of_validation_that_are_none_are_passed_over(tmp_path, value):
    path = write_run(tmp_path, "alone")
    log = path.parents[2] / "finetune" / "digits" / "metrics.jsonl"
    with log.open("a") as stream:
        stream.write(json.dumps({"step": 999, "val": value}) + "\n")
    assert np.isfinite(float(overview_of(path).card_groups[0].cards[0].value.split()[0]))


def test_the_card_of_a_pretraining_is_of_the_run_that_is_shown(tmp_path):
    paths = write_run(tmp_path, "one", lift=-0.2), write_run(tmp_path, "two", lift=-0.1)
    found = [write_probe(tmp_path, run) for run in ("one", "two", "three")]
    probes = [read_record(path, ProbeMetrics, "rule") for path in found]
    arms = find_arms(Problems(), [(p, read_record(p, EvalMetrics, "rule")) for p in paths])
    top = make_overview(Problems(), arms, ArmFigures(), probes, [], "")
    assert top.card_groups[0].cards[-1].note.endswith("; two")
