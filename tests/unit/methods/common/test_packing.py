"""Packed execution: the same features and gradients as each clip alone, whatever the lengths."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from pipeline_src.methods.common import packing
from pipeline_src.methods.common.packing import Packing, packed_attention
from pipeline_src.methods.factory import create_model
from tests import networks
from tests.objectives import avsiam_objective

SMALL = networks.SMALL | {"patch_size": 4, "target_length": 32}
CPU = torch.device("cpu")


def make_objective(**options):
    torch.manual_seed(0)
    return avsiam_objective(create_model("avsiam_tiny", **SMALL), **options)


def make_batch(num_clips):
    generator = torch.Generator().manual_seed(0)
    return {
        "logmel": torch.randn(num_clips, 32, 16, generator=generator),
        "frames": torch.randn(num_clips, 1, 3, 16, 16, generator=generator),
    }


def run(objective, batch, plan):
    objective.zero_grad()
    values = objective(batch, plan, "contrast")
    values["loss"].backward()
    gradients = {n: p.grad.clone() for n, p in objective.named_parameters() if p.grad is not None}
    return values["contrast_loss"], gradients


@pytest.mark.parametrize("num_clips", [1, 3, 5, 7])
def test_packed_features_are_those_of_each_clip_alone(num_clips):
    objective, batch = make_objective(), make_batch(num_clips)
    plan = objective.draw(num_clips, networks.RATIOS, torch.Generator().manual_seed(0))
    model = objective.model
    features = model.forward_contrast(
        batch["logmel"], batch["frames"], plan.audio_chunks, plan.video_chunks, packed=True
    )
    sides = (
        (features[0], model.encode_audio, batch["logmel"], plan.audio_chunks),
        (features[1], model.encode_video, batch["frames"], plan.video_chunks),
    )
    for pooled, encode, inputs, chunks in sides:
        for chunk in chunks:
            for clip, ids_keep in zip(*chunk, strict=True):
                alone = encode(inputs[clip][None], ids_keep[None]).mean(1)[0]
                torch.testing.assert_close(pooled[clip], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("grad_checkpointing", [False, True])
def test_packed_loss_and_gradients_are_those_of_separate_chunks(grad_checkpointing):
    batch = make_batch(7)
    results = []
    for packed in ("never", "always"):
        objective = make_objective(pack_sequences=packed)
        objective.model.set_grad_checkpointing(grad_checkpointing)
        plan = objective.draw(7, networks.RATIOS, torch.Generator().manual_seed(0))
        results.append(run(objective, batch, plan))
    (loss, gradients), (packed_loss, packed_gradients) = results
    torch.testing.assert_close(packed_loss, loss, rtol=1e-5, atol=1e-5)
    assert set(packed_gradients) == set(gradients)
    for name, gradient in gradients.items():
        torch.testing.assert_close(packed_gradients[name], gradient, rtol=1e-4, atol=1e-5)


def test_auto_is_dense_on_a_cpu():
    objective, batch = make_objective(), make_batch(5)
    plan = objective.draw(5, networks.RATIOS, torch.Generator().manual_seed(0))
    dense = make_objective(pack_sequences="never")
    assert torch.equal(run(objective, batch, plan)[0], run(dense, batch, plan)[0])


def test_boundaries_and_views_follow_the_groups():
    layout = Packing(audio=((2, 3), (1, 2)), video=((2, 1),), device=CPU)
    assert layout.modality_sizes == [8, 2]
    assert layout.max_length == 3
    ends = layout.boundaries
    assert ends.dtype == torch.int32
    assert ends.tolist() == [0, 3, 6, 8, 9, 10]
    views = layout.split(torch.arange(10))
    assert [view.tolist() for view in views] == [[[0, 1, 2], [3, 4, 5]], [[6, 7]], [[8], [9]]]


def test_the_variable_length_kernel_is_given_every_sequence(monkeypatch):
    """The GPU branch with its kernel replaced by a loop over the boundaries it is given."""

    def by_hand(q, k, v, ends_q, ends_k, longest_q, longest_k):
        assert longest_q == longest_k == 3
        assert torch.equal(ends_q, ends_k)
        parts = []
        for start, end in pairwise(ends_q.tolist()):
            sequence = (x[start:end].transpose(0, 1) for x in (q, k, v))
            parts.append(F.scaled_dot_product_attention(*sequence).transpose(0, 1))
        return torch.cat(parts)

    layout = Packing(audio=((2, 3), (1, 2)), video=((2, 1),), device=CPU)
    q, k, v = torch.randn(3, 10, 2, 4, generator=torch.Generator().manual_seed(0))
    dense = packed_attention(q, k, v, layout)
    monkeypatch.setattr(packing, "has_packed_kernel", lambda x: True)
    monkeypatch.setattr(packing, "varlen_attn", by_hand)
    torch.testing.assert_close(packed_attention(q, k, v, layout), dense)


def test_packed_attention_in_half_precision_is_near_the_exact_one():
    layout = Packing(audio=((2, 30), (1, 20)), video=(), device=CPU)
    q, k, v = torch.randn(3, 80, 2, 8, generator=torch.Generator().manual_seed(0))
    exact = packed_attention(q, k, v, layout)
    half = packed_attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), layout)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), exact, rtol=2e-2, atol=2e-2)
