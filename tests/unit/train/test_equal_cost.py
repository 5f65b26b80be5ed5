"""The runs of an experiment that claims equal cost do cost the same, counted from the code."""

import csv

import pytest

from pipeline_src.config import default_config, read_config, resolve_run
from pipeline_src.config.variants import VARIANTS, closed_form
from pipeline_src.methods import METHODS
from pipeline_src.train.cost import DATASETS, run_costs, total_flops

pytestmark = pytest.mark.slow

EFFICIENCY = "config/experiments/avdigits_efficiency.yaml"
EXPERIMENT = "config/experiments/avdigits_methods.yaml"
ALIGNMENT = "config/experiments/avdigits_sync.yaml"
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


def test_segments_and_whole_clips_spend_the_same(root):
    config = read_config([root / ALIGNMENT])
    costs = [
        cost
        for name in config.run_names
        if name.endswith("_0")
        for cost in run_costs(config, name, "avdigits")
        if cost.stage == "pretrain"
    ]
    first, *others = (total_flops(cost, DATASETS["avdigits"].num_clips) for cost in costs)
    assert others == pytest.approx([first, first], rel=0.01)


def test_every_method_is_compared(root):
    config = read_config([root / EXPERIMENT])
    methods = [resolve_run(config, name).model.method for name in config.run_names]
    assert methods == list(METHODS)


def test_variants_are_compared_at_equal_samples_and_at_equal_operations(root):
    config = read_config([root / EFFICIENCY])
    runs = {name: resolve_run(config, name) for name in config.run_names}
    assert len([name for name in runs if not name.endswith("_flops")]) == len(VARIANTS)

    def spent(run):
        per_clip = closed_form(run.model, run.pretrain, config.audio.num_mel_bins)
        return per_clip * run.pretrain.epochs

    first = runs["mavil"]
    for name, run in runs.items():
        if name.endswith("_flops"):
            assert spent(run) == pytest.approx(spent(first), rel=0.02), name
            epochs = {"epochs": first.pretrain.epochs}
            equal_samples = runs[name.removesuffix("_flops")]
            assert run.model == equal_samples.model
            assert run.pretrain.model_copy(update=epochs) == equal_samples.pretrain
        else:
            assert run.pretrain.epochs == first.pretrain.epochs
        assert run.finetune == first.finetune


def test_the_demo_of_the_experiment_is_the_demo(root):
    run = resolve_run(read_config([root / EXPERIMENT]), "avsiam_tiny")
    assert run == resolve_run(default_config(), "avsiam_tiny")


def test_an_epoch_is_the_training_split(root):
    with (root / "config/datasets/avdigits.csv").open(newline="") as stream:
        num_clips = sum(row["split"] == "train" for row in csv.DictReader(stream))
    with (root / "config/datasets/avdigits_classes.csv").open(newline="") as stream:
        num_classes = len(list(csv.DictReader(stream)))
    assert DATASETS["avdigits"] == (num_clips, num_classes)
