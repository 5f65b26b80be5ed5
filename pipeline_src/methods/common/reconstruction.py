"""Masked-patch reconstruction (MAE, arXiv:2111.06377; AVSiam, arXiv:2403.19638).

Shape legend: B clips, L tokens, P patch vector.
"""

from torch import Tensor

from pipeline_src.methods.common.config import NetworkConfig
from pipeline_src.methods.common.masking import Mask
from pipeline_src.methods.common.patch_embed import normalise_patches
from pipeline_src.methods.common.pictures import audio_patches, video_patches


def reconstruction_losses(
    config: NetworkConfig,
    batch: dict[str, Tensor],
    audio_BLP: Tensor,
    video_BLP: Tensor,
    masks: tuple[Mask, Mask],
) -> dict[str, Tensor]:
    """Score predictions of both modalities against the batch's own patches.

    Args:
        masks: of audio and of video.

    Returns:
        0-d tensors: reconstruct_loss, the sum of audio_reconstruct_loss and video_reconstruct_loss.
    """
    audio_target = audio_patches(config, batch["logmel"])
    video_target = video_patches(config, batch["frames"])
    norm_pix = config.norm_pix_loss
    audio_loss = masked_mse(audio_BLP, audio_target, masks[0], norm_pix=norm_pix)
    video_loss = masked_mse(video_BLP, video_target, masks[1], norm_pix=norm_pix)
    return {
        "reconstruct_loss": audio_loss + video_loss,
        "audio_reconstruct_loss": audio_loss,
        "video_reconstruct_loss": video_loss,
    }


def masked_mse(
    pred_BLP: Tensor, target_BLP: Tensor, mask: Mask, *, norm_pix: bool = False
) -> Tensor:
    """Average the per-patch mean squared error over hidden patches: 0-d.

    With ``norm_pix`` each target patch is first normalised by its own mean and deviation.

    Raises:
        ValueError: nothing is hidden.
    """
    if mask.num_hidden == 0:
        raise ValueError("no token is hidden: reconstruct_ratio is too small for this many tokens")
    if norm_pix:
        target_BLP = normalise_patches(target_BLP.float())[0]
    error_BL = (pred_BLP.float() - target_BLP.float()).square().mean(dim=-1)
    return error_BL.gather(1, mask.ids_hidden()).mean()
