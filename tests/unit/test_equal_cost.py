"""The runs of an experiment that claims equal cost do cost the same, counted from the code."""

import csv

import pytest

from pipeline_src.config import Config, read_config, resolve_run
from pipeline_src.train.cost import DATASETS, run_costs, total_flops

EXPERIMENT = "config/experiments/avdigits_methods.yaml"
TOLERANCE = 0.05


@pytest.fixture(scope="module")
def spent(root):
    """Operations of every run of the experiment by stage."""
    config = read_config([root / EXPERIMENT])
    costs = [cost for name in config.run_names for cost in run_costs(config, name, "avdigits")]
    num_clips = DATASETS["avdigits"].num_clips
    return {(cost.stage, cost.run): total_flops(cost, num_clips) for cost in costs}


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_every_run_spends_what_the_demo_does(spent, stage):
    found = {run: flops for (of, run), flops in spent.items() if of == stage}
    assert len(found) > 1
    for run, flops in found.items():
        assert flops == pytest.approx(found["avsiam_tiny"], rel=TOLERANCE), run


def test_the_demo_of_the_experiment_is_the_demo(root):
    run = resolve_run(read_config([root / EXPERIMENT]), "avsiam_tiny")
    assert run == resolve_run(Config(), "avsiam_tiny")


def test_an_epoch_is_the_training_split(root):
    with (root / "config/datasets/avdigits.csv").open(newline="") as stream:
        num_clips = sum(row["split"] == "train" for row in csv.DictReader(stream))
    with (root / "config/datasets/avdigits_classes.csv").open(newline="") as stream:
        num_classes = len(list(csv.DictReader(stream)))
    assert DATASETS["avdigits"] == (num_clips, num_classes)
