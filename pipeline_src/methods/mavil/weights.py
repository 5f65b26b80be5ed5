"""MAViL's start from an image ViT; neither MAViL nor DiffMAViL has released weights.

Ours: both encoders (arXiv:2212.08071) start as the image network, audio kernel = sum over RGB,
video kernel = an equal part in each frame of a tubelet, so that a still clip starts as its image;
positions stay sin-cos.
"""

from torch import Tensor

from pipeline_src.methods.common.image_keys import MAE_NAMES, ImageWeights, Targets
from pipeline_src.methods.common.network import AudioVisualModel
from pipeline_src.methods.common.resample import resample_kernel


def image_targets(key: str, value: Tensor, model: AudioVisualModel) -> Targets:
    """Map one tensor of a timm ViT to MAViL's encoders, each of its own shape."""
    if key == "patch_embed.proj.weight":
        num_frames, *side = model.config.video_patch
        frame = resample_kernel(value, side) / num_frames
        audio = resample_kernel(value.sum(dim=1, keepdim=True), model.config.audio_token_patch)
        return {
            f"audio.{key}": audio,
            f"video.{key}": frame[:, :, None].repeat(1, 1, num_frames, 1, 1),
        }
    if key == "pos_embed":
        return {}
    return {f"{side}.{key}": value for side in ("audio", "video")}


IMAGE_WEIGHTS = ImageWeights(image_targets, MAE_NAMES)
