"""Cost of a MAViL or DiffMAViL training in closed form, for plans that are made without torch.

Multiply-accumulates of matrix products, two operations each; a backward pass costs two forward
ones. Not counted: norms, softmax, biases, activations, additions, the optimiser, the projections of
the contrast. A joint decoder counts its prediction at every place, as MAE (arXiv:2111.06377) does;
the network makes those of hidden places only, 0.1 % of the whole.

Letters: n tokens, q queries, k tokens that are read, d width.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

from pipeline_src.methods.common.ratios import MaskRatios, block_macs, num_kept
from pipeline_src.methods.mavil.config import DecoderKind, MAViLConfig, num_views

TRAINED = 6  # operations per forward multiply-accumulate: 2, three times
FORWARD = 2


class PretrainStep(NamedTuple):
    """What a step does with a clip.

    Args:
        audio_ratio, video_ratio: shares of hidden tokens.
        num_views: looks that pass the encoders.
        num_decoded: of them, those that pass fusion and decoders too.
        decode_fraction: share of hidden tokens that cross decoders predict.
        has_teacher: stage 2, whose teacher sees complete inputs.
    """

    audio_ratio: float = 0.8
    video_ratio: float = 0.8
    num_views: int = 2
    num_decoded: int = 1
    decode_fraction: float = 1.0
    has_teacher: bool = False


def planned_steps(config: MAViLConfig, ratios: MaskRatios, recipe: Any) -> list[PretrainStep]:
    """List what a step does with clips, each item with an equal share: one, or a pair of ratios."""
    mavil = recipe.mavil
    num_encoded, num_decoded = num_views(
        mavil.second_view, mavil.intra_weight, recipe.reconstruct_weight
    )
    pairs = [(ratios.audio, ratios.video)]
    return [
        PretrainStep(
            audio,
            video,
            num_views=num_encoded,
            num_decoded=num_decoded,
            decode_fraction=mavil.decode_fraction,
            has_teacher=config.follows_teacher,
        )
        for audio, video in (product(ratios.listed, repeat=2) if ratios.listed else pairs)
    ]


def trained_flops(config: MAViLConfig, steps: Sequence[PretrainStep]) -> float:
    """Count operations per clip, forward and backward; the mean over steps of equal shares."""
    totals = []
    for step in steps:
        macs = forward_macs(config, step)
        teacher = teacher_macs(config) if step.has_teacher else 0
        totals.append(TRAINED * sum(macs.values()) + FORWARD * teacher)
    return sum(totals) / len(totals)


def forward_macs(config: MAViLConfig, step: PretrainStep) -> dict[str, int]:
    """Count multiply-accumulates of one clip's forward pass by part, the teacher left out."""
    dim, ratio = config.embed_dim, config.mlp_ratio
    sizes = (config.num_audio_tokens, config.num_video_tokens)
    kept = list(map(num_kept, sizes, (step.audio_ratio, step.video_ratio)))
    encoders = [
        config.depth * block_macs(count + config.extra_tokens, dim, ratio) for count in kept
    ]
    patches = dim * sum(a * b for a, b in zip(sizes, config.patch_dims, strict=True))
    kinds = (config.audio_decoder, config.video_decoder)
    fusion = config.fusion_depth * block_macs(sum(kept) + 2, dim, ratio)
    decoders = [_decoder(config, side, kind, kept, step) for side, kind in enumerate(kinds)]
    return {
        "patches": patches,
        "audio": encoders[0],
        "video": encoders[1],
        "further views": (step.num_views - 1) * sum(encoders),
        "fusion": fusion * step.num_decoded,
        "decoder_a": decoders[0] * step.num_decoded,
        "decoder_v": decoders[1] * step.num_decoded,
    }


def teacher_macs(config: MAViLConfig) -> int:
    """Count multiply-accumulates of stage 2's teacher, which sees all, without patch embedding."""
    dim, ratio = config.embed_dim, config.mlp_ratio
    sizes = (config.num_audio_tokens, config.num_video_tokens)
    encoders = config.depth * sum(
        block_macs(size + config.extra_tokens, dim, ratio) for size in sizes
    )
    return encoders + config.fusion_depth * block_macs(sum(sizes) + 2, dim, ratio)


def _decoder(
    config: MAViLConfig, side: int, kind: DecoderKind, kept: Sequence[int], step: PretrainStep
) -> int:
    """Count multiply-accumulates of one decoder; ``side`` 0 = audio, 1 = video."""
    dim, ratio, depth = config.decoder_embed_dim, config.mlp_ratio, config.decoder_depth
    size = (config.num_audio_tokens, config.num_video_tokens)[side]
    patch_dim = config.patch_dims[side]
    predicted_dim = config.embed_dim if config.predicts == "features" else patch_dim
    num_hidden = size - kept[side]
    if kind == "joint":
        noisy, read, predicted = num_hidden, kept[side] + 1, size
        blocks = block_macs(size + 1, dim, ratio)
    else:
        noisy = predicted = max(1, round(num_hidden * step.decode_fraction))
        read = (sum(kept) if config.context == "both" else kept[side]) + 1
        blocks = _cross_block(predicted, read, dim, ratio)
        blocks += 4 * predicted * dim**2 + 2 * predicted**2 * dim if kind == "cross_self" else 0
    diffusion = noisy * patch_dim * dim + 2 * dim**2 if config.diffusion else 0
    inputs = read * config.embed_dim * dim
    return depth * blocks + inputs + predicted * dim * predicted_dim + diffusion


def _cross_block(q: int, k: int, d: int, mlp_ratio: float) -> int:
    mlp = 2 * q * d * int(d * mlp_ratio)
    return 2 * q * d**2 + 2 * k * d**2 + 2 * q * k * d + mlp
