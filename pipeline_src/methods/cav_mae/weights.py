"""CAV-MAE's weights: from an image network and back, and the keys of its released class.

CAV-MAE (arXiv:2210.07839). From an image: first blocks to both branches, the rest to the shared
ones, audio kernel = sum over RGB, audio positions stay sin-cos; MAE's decoder fills the decoder
where a file has it. The released class has norms that it never reads.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from pipeline_src.methods.common.image_keys import (
    MAE_NAMES,
    ImageWeights,
    Targets,
    drop_prefix,
    fit_positions,
    resample_kernels,
    with_suffixes,
)
from pipeline_src.methods.common.network import AudioVisualModel
from pipeline_src.methods.common.published_keys import PublishedClass, PublishedKey, unused_norms


def image_targets(key: str, value: Tensor, model: AudioVisualModel) -> Targets:
    """Map one tensor of an ImageNet MAE, or of a timm ViT, to CAV-MAE's, each of its own shape."""
    if key == "patch_embed.proj.weight":
        total = value.sum(dim=1, keepdim=True)
        return resample_kernels(
            model, audio={"patch_embed_a": total}, video={"patch_embed_v": value}
        )
    if key == "patch_embed.proj.bias":
        return {f"{name}.proj.bias": value for name in ("patch_embed_a", "patch_embed_v")}
    if key == "pos_embed":
        return {"pos_embed_v": fit_positions(drop_prefix(value), model)}
    if key in ("norm.weight", "norm.bias"):
        return dict.fromkeys(with_suffixes(f".{key}", ("", "_a", "_v")), value)
    if key.startswith("blocks."):
        return _block(key, value, model)
    return _mae_decoder(key, value, model)


def _block(key: str, value: Tensor, model: AudioVisualModel) -> Targets:
    """Map a tensor of a block, to both branches or to the shared blocks, in its own shape."""
    _, number, rest = key.split(".", 2)
    own_depth = model.config.modality_specific_depth  # type: ignore[attr-defined]
    if int(number) < own_depth:
        return {f"blocks_{branch}.{number}.{rest}": value for branch in "av"}
    shared = f"blocks_u.{int(number) - own_depth}.{rest}"
    if not re.match(r"norm[12]\.", rest):
        return {shared: value}
    return dict.fromkeys(with_suffixes(shared, ("", "_a", "_v")), value)


def _mae_decoder(key: str, value: Tensor, model: AudioVisualModel) -> Targets:
    """Map a tensor of MAE's decoder; of its prediction, audio takes the first patch values.

    Positions become (1, Lv, D); all else keeps its shape.
    """
    if key == "decoder_pos_embed":
        return {"decoder.pos_embed_v": fit_positions(drop_prefix(value), model)}
    if key.startswith("decoder_pred."):
        kind = key.removeprefix("decoder_pred.")
        rows, columns = model.config.audio_patch
        return {f"decoder.pred_v.{kind}": value, f"decoder.pred_a.{kind}": value[: rows * columns]}
    return {f"decoder.{key.removeprefix('decoder_')}": value}


def video_name(key: str, model: AudioVisualModel) -> str:
    """Name one of our tensors as a timm ViT of the frames does; empty where it has no part."""
    own_depth = model.config.modality_specific_depth  # type: ignore[attr-defined]
    shared = re.match(r"blocks_u\.(\d+)\.(norm[12]_v|attn|mlp)(\..*)", key)
    if shared:
        return f"blocks.{own_depth + int(shared[1])}.{shared[2].removesuffix('_v')}{shared[3]}"
    embedding = re.match(r"(patch_embed|pos_embed|norm|blocks)_v(\..*|$)", key)
    return f"{embedding[1]}{embedding[2]}" if embedding else ""


def fold(image: Targets, weights: Mapping[str, Tensor], model: AudioVisualModel) -> Targets:
    """Add the vector of the modality to each position (1, L, D)."""
    del model
    return {**image, "pos_embed": image["pos_embed"] + weights["modality_v"]}


def all_keys(live: list[PublishedKey], model: AudioVisualModel) -> list[PublishedKey]:
    """List the keys that the class reads and those it never reads."""
    del model
    return [*live, *unused_norms(live)]


IMAGE_WEIGHTS = ImageWeights(image_targets, MAE_NAMES, video_name, fold)
PUBLISHED = PublishedClass("CAV-MAE", "blocks_u.0.norm1_a.weight", all_keys)
