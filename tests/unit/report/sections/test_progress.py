"""Curves of runs over each other, and over what they cost."""

import json

import pytest

from pipeline_src.evaluate.records import EvalMetrics, read_record
from pipeline_src.report.arms import find_arms
from pipeline_src.report.load import Problems
from pipeline_src.report.sections.progress import chart_parts, overlay_blocks, progress_blocks
from tests.report_files import write_evaluation, write_lines, write_training


def arms_of(root, seeds_of):
    paths = []
    for name, seeds in seeds_of.items():
        for seed in seeds:
            run = f"{name}_seed{seed}"
            paths.append(write_evaluation(root, run))
            write_training(root, run, seed=seed, lift=-0.1 * seed)
            config = root / run / "config.yaml"
            config.write_text(f"model:\n  size: {name}\n" + config.read_text().split("\n", 2)[2])
    return find_arms(Problems(), [(p, read_record(p, EvalMetrics, "rule")) for p in paths])


@pytest.mark.slow
def test_each_quantity_of_all_runs_is_in_one_chart(tmp_path):
    arms = arms_of(tmp_path, {"one": (0, 1), "two": (0,)})
    pretraining, finetuning = overlay_blocks(arms)
    assert pretraining.title == "Pre-training, runs on digits"
    titles = [chart.title for chart in pretraining.blocks[0].charts]
    assert "Contrastive loss" in titles
    assert "Reconstruction loss, video" in titles
    names = [one["name"] for one in pretraining.blocks[0].charts[0].hover.values()["series"]]
    assert names == ["one", "two_seed0"]
    scores = [one for one in finetuning.blocks[0].charts if "Validation" in one.title]
    assert len(scores) == 3
    assert len(scores[0].hover.values()["series"][0]["points"]) == 6


def test_one_run_is_not_laid_over_itself(tmp_path):
    assert overlay_blocks(arms_of(tmp_path, {"one": (0,)})) == []


@pytest.mark.slow
def test_scores_are_drawn_over_operations_and_over_time(tmp_path):
    arms = arms_of(tmp_path, {"one": (0, 1), "two": (0,)})["digits"]
    problems = Problems()
    spent = {"one": (1e12, 3e12), "two_seed0": (None, 3e12)}
    charts, timed = progress_blocks(problems, arms, spent)
    (series,) = charts.charts[0].hover.values()["series"]
    assert series["points"][-1][0] == 4
    assert series["points"][0][0] == 1.5
    assert timed.title == "The same over time"
    first = timed.blocks[0].charts[0].hover.values()
    assert first["x_label"] == "minutes of fine-tuning"
    assert first["series"][0]["points"][-1][0] == 2.5
    assert problems.messages == []


@pytest.mark.slow
def test_each_of_many_rows_is_drawn_and_the_first_in_every_chart(tmp_path):
    names = [f"arm{letter}" for letter in "abcdefghijkl"]
    arms = arms_of(tmp_path, dict.fromkeys(names, (0,)))["digits"]
    for path in tmp_path.glob("*/pretrain/metrics.jsonl"):  # each quantity is drawn in two charts
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        kept = ("step", "epoch", "samples_seen", "seconds", "contrast_loss")
        write_lines(path, [{key: row[key] for key in kept} for row in rows])
    problems = Problems()
    spent = {arm.name: (2e12 + number * 1e12, 3e12) for number, arm in enumerate(arms)}
    charts, timed = progress_blocks(problems, arms, spent)
    assert [chart.title for chart in charts.charts[::3]] == [
        f"Validation score, per cent, audio, part {part} of 2" for part in (1, 2)
    ]
    drawn = [chart.hover.values()["series"] for chart in charts.charts[::3]]
    shown = [[series["name"] for series in one] for one in drawn]
    runs = [f"{name}_seed0" for name in names]
    assert [one[0] for one in shown] == runs[:1] * 2
    assert [*shown[0], *shown[1][1:]] == runs
    assert [len({series["colour"] for series in one}) for one in drawn] == [len(s) for s in shown]
    # Fine-tuning ends where all that was spent ends: pre-training and itself.
    last = {series["name"]: series["points"][-1][0] for one in drawn for series in one}
    assert [last[name] for name in runs] == [5 + number for number in range(12)]
    assert len(timed.blocks[0].charts) == 6
    assert problems.messages == []
    (fold,) = overlay_blocks({"digits": arms})[:1]
    losses = [
        chart for chart in fold.blocks[0].charts if chart.title.startswith("Contrastive loss")
    ]
    assert [len(chart.hover.values()["series"]) for chart in losses] == [7, 6]


def test_as_many_rows_as_colours_are_one_chart():
    names = list("abcdefghij")
    assert chart_parts(names) == [("", names)]
    assert [len(part) for _, part in chart_parts([*names, "k"])] == [6, 6]
    assert chart_parts([]) == [("", [])]
