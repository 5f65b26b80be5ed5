"""Which of our tensors each tensor of an image ViT fills, per method.

AVSiam (arXiv:2403.19638): positions stretched over audio, audio kernel = mean over RGB. CAV-MAE
(arXiv:2210.07839): first blocks to both branches, the rest to the shared ones, audio kernel = sum
over RGB, audio positions stay sin-cos; MAE's decoder fills the decoder where a file has it. MAViL
(arXiv:2212.08071), ours: both encoders, audio kernel = sum over RGB, video kernel = an equal part
in each frame of a tubelet, so that a still clip starts as its image; positions stay sin-cos.
"""

import math
import re
from collections.abc import Callable, Mapping

from timm.layers import resample_abs_pos_embed, resample_patch_embed
from torch import Tensor

from pipeline_src.errors import CheckpointError
from pipeline_src.methods.common.network import AudioVisualModel
from pipeline_src.methods.common.pos_embed import stretch_positions

Targets = dict[str, Tensor]


def avsiam_targets(key: str, value: Tensor, model: AudioVisualModel) -> Targets:
    """Map one tensor of a timm ViT to AVSiam's."""
    vit = "vit_base."
    if key == "patch_embed.proj.weight":
        mean = value.mean(dim=1, keepdim=True)
        return _kernels(
            model, audio={f"{vit}patch_embed_a": mean}, video={f"{vit}patch_embed": value}
        )
    if key == "patch_embed.proj.bias":
        return {f"{vit}{name}.proj.bias": value for name in ("patch_embed", "patch_embed_a")}
    if key == "pos_embed":
        image_1LD = _drop_prefix(value)
        audio_1LD = stretch_positions(image_1LD, model.num_audio_tokens)
        return {
            f"{vit}pos_embed": _fit_positions(image_1LD, model),
            f"{vit}pos_embed_a": audio_1LD,
        }
    if key in ("norm.weight", "norm.bias"):
        kind = key.removeprefix("norm.")
        return {f"{vit}norm.{kind}": value, f"{vit}norm_a.{kind}": value}
    names = [key]
    if ".norm1." in key or ".norm2." in key:
        names = _with_suffixes(key, ("_a", "_v"))
    names += [re.sub(r"^blocks\.", "blocks_a.", name) for name in names]
    return {f"{vit}{name}": value for name in names}


def cav_mae_targets(key: str, value: Tensor, model: AudioVisualModel) -> Targets:
    """Map one tensor of an ImageNet MAE, or of a timm ViT, to CAV-MAE's."""
    if key == "patch_embed.proj.weight":
        total = value.sum(dim=1, keepdim=True)
        return _kernels(model, audio={"patch_embed_a": total}, video={"patch_embed_v": value})
    if key == "patch_embed.proj.bias":
        return {f"{name}.proj.bias": value for name in ("patch_embed_a", "patch_embed_v")}
    if key == "pos_embed":
        return {"pos_embed_v": _fit_positions(_drop_prefix(value), model)}
    if key in ("norm.weight", "norm.bias"):
        return dict.fromkeys(_with_suffixes(f".{key}", ("", "_a", "_v")), value)
    if key.startswith("blocks."):
        return _cav_mae_block(key, value, model)
    return _mae_decoder(key, value, model)


def _cav_mae_block(key: str, value: Tensor, model: AudioVisualModel) -> Targets:
    _, number, rest = key.split(".", 2)
    own_depth = model.config.modality_specific_depth  # type: ignore[attr-defined]
    if int(number) < own_depth:
        return {f"blocks_{branch}.{number}.{rest}": value for branch in "av"}
    shared = f"blocks_u.{int(number) - own_depth}.{rest}"
    if not re.match(r"norm[12]\.", rest):
        return {shared: value}
    return dict.fromkeys(_with_suffixes(shared, ("", "_a", "_v")), value)


def _mae_decoder(key: str, value: Tensor, model: AudioVisualModel) -> Targets:
    if key == "decoder_pos_embed":
        return {"decoder.pos_embed_v": _fit_positions(_drop_prefix(value), model)}
    if key.startswith("decoder_pred."):
        kind = key.removeprefix("decoder_pred.")
        rows, columns = model.config.audio_patch
        return {f"decoder.pred_v.{kind}": value, f"decoder.pred_a.{kind}": value[: rows * columns]}
    return {f"decoder.{key.removeprefix('decoder_')}": value}


def mavil_targets(key: str, value: Tensor, model: AudioVisualModel) -> Targets:
    """Map one tensor of a timm ViT to MAViL's encoders."""
    if key == "patch_embed.proj.weight":
        num_frames, *side = model.config.video_patch
        frame = resample_patch_embed(value, side) / num_frames
        audio = resample_patch_embed(
            value.sum(dim=1, keepdim=True), list(model.config.audio_token_patch)
        )
        return {
            f"audio.{key}": audio,
            f"video.{key}": frame[:, :, None].repeat(1, 1, num_frames, 1, 1),
        }
    if key == "pos_embed":
        return {}
    return {f"{side}.{key}": value for side in ("audio", "video")}


def _kernels(
    model: AudioVisualModel, *, audio: dict[str, Tensor], video: dict[str, Tensor]
) -> Targets:
    """Resample patch kernels, by the name of their embedding, to the patches of the model."""
    side = model.config.patch_size
    sizes = [(audio, list(model.config.audio_patch)), (video, [side, side])]
    return {
        f"{name}.proj.weight": resample_patch_embed(kernel, size)
        for kernels, size in sizes
        for name, kernel in kernels.items()
    }


