"""Closed form of MAViL's and DiffMAViL's cost: the derived table, and what the network does."""

from pathlib import Path

import pytest

from pipeline_src.architectures import MAViLConfig, make_architecture
from pipeline_src.architectures.mavil_cost import (
    Step,
    forward_macs,
    linear_curriculum,
    main,
    trained_flops,
    variant_table,
)
from pipeline_src.config import ModelConfig, PretrainConfig
from pipeline_src.config.mavil import MAViLRecipe
from pipeline_src.models.masking import num_kept
from pipeline_src.runs.spec import TrainSpec
from pipeline_src.train.cost import training_cost

# Derived figures: percent saved against MAViL at 8 and at 16 frames.
SAVED = {
    "diffusion, joint decoders": (-0.6, -0.7),
    "cross video decoder": (10.7, 17.6),
    "cross-self video decoder": (1.4, 2.9),
    "curriculum .90 to .80, joint": (13.1, 12.5),
    "cross + curriculum": (23.9, 30.3),
    "same, video ratio only": (18.5, 27.2),
    "same, both modalities read": (23.0, 29.5),
    "same, cross in both decoders": (29.7, 33.6),
    "cross, half of the hidden": (18.9, 27.4),
    "cross, quarter of the hidden": (23.0, 32.4),
}


def base(method="mavil", num_frames=8, **overrides):
    config = make_architecture(f"{method}_base", num_frames=num_frames, **overrides)
    assert isinstance(config, MAViLConfig)
    return config


@pytest.mark.parametrize("place", [0, 1])
def test_the_variants_save_what_was_derived(place):
    rows = dict(variant_table((8, 16)[place]))
    whole = rows["MAViL, stage 1"]
    assert whole / 1e9 == pytest.approx((546.2, 956.6)[place], abs=0.05)
    saved = {name: 100 * (1 - flops / whole) for name, flops in rows.items()}
    for name, expected in SAVED.items():
        assert saved[name] == pytest.approx(expected[place], abs=0.06), name
    assert rows["MAViL, stage 2"] / 1e9 == pytest.approx((846, 1496)[place], abs=0.5)


def test_the_parts_are_those_derived():
    macs = forward_macs(base(), Step())
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


def test_other_curricula_and_one_view():
    whole = trained_flops(base(), [Step()])
    wide = trained_flops(base("diffmavil"), linear_curriculum(0.95, 0.8))
    assert 100 * (1 - wide / whole) == pytest.approx(30.4, abs=0.06)
    one_view = [step._replace(num_views=1) for step in linear_curriculum(0.9, 0.8)]
    single = trained_flops(base(num_frames=16), [Step(num_views=1)])
    falling = trained_flops(base("diffmavil", 16), one_view)
    assert single / 1e9 == pytest.approx(732, abs=0.5)
    assert 100 * (1 - falling / single) == pytest.approx(31.7, abs=0.06)


def measure(method, size, recipe, overrides, **inputs):
    spec = TrainSpec(
        stage="pretrain",
        run_dir=Path("run"),
        model=ModelConfig(method=method, size=size, overrides=overrides, **inputs),
        recipe=recipe,
    )
    return training_cost("run", spec, num_mel_bins=128, num_classes=0).flops


def not_done(config, step):
    """What the form counts and the network leaves out: pixels' gradient, visible predictions."""
    left_out = 2 * forward_macs(config, step)["patches"]
    for size, ratio, kind, values in (
        (config.num_audio_tokens, step.audio_ratio, config.audio_decoder, config.patch_dims[0]),
        (config.num_video_tokens, step.video_ratio, config.video_decoder, config.patch_dims[1]),
    ):
        per_token = values * config.decoder_embed_dim
        hidden = size - num_kept(size, ratio)
        left_out += 6 * (size - hidden) * per_token if kind == "joint" else 0
        seen = hidden if kind == "joint" else round(hidden * step.decode_fraction)
        left_out += 2 * seen * per_token if config.diffusion else 0
    return left_out


@pytest.mark.parametrize(
    ("method", "overrides", "recipe", "step"),
    [
        ("mavil", {}, {}, Step()),
        ("diffmavil", {}, {}, Step()),
        ("diffmavil", {}, {"decode_fraction": 0.5}, Step(decode_fraction=0.5)),
        ("diffmavil", {"video_decoder": "cross_self", "context": "both"}, {}, Step()),
        ("mavil", {"audio_decoder": "cross"}, {"intra_weight": 0.0}, Step(num_views=1)),
    ],
)
def test_the_network_costs_the_closed_form(method, overrides, recipe, step):
    overrides = {**overrides, "depth": 2, "decoder_depth": 1}
    measured = measure(
        method,
        "base",
        PretrainConfig(num_frames=8, reconstruct_ratio=0.8, mavil=MAViLRecipe(**recipe)),
        overrides,
    )
    config = base(method, **overrides)
    expected = trained_flops(config, [step]) - not_done(config, step)
    assert measured == pytest.approx(expected, rel=0.002)


def test_the_whole_base_network_costs_the_closed_form():
    recipe = PretrainConfig(num_frames=8, reconstruct_ratio=0.8)
    assert measure("mavil", "base", recipe, {}) == pytest.approx(546.2e9, rel=0.01)


def test_the_command_prints_the_table(capsys):
    main()
    printed = capsys.readouterr().out
    assert "MAViL, stage 1" in printed
    assert "30.3%" in printed
