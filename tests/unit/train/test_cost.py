"""Counted operations equal a closed form; parameters, memory and hours follow from them."""

import json

import pytest

from pipeline_src.commands.cli import main
from pipeline_src.config import (
    CurriculumConfig,
    FinetuneConfig,
    ModelConfig,
    PretrainConfig,
    default_config,
    read_config,
)
from pipeline_src.errors import ConfigError
from pipeline_src.methods import MaskRatios, make_network_config
from pipeline_src.methods.common.masking import num_kept
from pipeline_src.train.cost import Material, epoch_of, gpu_hours, run_costs
from pipeline_src.train.measure import cost_record, training_cost

pytestmark = pytest.mark.slow

MEL, FRAMES, SIDE, PATCH = 32, 64, 32, 8
WIDTH, DEPTH, DECODER_WIDTH, DECODER_DEPTH = 32, 3, 16, 2
AUDIO_TOKENS, VIDEO_TOKENS = (MEL // PATCH) * (FRAMES // PATCH), (SIDE // PATCH) ** 2
RATIOS = (0.0, 0.25, 0.5)
OVERRIDES = {
    "patch_size": PATCH,
    "embed_dim": WIDTH,
    "depth": DEPTH,
    "num_heads": 2,
    "decoder_embed_dim": DECODER_WIDTH,
    "decoder_depth": DECODER_DEPTH,
    "decoder_num_heads": 2,
}


def block(num_tokens, width):
    """A block on one sequence: qkv, projection, MLP of ratio 4; scores and weighted values."""
    return 24 * num_tokens * width**2 + 4 * num_tokens**2 * width


def linear(num_tokens, fan_in, fan_out):
    return 2 * num_tokens * fan_in * fan_out


def make_model(method):
    return ModelConfig(
        method=method, size="tiny", img_size=SIDE, target_length=FRAMES, overrides=OVERRIDES
    )


def measure(method, recipe, num_classes=0):
    return training_cost(make_model(method), recipe, num_mel_bins=MEL, num_classes=num_classes)


def decoder(num_audio_kept, num_video_kept):
    tokens = AUDIO_TOKENS + VIDEO_TOKENS
    return (
        linear(num_audio_kept + num_video_kept, WIDTH, DECODER_WIDTH)
        + DECODER_DEPTH * block(tokens, DECODER_WIDTH)
        + linear(AUDIO_TOKENS, DECODER_WIDTH, PATCH**2)
        + linear(VIDEO_TOKENS, DECODER_WIDTH, 3 * PATCH**2)
    )


def test_avsiam_pretraining_is_the_closed_form():
    measured = measure("avsiam", PretrainConfig(contrast_ratios=RATIOS))
    contrast = [num_kept(n, r) for n in (AUDIO_TOKENS, VIDEO_TOKENS) for r in RATIOS]
    kept = [num_kept(n, 0.75) for n in (AUDIO_TOKENS, VIDEO_TOKENS)]
    encoder = DEPTH * sum(block(n, WIDTH) for n in contrast) / len(RATIOS)
    encoder += DEPTH * sum(block(n, WIDTH) for n in kept)
    assert measured.forward_flops["vit_base"] == pytest.approx(encoder, rel=1e-12)
    assert measured.backward_flops["vit_base"] == pytest.approx(2 * encoder, rel=1e-12)
    for layer in ("mm_layer_1", "mm_layer_2"):
        assert measured.forward_flops[layer] == block(sum(kept), WIDTH)
    assert measured.forward_flops["decoder"] == decoder(*kept)
    embedding = linear(AUDIO_TOKENS, PATCH**2, WIDTH) + linear(VIDEO_TOKENS, 3 * PATCH**2, WIDTH)
    similarity = 2 * len(RATIOS) * WIDTH
    assert measured.forward_flops["other"] == pytest.approx(2 * embedding + similarity)
    # Pixels need no gradient: the kernels' own is all there is.
    assert measured.backward_flops["other"] == pytest.approx(2 * embedding + 2 * similarity)


def test_cav_mae_pretraining_is_the_closed_form():
    measured = measure("cav_mae", PretrainConfig())
    kept = [num_kept(n, 0.75) for n in (AUDIO_TOKENS, VIDEO_TOKENS)]
    for branch, count in zip("av", kept, strict=True):
        assert measured.forward_flops[f"blocks_{branch}"] == (DEPTH - 1) * block(count, WIDTH)
    shared = sum(block(n, WIDTH) for n in (*kept, sum(kept)))
    assert measured.forward_flops["blocks_u"] == shared
    assert measured.backward_flops["blocks_u"] == 2 * shared
    assert measured.forward_flops["decoder"] == decoder(*kept)


@pytest.mark.parametrize("method", ["avsiam", "cav_mae"])
@pytest.mark.parametrize("ratio", [0.5, 0.9])
def test_the_count_that_needs_no_network_is_what_is_measured(method, ratio):
    recipe = PretrainConfig(contrast_ratios=RATIOS, reconstruct_ratio=ratio)
    measured = measure(method, recipe)
    network = make_network_config(
        f"{method}_tiny", num_mel_bins=MEL, target_length=FRAMES, img_size=SIDE, **OVERRIDES
    )
    ratios = MaskRatios(ratio, ratio, RATIOS if network.has_contrast_pass else ())
    counted = 2 * float(network.forward_macs(ratios))
    assert counted == pytest.approx(sum(measured.forward_flops.values()), rel=5e-3)


def test_a_curriculum_costs_the_mean_of_its_epochs():
    def measured(**recipe):
        return measure("cav_mae", PretrainConfig(epochs=3, **recipe))

    first, last = (measured(reconstruct_ratio=ratio) for ratio in (0.75, 0.25))
    curriculum = CurriculumConfig(shape="step", start=0.75, end=0.25)  # the third epoch of 3
    scheduled = measured(curriculum=curriculum)
    assert scheduled.flops == pytest.approx((2 * first.flops + last.flops) / 3)
    assert scheduled.activation_bytes == last.activation_bytes > first.activation_bytes


def test_a_batch_that_grows_needs_the_memory_of_all_its_clips():
    keys = {"shape": "step", "start": 0.75, "end": 0.25}
    recipe = {"epochs": 2, "batch_size": 8, "batch_multiple": 8, "curriculum": keys}
    measured = measure("cav_mae", PretrainConfig(adaptive_batch="tokens", **recipe))
    alone = measure("cav_mae", PretrainConfig(reconstruct_ratio=0.75))
    assert measured.activation_bytes == pytest.approx(
        3 * alone.activation_bytes
    )  # 12 of 48 tokens, then 36


def test_fine_tuning_is_the_mean_over_its_heads():
    def flops(**values):
        return measure("avsiam", FinetuneConfig(**values), num_classes=4).flops

    alone = [
        flops(modality_probs=probs) for probs in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    ]
    mixed = flops(modality_probs=(0.25, 0.25, 0.5))
    assert mixed == pytest.approx(0.25 * alone[0] + 0.25 * alone[1] + 0.5 * alone[2])
    assert alone[2] > alone[0] > alone[1]


def test_memory_and_hours():
    measured = measure("avsiam", PretrainConfig(contrast_ratios=RATIOS))
    num_parameters = sum(measured.parameters.values())
    assert measured.state_bytes == 4 * num_parameters * 6  # two optimisers of two moments
    assert measured.activation_bytes > 4 * DEPTH * AUDIO_TOKENS * WIDTH * 4
    hours = gpu_hours(measured, num_clips=1000, peak_flops=1e12, utilisation=0.5)
    assert hours == pytest.approx(measured.flops * 1000 * 25 / 0.5e12 / 3600)


@pytest.mark.parametrize("method", ["avsiam", "cav_mae"])
def test_activation_checkpointing_saves_memory_and_counts_no_repeated_work(method):
    plain = measure(method, PretrainConfig())
    spared = measure(method, PretrainConfig(activation_checkpointing=True))
    assert spared.flops == plain.flops
    assert 0 < spared.activation_bytes < 0.9 * plain.activation_bytes


def test_done_json_keeps_the_operations_of_the_clips_that_were_seen():
    recipe = FinetuneConfig(batch_size=8, all_heads=True)
    measured = measure("cav_mae", recipe, num_classes=4)
    state = {"num_mel_bins": MEL, "class_names": list("abcd"), "samples_seen": 40}
    state["modalities"] = ["audio", "video"]
    assert cost_record(make_model("cav_mae"), recipe, state) == {
        "parameters": measured.num_parameters,
        "flops_per_clip": measured.flops,
        "flops": 40 * measured.flops,
        "memory_bytes": measured.state_bytes + 8 * measured.activation_bytes,
    }


def run_command(capsys, *arguments):
    assert main(["cost", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_a_comparison_gives_ratios_to_the_first_of_the_chosen_runs(tmp_path, capsys):
    tiny = {"img_size": 32, "target_length": 32}
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    pretrain = {"contrast_weight": 0, "epochs": 2}
    runs = {"avsiam_tiny": None, "short": {"pretrain": pretrain}}
    one.write_text(json.dumps({"model": tiny, "runs": runs}))
    runs = {"avsiam_tiny": None, "long": {"pretrain": {**pretrain, "epochs": 3}}}
    two.write_text(json.dumps({"model": tiny, "runs": runs}))
    names = ("--runs", "long", "short", "--dataset", "avdigits")
    printed = run_command(capsys, "--compare", one, two, *names)
    heads = [line.split()[0] for line in printed.splitlines()]
    assert heads[:6] == ["pretrain", "long", "short", "finetune", "long", "short"]
    ratios = [part for part in printed.splitlines()[2].split() if part.endswith("x")]
    assert ratios == ["1.000x", "1.000x", "0.667x", "1.000x", "1.000x"]
    with pytest.raises(SystemExit, match="--runs other: no such run; listed: short, long"):
        run_command(capsys, "--compare", one, two, "--runs", "other")


def test_the_command_prints_every_run_of_the_configuration(tmp_path, capsys):
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("runs: {avsiam_tiny: {}, other: {model: {method: cav_mae}}}")
    printed = run_command(capsys, overlay, "--dataset", "vggsound")
    for heading in ("avsiam_tiny pretrain", "avsiam_tiny finetune", "other pretrain: cav_mae_tiny"):
        assert heading in printed
    assert "epochs of vggsound" in printed


def test_a_file_that_is_no_configuration_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read"):
        read_config([tmp_path / "none.yaml"])
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("model: {size: enormous}")
    with pytest.raises(ConfigError, match=r"mine\.yaml: model\.size"):
        read_config([overlay])


def test_default_configuration_has_a_cost():
    costs = run_costs(default_config(), "avsiam_tiny", "vggsound")
    assert [cost.stage for cost in costs] == ["pretrain", "finetune"]
    assert all(cost.flops > 0 for cost in costs)


def test_sound_alone_costs_what_the_audio_head_costs():
    recipe = FinetuneConfig(batch_size=8, all_heads=True)
    state = {"num_mel_bins": MEL, "class_names": list("abcd"), "samples_seen": 1}
    both, sound = (
        cost_record(make_model("cav_mae"), recipe, {**state, "modalities": modalities})["flops"]
        for modalities in (["audio", "video"], ["audio"])
    )
    alone = measure("cav_mae", FinetuneConfig(modality_probs=(1, 0, 0)), num_classes=4)
    assert sound == alone.flops < both


def test_an_epoch_of_ones_own_data_set_is_as_long_as_its_list(tmp_path, capsys):
    rows = [f"c{n},c{n}.mp4,,,{'ab'[n % 2]},{'train' if n < 7 else 'test'}" for n in range(9)]
    header = "clip_id,source,start_seconds,end_seconds,labels,split"
    (tmp_path / "list.csv").write_text("\n".join([header, *rows]) + "\n")
    (tmp_path / "mine.yaml").write_text("name: mine\ntask: multiclass\nclip_list: list.csv\n")
    assert epoch_of(str(tmp_path / "mine.yaml")) == Material(7, 2)
    with pytest.raises(ConfigError, match="nothing"):
        epoch_of("nothing")
    path = tmp_path / "overlay.yaml"
    path.write_text("model: {size: tiny, img_size: 32, target_length: 64}\n")
    assert main(["cost", str(path), "--dataset", str(tmp_path / "mine.yaml")]) == 0
    assert "epochs of" in capsys.readouterr().out
