"""The runs of an experiment that claims equal cost do cost the same, counted from the code."""

import csv

import pytest

from pipeline_src.config import default_config, read_config, resolve_run
from pipeline_src.methods import METHODS
from pipeline_src.train.cost import DATASETS, run_costs, total_flops

pytestmark = pytest.mark.slow

EFFICIENCY = "config/experiments/avdigits_efficiency.yaml"
EXPERIMENT = "config/experiments/avdigits_methods.yaml"
ALIGNMENT = "config/experiments/avdigits_sync.yaml"
TOLERANCE = 0.05
DECIDING = (
    "mavil", "cross", "noise_cross", "reconstruction", "quarter_no_noise", "quarter_noise",
    "quarter_curriculum_batch", "short",
)  # fmt: skip


SECTIONS = ("model", "pretrain", "finetune")
CROSS = {"model.overrides.video_decoder"}
DIFFUSION = {"model.method"}  # DiffMAViL's decoder is a cross one
CURRICULUM = {f"pretrain.curriculum.{key}" for key in ("shape", "start", "end")}
BATCH = {"pretrain.adaptive_batch"}
# All that an arm has otherwise than MAViL.
FACTORS = {
    "scratch": {"finetune.init"},
    "reconstruct_only": {"pretrain.contrast_weight", "pretrain.mavil.intra_weight"},
    "contrast_only": {"pretrain.reconstruct_weight"},
    "cross": CROSS,
    "noise_joint": DIFFUSION | CROSS,
    "noise_joint_rho0": DIFFUSION | CROSS | {"model.overrides.noise_exponent"},
    "noise_cross": DIFFUSION,
    "noise_cross_rho0": DIFFUSION | {"model.overrides.noise_exponent"},
    "noise_cross_start02": DIFFUSION | {"model.overrides.noise_init"},
    "curriculum": CURRICULUM,
    "lr": {"pretrain.lr"},
    "batch_same_lr": {"pretrain.batch_size"},
    "batch": {"pretrain.batch_size", "pretrain.lr"},
    "curriculum_batch": CURRICULUM | BATCH,
    "curriculum_batch_linear": CURRICULUM | BATCH | {"pretrain.adaptive_lr"},
    "cross_curriculum_batch": CROSS | CURRICULUM | BATCH,
    "reconstruction": DIFFUSION | CURRICULUM | BATCH,
    "quarter_no_noise": CROSS | {"pretrain.mavil.decode_fraction"},
    "quarter_curriculum_batch": CROSS | CURRICULUM | BATCH | {"pretrain.mavil.decode_fraction"},
    "quarter_noise": DIFFUSION | {"pretrain.mavil.decode_fraction"},
    "short": {"pretrain.epochs"},
    "multi_ratio": {"pretrain.mavil.mask_ratios"},
}


@pytest.fixture(scope="module")
def spent(root):
    """Operations of every run of the experiment by stage."""
    config = read_config([root / EXPERIMENT])
    costs = [cost for name in config.run_names for cost in run_costs(config, name, "avdigits")]
    num_clips = DATASETS["avdigits"].num_clips
    return {(cost.stage, cost.run): total_flops(cost, num_clips) for cost in costs}


@pytest.mark.exhaustive
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


def test_arms_differ_from_mavil_in_their_factor_and_seeds_are_paired(root):
    config = read_config([root / EFFICIENCY])
    runs = {name: resolve_run(config, name) for name in config.run_names}
    arms = {}
    for name, run in runs.items():
        arm, seed = name.rsplit("_seed", 1)
        assert run.finetune.seed == int(seed), name
        assert run.finetune.init == "scratch" or run.pretrain.seed == int(seed), name
        same = {"seed": 0}
        pretrain = run.pretrain.model_copy(update=same)
        finetune = run.finetune.model_copy(update=same)
        arms.setdefault(arm, []).append((run.model, pretrain, finetune))
    for arm, seeds in arms.items():
        assert len(seeds) == (5 if arm in DECIDING else 3), arm
        assert all(one == seeds[0] for one in seeds), arm
        assert seeds[0][2].model_copy(update={"init": "pretrain"}) == arms["mavil"][0][2], arm
    base = arms.pop("mavil")[0]
    assert {arm: differing_keys(seeds[0], base) for arm, seeds in arms.items()} == FACTORS


def differing_keys(ours, theirs):
    """Keys of model, pre-training and fine-tuning in which two runs differ."""
    found = set()
    for section, pair in zip(SECTIONS, zip(ours, theirs, strict=True), strict=True):
        values = [dict(leaves(one.model_dump(mode="json"), section)) for one in pair]
        found |= {key for key in values[0].keys() | values[1].keys()
                  if values[0].get(key) != values[1].get(key)}  # fmt: skip
    return found


def leaves(tree, prefix):
    for key, value in tree.items():
        name = f"{prefix}.{key}"
        if isinstance(value, dict) and value:
            yield from leaves(value, name)
        else:
            yield name, value


def test_the_grid_of_every_arm_is_the_same(root):
    overlay = root / EFFICIENCY.replace(".yaml", "_grid.yaml")
    grid, config = read_config([root / EFFICIENCY, overlay]), read_config([root / EFFICIENCY])
    assert grid.evaluate.split == "val"
    trained = {name.rsplit("_seed", 1)[0] for name in config.run_names} - {"scratch"}
    found: dict[str, set[tuple[float, float]]] = {}
    for name in grid.run_names:
        arm, _, _ = name.rpartition("_lr")
        ours = resolve_run(config, f"{arm}_seed0")
        tried = resolve_run(grid, name)
        # Of the rates relative to the arm's own, which is part of what some arms are.
        factor = round(tried.pretrain.lr / ours.pretrain.lr, 6)
        found.setdefault(arm, set()).add((factor, tried.pretrain.warmup_epochs))
        same = {key: getattr(ours.pretrain, key) for key in ("lr", "warmup_epochs", "seed")}
        assert tried.pretrain.model_copy(update=same) == ours.pretrain, name
        assert tried.model == ours.model, name
    assert found.keys() == trained
    (tried,) = {frozenset(settings) for settings in found.values()}
    assert len(tried) == 4


def test_the_demo_of_the_experiment_is_the_demo(root):
    run = resolve_run(read_config([root / EXPERIMENT]), "avsiam_tiny")
    assert run == resolve_run(default_config(), "avsiam_tiny")


def test_an_epoch_is_the_training_split(root):
    with (root / "config/datasets/avdigits.csv").open(newline="") as stream:
        num_clips = sum(row["split"] == "train" for row in csv.DictReader(stream))
    with (root / "config/datasets/avdigits_classes.csv").open(newline="") as stream:
        num_classes = len(list(csv.DictReader(stream)))
    assert DATASETS["avdigits"] == (num_clips, num_classes)