def _with_suffixes(key: str, suffixes: tuple[str, ...]) -> list[str]:
    """The norm ``key`` under each suffix of its name."""
    stem, _, kind = key.rpartition(".")
    return [f"{stem}{suffix}.{kind}".removeprefix(".") for suffix in suffixes]


def _drop_prefix(pos_embed_1LD: Tensor) -> Tensor:
    """Leave out the class token's position: what remains is a square grid."""
    num_positions = pos_embed_1LD.shape[1]
    return pos_embed_1LD[:, num_positions - math.isqrt(num_positions) ** 2 :]


def _fit_positions(image_1LD: Tensor, model: AudioVisualModel) -> Tensor:
    """Resample a square grid of positions to the frame's."""
    side = math.isqrt(image_1LD.shape[1])
    if (side, side) == model.video_grid:
        return image_1LD
    new_size = list(model.video_grid)
    return resample_abs_pos_embed(image_1LD, new_size, [side, side], num_prefix_tokens=0)  # type: ignore[operator]


IMAGE_TARGETS: dict[str, Callable[[str, Tensor, AudioVisualModel], Targets]] = {
    "avsiam": avsiam_targets,
    "cav_mae": cav_mae_targets,
    "mavil": mavil_targets,
    "diffmavil": mavil_targets,
}


_BLOCK_PARTS = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
# What a ViT has beside its encoder, or what no network here has a place for by design: a class
# token, classifiers, and the decoder and mask token of a masked autoencoder.
_BESIDE_ENCODER = re.compile(
    r"cls_token|mask_token|(head|head_dist|pre_logits|decoder)\..*|decoder_.*"
)


def encoder_keys(depth: int) -> dict[str, None]:
    """Names, in order, of every tensor of a plain ViT's encoder, class token left out."""
    layers = [f"blocks.{number}.{part}" for number in range(depth) for part in _BLOCK_PARTS]
    layers = ["patch_embed.proj", *layers, "norm"]
    named = [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]
    return dict.fromkeys(["pos_embed", *named])


def is_beside_encoder(key: str) -> bool:
    """Whether a tensor of an image network takes no part in encoding patches."""
    return _BESIDE_ENCODER.fullmatch(key) is not None


def square_grid(source: Mapping[str, Tensor], origin: str, *, takes_doubt: bool = False) -> int:
    """Side of the square of patches that an image ViT has positions for.

    Args:
        takes_doubt: believes a square that leaves the class token of the file no position.

    Raises:
        CheckpointError: its positions, those of class and register tokens left out, are no square.
    """
    num_positions = source["pos_embed"].shape[1]
    class_tokens = source["cls_token"].shape[1] if "cls_token" in source else 0
    registers = source["reg_token"].shape[1] if "reg_token" in source else 0
    side = math.isqrt(num_positions)
    num_others = num_positions - side**2
    if num_others not in (0, class_tokens, class_tokens + registers):
        raise CheckpointError(
            f"{origin}: pos_embed has {num_positions} positions, {class_tokens} of a class token: "
            "the others are no square grid, so which patch is where is not known"
        )
    if class_tokens and not num_others and not takes_doubt:  # 3 x 5 patches and a class token?
        raise CheckpointError(
            f"{origin}: pos_embed has {num_positions} positions and there is a class token: either "
            f"it has none of its own, then convert with --allow pos_embed, or the grid is no square"
        )
    return side


def video_encoder_names(method: str, model: AudioVisualModel) -> dict[str, str]:
    """Our names of the tensors that a frame passes -> the names in a timm ViT."""
    read = {"avsiam": _avsiam_video_name, "cav_mae": _cav_mae_video_name}[method]
    names = {key: read(key, model) for key in model.state_dict()}
    return {key: name for key, name in names.items() if name}


def fold_into_embedding(
    method: str, model: AudioVisualModel, image: Targets, weights: Mapping[str, Tensor]
) -> Targets:
    """Put what a timm ViT has no place for into its patch kernel and positions.

    AVSiam's doubled input doubles both; CAV-MAE's modality vector is added to each position.
    """
    if method == "cav_mae":
        return {**image, "pos_embed": image["pos_embed"] + weights["modality_v"]}
    scale = 2 if model.config.double_input else 1  # type: ignore[attr-defined]
    is_scaled = ("pos_embed", "patch_embed")
    return {k: v * scale if k.startswith(is_scaled) else v for k, v in image.items()}


def _avsiam_video_name(key: str, model: AudioVisualModel) -> str:
    del model  # its blocks are counted as timm's
    name = key.removeprefix("vit_base.")
    if name == key or "_a." in name or name == "pos_embed_a":
        return ""
    return re.sub(r"(norm[12])_v\.", r"\1.", name)


def _cav_mae_video_name(key: str, model: AudioVisualModel) -> str:
    own_depth = model.config.modality_specific_depth  # type: ignore[attr-defined]
    shared = re.match(r"blocks_u\.(\d+)\.(norm[12]_v|attn|mlp)(\..*)", key)
    if shared:
        return f"blocks.{own_depth + int(shared[1])}.{shared[2].removesuffix('_v')}{shared[3]}"
    embedding = re.match(r"(patch_embed|pos_embed|norm|blocks)_v(\..*|$)", key)
    return f"{embedding[1]}{embedding[2]}" if embedding else ""
