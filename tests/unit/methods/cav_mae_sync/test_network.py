"""CAV-MAE Sync: class tokens, registers, segments, its classifiers, its cost."""

import pytest
import torch

from pipeline_src.errors import ConfigError
from pipeline_src.methods import make_network_config
from pipeline_src.methods.cav_mae_sync.weights import PUBLISHED
from pipeline_src.methods.common.convert import describe_source, from_published, to_published
from pipeline_src.methods.common.published_keys import head_classes, published_keys
from pipeline_src.methods.common.ratios import MaskRatios
from pipeline_src.methods.factory import create_model
from tests.networks import RATIOS, SMALL
from tests.objectives import cav_mae_sync_objective, published_classifier

NUM_SEGMENTS = 3


def make_model(num_classes=0, **overrides):
    torch.manual_seed(0)
    values = {**SMALL, "num_segments": NUM_SEGMENTS, **overrides}
    return create_model("cav_mae_sync_tiny", num_classes=num_classes, **values)


def make_batch(num_clips=4, segments=()):
    generator = torch.Generator().manual_seed(0)
    num_frames = segments[0] if segments else 1
    return {
        "logmel": torch.randn(num_clips, *segments, 24, 16, generator=generator),
        "frames": torch.randn(num_clips, num_frames, 3, 16, 16, generator=generator),
        "targets": torch.eye(num_clips, 5),
    }


def test_base_costs_as_counted_by_hand():
    network = make_network_config("cav_mae_sync_base")
    assert 6 * network.forward_macs(MaskRatios(0.75, 0.75)) == pytest.approx(135.9e9, rel=1e-3)


def test_registers_are_seen_and_dropped():
    model = make_model().eval()
    batch = make_batch()
    before = model.encode_audio(batch["logmel"])
    assert before.shape[1] == model.num_audio_tokens
    with torch.no_grad():
        model.register_tokens[: model.config.num_registers] += 1
        assert not torch.allclose(model.encode_audio(batch["logmel"]), before)
        video = model.encode_video(batch["frames"])
        model.register_tokens[: model.config.num_registers] += 1  # audio's alone
        assert torch.equal(model.encode_video(batch["frames"]), video)


@pytest.mark.parametrize(("variant", "spread"), [("ours", 0.02), ("released", 1.0)])
def test_registers_start_as_the_variant_says(variant, spread):
    model = make_model(variant=variant, num_registers=64)
    assert model.register_tokens.std().item() == pytest.approx(spread, rel=0.1)


def test_class_tokens_take_no_part_in_the_joint_pass():
    model = make_model()
    calls = []
    model.decoder.register_forward_pre_hook(lambda _, inputs: calls.append(inputs[0].shape[1]))
    objective = cav_mae_sync_objective(model)
    plan = objective.draw(4, RATIOS, torch.Generator().manual_seed(0))
    objective(make_batch(), plan)
    kept = plan.audio_mask.ids_keep.shape[1] + plan.video_mask.ids_keep.shape[1]
    assert calls == [kept]


@pytest.mark.parametrize("features", ["class", "mean", "both"])
def test_what_is_contrasted(features):
    model = make_model(contrast_features=features)
    objective = cav_mae_sync_objective(model, reconstruct_weight=0, contrast_weight=1)
    plan = objective.draw(4, RATIOS, torch.Generator().manual_seed(0))
    assert objective(make_batch(), plan)["loss"].isfinite()
    embedded = model.embed(make_batch()["logmel"])
    assert embedded["audio"].shape == (4, model.config.embed_dim)


def test_a_segment_alone_is_as_in_its_clip():
    model = make_model().eval()
    batch = make_batch(segments=(NUM_SEGMENTS,))
    together = model.embed_segments(batch["logmel"], batch["frames"])
    for k in range(NUM_SEGMENTS):
        alone = model.embed(batch["logmel"][:, k], batch["frames"][:, k : k + 1])
        for name, value in alone.items():
            torch.testing.assert_close(together[name][:, k], value)


@pytest.mark.parametrize("classifier", ["tokens", "pairs", "single"])
def test_every_parameter_of_a_classifier_trains(classifier):
    model = make_model(5, classifier=classifier)
    probs = {"tokens": (0.3, 0.3, 0.4), "pairs": (0, 0, 1), "single": (0.5, 0.5, 0)}[classifier]
    objective = published_classifier(model, task="multiclass", modality_probs=probs, all_heads=True)
    plan = objective.draw(4, None, torch.Generator())
    objective(make_batch(segments=(NUM_SEGMENTS,)), plan, "classify")["loss"].backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert {n for n, _ in model.named_parameters() if n.startswith("classifier")} <= trained


def test_classifiers_score_the_inputs_that_they_have():
    scored = {"tokens": 3, "pairs": 1, "single": 2, "frame": 2}
    batch = make_batch(segments=(NUM_SEGMENTS,))
    for classifier, count in scored.items():
        model = make_model(5, classifier=classifier).eval()
        logits = model.forward_heads(batch["logmel"], batch["frames"])
        assert tuple(logits) == model.config.heads
        assert len(logits) == count
        groups = NUM_SEGMENTS if classifier == "frame" else 1
        assert {value.shape for value in logits.values()} == {(4, groups, 5)}


@pytest.mark.parametrize("classifier", ["", "pairs", "single", "frame"])
def test_released_files_are_read_and_written(classifier):
    changes = {"variant": "released", **({"classifier": classifier} if classifier else {})}
    model = make_model(5 if classifier else 0, **changes)
    state, _ = to_published(model.state_dict(), "cav_mae_sync_tiny", model)
    source = {key.removeprefix("module."): value for key, value in state.items()}
    assert set(source) == {key.name for key in published_keys("cav_mae_sync_tiny", model)}
    assert head_classes(source) == (5 if classifier else 0)
    assert describe_source(source).startswith("CAV-MAE Sync of width 16")
    weights, report = from_published(source, "cav_mae_sync_tiny", model, origin="")
    assert not report.missing
    for key, value in model.state_dict().items():
        assert torch.equal(weights[key], value), key


@pytest.mark.parametrize("classifier", ["", "pairs", "single", "frame"])
def test_a_released_file_shows_its_structure(classifier):
    sizes = {"num_mel_bins": 128, "target_length": 48, "patch_size": 8, "img_size": 16}
    changes = {"classifier": classifier} if classifier else {}
    model = make_model(5 if classifier else 0, **sizes, **changes, num_registers=3)
    state, _ = to_published(model.state_dict(), "cav_mae_sync_tiny", model)
    source = {key.removeprefix("module."): value for key, value in state.items()}
    shown = {"target_length": 48, "num_registers": 3}
    assert PUBLISHED.shown_overrides(source) == shown | changes


def test_a_segment_longer_than_the_clip_is_refused():
    with pytest.raises(ConfigError, match=r"target_length=24 .* above clip_length=16"):
        make_model(clip_length=16)
