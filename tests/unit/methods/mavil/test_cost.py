"""Closed form of MAViL's and DiffMAViL's cost: its parts, and batches of equal operations."""

import math

import pytest

from benchmarks.variants import Variant
from pipeline_src.config import plan_phases, pretrain_network
from pipeline_src.methods import make_network_config
from pipeline_src.methods.mavil.cost import PretrainStep, forward_macs, trained_flops


def test_the_parts_are_those_derived():
    macs = forward_macs(make_network_config("mavil_base", num_frames=8), PretrainStep())
    derived = {
        "patches": 1.03,
        "audio": 8.94,
        "video": 13.79,
        "further views": 22.73,
        "fusion": 3.89,
        "decoder_a": 15.17,
        "decoder_v": 25.48,
    }
    assert {name: round(value / 1e9, 2) for name, value in macs.items()} == derived


def batch_sizes(method="mavil", overrides=None, **recipe):
    """Clips per step of each epoch at equal operations, unrounded."""
    curriculum = {"shape": "linear", "start": 0.9, "end": 0.8}
    keys = {"curriculum": curriculum, "adaptive_batch": "flops", "batch_multiple": 1}
    variant = Variant(method, overrides or {})
    model, recipe = variant.sections(8, **{**keys, "batch_size": 1000, "epochs": 2, **recipe})
    network = pretrain_network(model, recipe, 128)
    planned = plan_phases(network, recipe)
    steps = [PretrainStep(one.ratios.audio, one.ratios.video) for one in planned]
    return [one.batch_size for one in planned], network, steps


@pytest.mark.parametrize(
    ("method", "overrides", "recipe", "changes"),
    [
        ("mavil", {}, {}, {}),
        ("diffmavil", {}, {}, {}),
        ("diffmavil", {}, {"mavil": {"decode_fraction": 0.25}}, {"decode_fraction": 0.25}),
        ("mavil", {}, {"mavil": {"intra_weight": 0}}, {"num_views": 1}),
        ("mavil", {}, {"mavil": {"second_view": "full"}}, {"num_decoded": 2}),
        ("mavil", {}, {"reconstruct_weight": 0}, {"num_decoded": 0}),
        ("mavil", {"predicts": "features"}, {}, {"has_teacher": True}),
    ],
)
def test_batches_of_equal_operations_count_what_is_run(method, overrides, recipe, changes):
    sizes, network, steps = batch_sizes(method, overrides, **recipe)
    first, last = (trained_flops(network, [step._replace(**changes)]) for step in steps)
    assert sizes == [math.floor(1000 * last / first), 1000]
    assert sizes[0] > 1000
