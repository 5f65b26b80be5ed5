"""What is kept of an experiment's runs: read back, not added twice, compared with the first arm."""

import json
import re

import numpy as np
import pytest

from benchmarks import kept_curves, kept_runs
from tests.report_files import write_evaluation, write_json, write_probe, write_training

CONFIG = "runs:\n  avsiam_tiny: null\n  mavil_seed0: {}\n  mavil_seed1: {}\n  other_seed0: {}\n"


@pytest.fixture
def results(tmp_path):
    """A finished run with the files that the workflow leaves."""
    root, run, dataset = tmp_path / "results", "mavil_seed0", kept_runs.DATASET
    path = write_evaluation(root, run, dataset=dataset)
    metrics = json.loads(path.read_text()) | {"precision": {"training": "float32"}}
    metrics["config"] = {"evaluate": {"probe": True}}
    write_json(path, metrics)
    ranks = np.arange(metrics["num_clips"])
    np.savez(path.with_name("retrieval.npz"), audio_to_video=ranks, video_to_audio=ranks[::-1])
    write_probe(root, run, dataset=dataset)
    write_training(root, run, dataset=dataset)
    for stage in kept_runs.STAGES.values():
        spec = {"model": {"method": "mavil"}, "recipe": {"batch_size": 50, "seed": 0}}
        write_json(root / run / stage / "spec.json", spec)
    table = "step,epoch,audio,video,audio_video\n6,2.0,0.25,0.5,0.75\n"
    (root / run / "finetune" / dataset / "validation.csv").write_text(table)
    cost = {"flops": 2e12, "parameters": 5}
    for stage in kept_runs.STAGES.values():
        done = {"step": 300, "seconds": 9.0, "cost": cost}
        write_json(root / run / stage / "done.json", done)
    return root


@pytest.mark.slow
def test_a_finished_run_is_kept_once_and_is_no_longer_missing(results, tmp_path):
    kept, config = tmp_path / "kept.jsonl", tmp_path / "experiment.yaml"
    config.write_text(CONFIG)
    assert kept_runs.add(results, kept) == ["mavil_seed0"]
    assert kept_runs.add(results, kept) == []
    (record,) = kept_runs.read_kept(kept)
    hits = kept_runs.unpack(record["hits"]["audio"], record["num_clips"])
    metrics = json.loads(
        (results / f"mavil_seed0/eval/{kept_runs.DATASET}/metrics.json").read_text()
    )
    assert hits.mean() == pytest.approx(metrics["audio"]["accuracy"]["value"])
    assert kept_runs.unpack(record["found_in_10"]["audio_to_video"], 40).sum() == 10
    assert record["cost"]["pretrain"] == {"flops": 2e12, "steps": 300, "seconds": 9.0}
    assert record["validation"] == [[6, 0.25, 0.5, 0.75]]
    targets = kept_runs.missing(config, kept)
    assert [target.split("/")[1] for target in targets[::2]] == ["other_seed0", "mavil_seed1"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "names"),
    [("pretrain", "other settings than .*: mavil"), ("finetune", "another readout than .*")],
)
def test_a_seed_of_other_settings_is_refused_and_another_seed_is_not(
    results, tmp_path, stage, names
):
    kept = tmp_path / "kept.jsonl"
    kept_runs.add(results, kept)
    (results / "mavil_seed0").rename(results / "mavil_seed1")
    path = results / "mavil_seed1" / kept_runs.STAGES[stage] / "spec.json"
    spec = json.loads(path.read_text())
    write_json(path, {**spec, "recipe": {**spec["recipe"], "lr": 2e-3}})
    with pytest.raises(ValueError, match=names):
        kept_runs.add(results, kept)
    write_json(path, {**spec, "recipe": {**spec["recipe"], "seed": 1}})
    assert kept_runs.add(results, kept) == ["mavil_seed1"]


@pytest.mark.slow
def test_a_run_without_its_probe_is_not_finished_and_other_clips_are_refused(results, tmp_path):
    kept = tmp_path / "kept.jsonl"
    probe = results / f"mavil_seed0/probe/{kept_runs.DATASET}/metrics.json"
    probe.rename(tmp_path / "aside.json")
    assert kept_runs.add(results, kept) == []
    (tmp_path / "aside.json").rename(probe)
    kept_runs.add(results, kept)
    record = json.loads(kept.read_text())
    others = {**record, "run": "other_seed0", "clip_ids_sha256": "of others"}
    kept.write_text(json.dumps(others) + "\n")
    with pytest.raises(ValueError, match="other clips"):
        kept_runs.add(results, kept)


