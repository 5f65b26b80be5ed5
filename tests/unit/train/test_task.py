"""What differs between pre-training and fine-tuning: steps, outputs, scores, rates, negatives."""

from types import SimpleNamespace

import pytest
import torch

from pipeline_src.config import CurriculumConfig, FinetuneConfig, ModelConfig, PretrainConfig
from pipeline_src.config.phases import Phase, make_schedule
from pipeline_src.methods import MaskRatios
from pipeline_src.methods.factory import create_model
from pipeline_src.train.distributed import Ranks
from pipeline_src.train.task import Finetuning, Pretraining, make_task
from tests import networks

CPU = torch.device("cpu")
SHARDS = SimpleNamespace(class_names=["a", "b"], samples=[SimpleNamespace(labels=(0,))])


def finetuning(**recipe):
    return make_task(ModelConfig(), FinetuneConfig(**recipe))


def pretraining(**recipe):
    return make_task(ModelConfig(), PretrainConfig(**recipe))


def test_a_recipe_has_its_task():
    assert isinstance(pretraining(), Pretraining)
    assert isinstance(finetuning(), Finetuning)


def test_only_fine_tuning_has_classes_heads_and_scores():
    assert pretraining().class_names(SHARDS) == ()
    assert finetuning().class_names(SHARDS) == ("a", "b")
    both = ("audio", "video")
    assert PretrainConfig().scored_heads(both, both) == ()
    assert FinetuneConfig().scored_heads(both, both) == both


def test_a_pre_training_has_the_phases_of_its_curriculum():
    curriculum = CurriculumConfig(shape="linear", start=0.75, end=0.5)
    task = pretraining(epochs=2, batch_size=8, curriculum=curriculum)
    schedule = task.schedule(16, num_mel_bins=128)
    assert [phase.ratios.audio for phase in schedule.phases] == [0.75, 0.5]
    assert task.validation_interval(schedule) == schedule.num_steps == 4


def test_a_fine_tuning_has_equal_batches_and_is_scored_within_them():
    task = finetuning(epochs=2, batch_size=4, validate_every_epochs=0.5)
    schedule = task.schedule(16, num_mel_bins=128)
    assert schedule.phases == (Phase(4),)
    assert task.validation_interval(schedule) == 2


def test_only_fine_tuning_has_rates_by_layer():
    model = create_model("cav_mae_tiny", **networks.SMALL, num_classes=2)
    name = next(name for name, _ in model.named_parameters() if model.layer_id(name) == "head")
    assert pretraining().lr_factor(model, name) == 1
    assert finetuning(head_lr_factor=7).lr_factor(model, name) == 7


def test_only_a_balanced_fine_tuning_weighs_clips():
    assert pretraining().clip_weights(SHARDS) is None
    assert finetuning().clip_weights(SHARDS) is None
    weights = finetuning(balanced_sampling=True).clip_weights(SHARDS)
    assert weights.values == pytest.approx([1000 / 1.01])


def negatives_of(recipe, step, ranks):
    ratios = [MaskRatios(0.9, 0.9), MaskRatios(0.8, 0.8)]
    phases = [Phase(16, ratios[0]), Phase(8, ratios[1])]
    schedule = make_schedule(64, epochs=2, batch_size=8, phases=phases)
    return Pretraining(ModelConfig(), recipe).negatives(schedule, step, ranks)


def test_ranks_draw_the_same_negatives_anew_at_each_step():
    recipe = PretrainConfig(batch_size=8)
    first, second = (negatives_of(recipe, 0, Ranks(rank, 2, CPU)) for rank in (0, 1))
    assert first.shape == (16, 16)  # of both ranks together
    assert torch.equal(first, second)
    later = negatives_of(recipe, 1, Ranks(0, 2, CPU))
    assert not torch.equal(first, later)
    assert negatives_of(recipe, 4, Ranks(0, 2, CPU)) is None


def test_within_a_rank_negatives_are_those_of_its_share():
    local = negatives_of(PretrainConfig(batch_size=8, contrast_scope="local"), 0, Ranks(1, 2, CPU))
    assert local.shape == (8, 8)
    assert (local.sum(1) == 4).all()
    everyone = negatives_of(PretrainConfig(batch_size=8, negatives="all"), 0, Ranks(0, 2, CPU))
    assert everyone is None
