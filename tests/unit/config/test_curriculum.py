"""Mask ratios and batch sizes of every epoch: shapes, the batch rule, and what is refused."""

from fractions import Fraction

import pytest
import yaml

from pipeline_src.config import PretrainConfig, default_config, load_config, plan_phases
from pipeline_src.config.curriculum import CurriculumConfig
from pipeline_src.config.load import merge
from pipeline_src.config.phase_plan import adapted_batch_size
from pipeline_src.errors import ConfigError
from pipeline_src.methods import MaskRatios, NetworkConfig, make_network_config

NUM_EPOCHS = 20
AUDIO_TOKENS, VIDEO_TOKENS = 512, 784  # 1024 x 128 log-mel, 4 pairs of 8 frames
LINEAR = {"shape": "linear", "start": 0.9, "end": 0.8}
# DiffMAViL as reconstructed, 8 frames, B_ref 64, by epoch: visible tokens and operations.
BY_TOKENS = {0: 128, 4: 104, 8: 88, 12: 72, 16: 64}
BY_FLOPS = {0: 88, 4: 80, 8: 72, 12: 64, 16: 64}


def values(shape, count, start=0.9, end=0.8, **keys):
    curriculum = CurriculumConfig(shape=shape, **keys)
    return [curriculum.ratio(start, end, phase, count) for phase in range(count)]


def network(method="cav_mae", **sizes):
    return make_network_config(f"{method}_base", num_frames=4, **sizes)


def phases(method="cav_mae", *, epochs=NUM_EPOCHS, batch_size=64, **recipe):
    return plan_phases(
        network(method), PretrainConfig(epochs=epochs, batch_size=batch_size, **recipe)
    )


def test_a_linear_ratio_is_that_of_its_epoch():
    ratios = values("linear", NUM_EPOCHS)
    assert [ratios[0], ratios[-1]] == [0.9, 0.8]  # exact: a token may hang on it
    assert [round(ratios[e], 3) for e in BY_TOKENS] == [0.9, 0.879, 0.858, 0.837, 0.816]
    assert values("linear", 3) == [0.9, 0.85, 0.8]
    assert values("linear", 5, 0.5, 0.75)[-1] == 0.75


@pytest.mark.parametrize(
    ("shape", "first", "middle", "last"),
    [
        ("linear", 0.9, 0.85, 0.8),
        ("cosine", 0.9, 0.85, 0.8),
        ("step", 0.9, 0.8, 0.8),
        ("constant", 0.9, 0.9, 0.9),
    ],
)
def test_shapes_at_the_start_in_the_middle_and_at_the_end(shape, first, middle, last):
    ratios = values(shape, 21)
    assert ratios[0] == first
    assert ratios[10] == pytest.approx(middle) or (shape, ratios[10]) == ("step", 0.9)
    assert ratios[20] == last
    assert ratios == sorted(ratios, reverse=True)
    assert values(shape, 1) == [0.9]


def test_a_cosine_is_flat_at_both_ends_and_a_step_is_where_it_is_set():
    cosine, linear = values("cosine", 21), values("linear", 21)
    assert cosine[1] > linear[1]
    assert cosine[19] < linear[19]
    assert values("step", 20) == [0.9] * 10 + [0.8] * 10
    assert values("step", 20, step_at=0.25) == [0.9] * 5 + [0.8] * 15


def test_a_ratio_may_rise():
    assert values("linear", 3, 0.8, 0.9) == [0.8, 0.85, 0.9]


def test_segments_are_spans_of_the_epochs():
    assert CurriculumConfig(shape="linear").num_phases(2.5) == 3
    assert CurriculumConfig(shape="linear", every_epochs=0.1).num_phases(1.1) == 11
    assert CurriculumConfig().num_phases(20) == 1


def test_the_modality_that_is_not_scheduled_stays():
    both, audio, video = (
        phases(curriculum={**LINEAR, "modalities": name}, reconstruct_ratio=0.75)[0].ratios
        for name in ("both", "audio", "video")
    )
    assert both == MaskRatios(0.9, 0.9)
    assert audio == MaskRatios(0.9, 0.75)
    assert video == MaskRatios(0.75, 0.9)