def test_arms_that_decide_are_those_with_most_seeds(root, tmp_path):
    assert kept_runs.count_comparisons(root / "config/experiments/avdigits_efficiency.yaml") == 7
    config = tmp_path / "experiment.yaml"
    config.write_text(CONFIG + "  scratch_seed0: {finetune: {init: scratch}}\n")
    assert kept_runs.count_comparisons(config) == 0
    assert "results/scratch_seed0/probe" not in " ".join(kept_runs.missing(config, tmp_path / "no"))


def test_without_the_first_arm_there_is_nothing_to_compare_with():
    with pytest.raises(ValueError, match="no run of mavil is kept"):
        kept_runs.group([made_up("other_seed0", 100, 10.0)])


def made_up(run, num_hits, flops):
    hits = kept_runs.pack(np.arange(200) < num_hits)
    return {
        "run": run, "num_clips": 200, "hits": {kept_runs.MODALITY: hits},
        "found_in_10": dict.fromkeys(kept_runs.DIRECTIONS, hits),
        "linear_probe": {"audio": num_hits / 400}, "hidden_error": {"audio": 0.3, "video": 0.4},
        "over_chance": 5.0, "cost": {"pretrain": {"flops": flops}},
    }  # fmt: skip


def test_arms_are_compared_with_the_first_seed_by_seed():
    first = [made_up(f"mavil_seed{n}", 100 + 4 * n, 10.0) for n in range(3)]
    other = [made_up(f"other_seed{n}", 120 + 4 * n, 7.0) for n in range(3)]
    third = [made_up("third_seed0", 50, 10.0)]
    base, single, arm = kept_runs.rows(kept_runs.group([*third, *first, *other]), 2)
    assert base[4:6] == single[4:6] == ["", ""]
    assert arm[:3] == ["other", "3", "30%"]
    value, low, high = map(float, re.findall(r"[+-][\d.]+", arm[4]))
    assert value == pytest.approx(0.1)
    assert 0 < low < value < high
    _, lower, higher = map(float, re.findall(r"[+-][\d.]+", arm[5]))  # for two arms at once
    assert lower < low
    assert higher > high


def test_probes_retrieval_and_errors_are_compared_seed_by_seed(tmp_path, capsys):
    first = [made_up(f"mavil_seed{n}", 100 + 4 * n, 10.0) for n in range(3)]
    other = [made_up(f"other_seed{n}", 120 + 4 * n + n % 2, 7.0) for n in range(3)]
    kept = tmp_path / "kept.jsonl"
    kept.write_text("".join(json.dumps(record) + "\n" for record in first + other))
    config = tmp_path / "experiment.yaml"
    config.write_text(CONFIG)
    kept_runs.print_table(config, kept)
    *_, head, _, base, arm = capsys.readouterr().out.splitlines()
    names = [cell.strip() for cell in head.split("|")[1:-1]]
    cells = dict(zip(names[1::2], zip(*[iter(arm.split("|")[2:-1])] * 2, strict=True), strict=True))
    for name in ("R@10, audio to video", "linear probe, audio"):
        value, low, high = map(float, re.findall(r"[+-][\d.]+", cells[name][1]))
        assert 0 < low < value < high
    probe, found = (cells[name][1] for name in ("linear probe, audio", "R@10, audio to video"))
    assert probe != found  # clips count where they are known
    assert "+0.000 (+0.000 to +0.000)" in cells["hidden error, audio"][1]
    assert not "".join(cells["linear probe, video"]).strip(), "what no run has"
    assert "+" not in base


@pytest.mark.slow
def test_differences_and_curves_are_drawn_of_every_arm(tmp_path):
    cost = {"flops": 4e12, "steps": 100}
    validation = [[50, 0.2], [100, 0.4]]
    records = [
        made_up(f"{arm}_seed{seed}", 100 + seed, 1e13)
        | {"cost": {"pretrain": {"flops": 1e13, "steps": 800}, "finetune": cost}}
        | {"validation": validation}
        for arm in ("mavil", *(f"arm{n}" for n in range(11)))
        for seed in range(2)
    ]
    kept_curves.draw(records, tmp_path / "curves.svg")
    drawn = (tmp_path / "curves.svg").read_text()
    assert all(f">arm{n}<" in drawn for n in range(11))
    assert kept_curves.spent(records[0], "flops") == pytest.approx([1.2e13, 1.4e13])
