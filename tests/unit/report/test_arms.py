"""Runs that differ in their seeds alone are one arm, compared seed by seed."""

import json

import numpy as np
import pytest
import yaml

from pipeline_src.evaluate.records import EvalMetrics, read_record
from pipeline_src.report.arms import ArmFigures, find_arms, pair_seeds
from pipeline_src.report.load import Problems
from tests.report_files import write_evaluation


def write_arm_run(root, run, *, seed=0, shift=0.0, dataset="digits", **changes):
    """Write a run whose scores are random of its seed, the true class lifted by ``shift``."""
    path = write_evaluation(root, run, dataset=dataset, seed=3)
    file = path.with_name("predictions.npz")
    arrays = dict(np.load(file))
    noise = np.random.default_rng(seed).standard_normal(arrays["targets"].shape)
    scores = 1 / (1 + np.exp(-noise - (2 + shift) * arrays["targets"]))
    np.savez(file, **(arrays | {"audio": scores}))
    record = json.loads(path.read_text())
    hits = scores.argmax(axis=1) == arrays["targets"].argmax(axis=1)
    record["audio"]["accuracy"] = {"value": float(hits.mean()), "low": None, "high": None}
    path.write_text(json.dumps(record))
    sections = {
        "model": {"method": "mavil"},
        "pretrain": {"seed": seed, "epochs": 3},
        "finetune": {"seed": seed, "init": "pretrain"},
    }
    for name, section in changes.items():
        sections[name] |= section
    (root / run / "config.yaml").write_text(yaml.safe_dump(sections))
    return path


def records_of(paths):
    return [(path, read_record(path, EvalMetrics, "rule")) for path in paths]


def arms_of(*paths):
    found = find_arms(
        Problems(), [(path, read_record(path, EvalMetrics, "rule")) for path in paths]
    )
    return [arm for arms in found.values() for arm in arms]


def names_of(arms):
    return {arm.name: [run.evaluation.run for run in arm.runs] for arm in arms}


def test_seeds_are_grouped_and_named_by_what_they_share(tmp_path):
    paths = [write_arm_run(tmp_path, f"base_seed{seed}", seed=seed) for seed in (0, 1, 10)]
    paths += [
        write_arm_run(tmp_path, f"rho0-{seed}", seed=seed, model={"method": "diffmavil"})
        for seed in (0, 1)
    ]
    paths.append(write_arm_run(tmp_path, "longer", seed=0, pretrain={"epochs": 6}))
    assert names_of(arms_of(*paths)) == {
        "base": ["base_seed0", "base_seed1", "base_seed10"],
        "rho0": ["rho0-0", "rho0-1"],
        "longer": ["longer"],
    }


def test_the_same_seed_twice_is_no_second_seed(tmp_path):
    paths = [write_arm_run(tmp_path, name, seed=1) for name in ("first", "again")]
    assert names_of(arms_of(*paths)) == {"first": ["first"], "again": ["again"]}


def test_weights_of_another_run_are_known_by_its_recipe(tmp_path):
    bases = [write_arm_run(tmp_path, f"base{seed}", seed=seed) for seed in (0, 1)]
    heads = [
        write_arm_run(
            tmp_path, f"head{seed}", seed=seed, finetune={"checkpoint_run": f"base{seed}"}
        )
        for seed in (0, 1)
    ]
    arms = arms_of(*bases, *heads)
    assert names_of(arms) == {"base": ["base0", "base1"], "head": ["head0", "head1"]}


def test_a_run_without_its_configuration_stands_alone(tmp_path):
    paths = [write_arm_run(tmp_path, f"base{seed}", seed=seed) for seed in (0, 1, 2)]
    (tmp_path / "base1" / "config.yaml").unlink()
    problems = Problems()
    found = find_arms(problems, records_of(paths))
    assert names_of(found["digits"]) == {"base": ["base0", "base2"], "base1": ["base1"]}
    assert "base1/config.yaml is not there" in problems.messages[0]


def test_from_scratch_the_seeds_of_a_pretraining_that_is_not_used_make_no_second_run(tmp_path):
    for seed in (0, 1):
        write_arm_run(tmp_path, f"base{seed}", seed=seed)
        write_arm_run(tmp_path, f"later{seed}", seed=0, pretrain={"checkpoint_run": f"base{seed}"})
    scratch = {"init": "scratch", "seed": 0}
    paths = [
        write_arm_run(tmp_path, f"s{n}", pretrain={"checkpoint_run": f"base{n}"}, finetune=scratch)
        for n in (0, 1)
    ]
    assert names_of(arms_of(*paths)) == {"s0": ["s0"], "s1": ["s1"]}


def test_means_and_differences_over_seeds(tmp_path):
    paths = [write_arm_run(tmp_path, f"base{seed}", seed=seed) for seed in (0, 1, 2)]
    paths += [
        write_arm_run(tmp_path, f"better{seed}", seed=seed, shift=2.0, model={"method": "x"})
        for seed in (0, 1, 2)
    ]
    base, better = arms_of(*paths)
    problems, figures = Problems(), ArmFigures()
    mean = figures.headline(problems, better, "audio")
    values = [run.evaluation.headline("audio").value for run in better.runs]
    assert mean.value == pytest.approx(np.mean(values))
    assert mean.low < min(values)
    gain = figures.difference(problems, better, base, "audio")
    assert gain.is_gain
    assert gain.value == pytest.approx(mean.value - figures.headline(problems, base, "audio").value)
    assert problems.messages == []
    better.runs[1].path.with_name("predictions.npz").unlink()
    assert ArmFigures().headline(problems, better, "audio").low is None
    assert "better1/eval/digits/predictions.npz is not there" in problems.messages[0]


def test_predictions_of_other_clips_are_told(tmp_path):
    paths = [write_arm_run(tmp_path, f"base{seed}", seed=seed) for seed in (0, 1)]
    file = paths[1].with_name("predictions.npz")
    arrays = dict(np.load(file))
    np.savez(file, **(arrays | {"clip_ids": arrays["clip_ids"][::-1]}))
    problems = Problems()
    assert ArmFigures().headline(problems, arms_of(*paths)[0], "audio").low is None
    assert "is of other clips than that of base0 / digits" in problems.messages[0]


def test_pairs_share_the_seed_of_fine_tuning_else_both(tmp_path):
    ours = [write_arm_run(tmp_path, f"a{seed}", seed=seed) for seed in (0, 1, 2)]
    scratch = [
        write_arm_run(tmp_path, f"s{n}", finetune={"init": "scratch", "seed": n}) for n in (1, 2, 3)
    ]
    first, second = arms_of(*ours, *scratch)
    pairs = pair_seeds(first, second)
    assert [(a.evaluation.run, b.evaluation.run) for a, b in pairs] == [("a1", "s1"), ("a2", "s2")]