def test_contrast_ratios_go_to_their_ends_where_some_are_given():
    keys = {"contrast_ratios": (0.0, 0.4), "curriculum": {**LINEAR, "contrast_ratios_end": [0, 0]}}
    planned = phases("avsiam", epochs=3, **keys)
    assert [one.ratios.listed for one in planned] == [(0.0, 0.4), (0.0, 0.2), (0.0, 0.0)]
    keys["curriculum"] = LINEAR
    planned = phases("avsiam", epochs=3, **keys)
    assert {one.ratios.listed for one in planned} == {(0.0, 0.4)}
    assert {one.ratios.listed for one in phases()} == {()}


def test_without_a_curriculum_there_is_one_segment():
    assert phases() == ((64, MaskRatios(0.75, 0.75)),)


def visible(ratio):
    return int(AUDIO_TOKENS * (1 - ratio)) + int(VIDEO_TOKENS * (1 - ratio))


def reconstructed_macs(ratio):
    """DiffMAViL as reconstructed: two views, cross-attention in the video decoder, diffusion."""

    def self_attention(n, d):
        return 12 * n * d**2 + 2 * n**2 * d

    def cross_attention(q, k, d):
        return 2 * q * d**2 + 2 * k * d**2 + 2 * q * k * d + 8 * q * d**2

    audio, video = int(AUDIO_TOKENS * (1 - ratio)), int(VIDEO_TOKENS * (1 - ratio))
    hidden = VIDEO_TOKENS - video
    encoders = 12 * (self_attention(audio + 1, 768) + self_attention(video + 1, 768))
    return (
        AUDIO_TOKENS * 256 * 768 + VIDEO_TOKENS * 1536 * 768
        + 2 * encoders + 2 * self_attention(audio + video + 2, 768)
        + 8 * self_attention(AUDIO_TOKENS + 1, 512) + (audio + 1) * 768 * 512
        + AUDIO_TOKENS * 512 * 256
        + 8 * cross_attention(hidden, video + 1, 512) + (video + 1) * 768 * 512
        + hidden * 512 * 1536
        + (AUDIO_TOKENS - audio) * 256 * 512 + hidden * 1536 * 512 + 4 * 512**2
    )  # fmt: skip


@pytest.mark.parametrize(
    ("cost", "expected", "saved"),
    [(visible, BY_TOKENS, 0.215), (reconstructed_macs, BY_FLOPS, 0.105)],
)
def test_the_batch_rule_gives_the_sizes_of_the_reconstruction(cost, expected, saved):
    ratios = values("linear", NUM_EPOCHS)
    sizes = [adapted_batch_size(64, Fraction(cost(0.8), cost(ratio)), unit=8) for ratio in ratios]
    assert {epoch: sizes[epoch] for epoch in expected} == expected
    steps_saved = 1 - sum(64 / size for size in sizes) / NUM_EPOCHS
    assert steps_saved == pytest.approx(saved, abs=5e-4)


def test_the_batch_rule_never_goes_below_its_unit():
    assert adapted_batch_size(6, 1, unit=8) == 8
    assert adapted_batch_size(64, 1.99, unit=64) == 64


def test_a_network_with_these_tokens_gets_these_batches():
    planned = phases(curriculum=LINEAR, adaptive_batch="tokens")
    assert {epoch: planned[epoch].batch_size for epoch in BY_TOKENS} == BY_TOKENS
    rising = {**LINEAR, "start": 0.8, "end": 0.9}
    turned = phases(curriculum=rising, adaptive_batch="tokens")
    assert [one.batch_size for one in turned] == [one.batch_size for one in planned[::-1]]


def test_the_rule_counts_only_what_is_run():
    """AVSiam's contrastive pass keeps its tokens, so hiding more elsewhere saves less."""
    keys = {"curriculum": LINEAR, "adaptive_batch": "tokens", "contrast_ratios": (0.0, 0.5)}
    sees = 512 * 3 // 4 + 784 * 3 // 4
    largest = 64 * (sees + visible(0.8)) // (sees + visible(0.9)) // 8 * 8
    assert phases("avsiam", **keys)[0].batch_size == largest == 64
    alone = phases("avsiam", contrast_weight=0, **keys)
    assert alone[0].batch_size == 128


def test_operations_grow_slower_than_tokens():
    keys = {"curriculum": LINEAR, "batch_multiple": 1}
    tokens, flops = (
        [one.batch_size for one in phases(adaptive_batch=rule, **keys)]
        for rule in ("tokens", "flops")
    )
    assert tokens[0] > flops[0] > tokens[-1] == flops[-1] == 64


def test_a_batch_over_the_limit_is_refused_with_its_epoch():
    keys = {"curriculum": {**LINEAR, "start": 0.8, "end": 0.9}, "adaptive_batch": "tokens"}
    assert phases(max_batch_size=128, **keys)
    with pytest.raises(ConfigError, match=r"from epoch 17 of 20 has 112 clips .*_size=104: lower"):
        phases(max_batch_size=104, **keys)
    with pytest.raises(ConfigError, match=r"every epoch has 64 clips per step, more than .*=63"):
        phases(max_batch_size=63)


def test_a_method_without_a_count_is_refused():
    recipe = PretrainConfig(batch_size=64, curriculum=LINEAR, adaptive_batch="flops")
    with pytest.raises(ConfigError, match="NetworkConfig has no count of operations"):
        plan_phases(NetworkConfig(), recipe)


ADAPTIVE = {"adaptive_batch": "tokens", "batch_size": 64, "curriculum": {**LINEAR, "start": 0.82}}


@pytest.mark.parametrize(
    ("pretrain", "expected"),
    [
        (
            {"reconstruct_ratio": 0.97},
            "none of the 24 audio tokens; set pretrain.reconstruct_ratio",
        ),
        (
            {"curriculum": {"shape": "linear", "start": 0.97}},
            "tokens; set pretrain.curriculum below",
        ),
        ({"curriculum": {"shape": "linear", "end": 0.96}}, "from epoch 18 of 22: mask ratio"),
        ({"contrast_ratios": [0, 0.96]}, "every epoch: mask ratio 0.96 leaves none of the 24"),
        ({"adaptive_batch": "tokens"}, "follows the curriculum, but curriculum.shape=constant"),
        ({**ADAPTIVE, "batch_size": 50}, "batch_size=50 must be a multiple of batch_multiple=8"),
        ({**ADAPTIVE, "max_batch_size": 60}, "from epoch 0 of 22 has 64 clips per step"),
        ({"curriculum": {"contrast_ratios_end": [0.5]}}, "has 1 ratios, contrast_ratios has 3"),
        ({"curriculum": {"contrast_ratios_end": [0, 0, 1]}}, r"1\.0 is not in \[0, 1\)"),
        ({"curriculum": LINEAR, "reconstruct_weight": 0}, "pretrain.reconstruct_weight is 0"),
    ],
)
def test_impossible_settings_are_refused_before_anything_runs(root, pretrain, expected):
    defaults = yaml.safe_load((root / "config" / "config.yaml").read_text())
    with pytest.raises(ConfigError, match=expected):
        load_config(merge(defaults, {"pretrain": pretrain}))


@pytest.mark.parametrize("method", ["mavil", "diffmavil"])
def test_a_listed_ratio_that_leaves_no_token_is_refused(root, method):
    listed = {"pretrain": {"mavil": {"mask_ratios": [0.8, 0.99]}}}
    defaults = merge(default_config().model_dump(mode="json"), listed)
    load_config(defaults)  # other methods ignore it
    expected = r"mask ratio 0\.99 leaves none .* set pretrain\.mavil\.mask_ratios below"
    with pytest.raises(ConfigError, match=expected):
        load_config(merge(defaults, {"model": {"method": method}}))


def test_a_method_with_one_pass_takes_no_contrast_ratios(root):
    defaults = yaml.safe_load((root / "config" / "config.yaml").read_text())
    pretrain = {"curriculum": {**LINEAR, "contrast_ratios_end": [0.0, 0.25, 0.5]}}
    load_config(merge(defaults, {"pretrain": pretrain}))
    with pytest.raises(ConfigError, match="cav_mae contrasts under the mask of its"):
        load_config(merge(defaults, {"model": {"method": "cav_mae"}, "pretrain": pretrain}))
