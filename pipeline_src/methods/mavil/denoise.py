"""Pictures of a diffusion decoder at work: hidden patches from noise to prediction, step by step.

With ``norm_pix_loss`` the network predicts patches in their own scale, so the true mean and
deviation of each hidden patch put them back: such pictures show predicted texture,
not free samples.

Shape legend: B batch, S states, T log-mel frames, M mel bins, F video frames, L tokens, Q hidden
tokens, P patch vector.
"""

import torch
from torch import Tensor

from pipeline_src.methods.common.masking import gather_tokens
from pipeline_src.methods.common.patch_embed import normalise_patches
from pipeline_src.methods.common.pictures import (
    DenoisedPictures,
    patches_to_frames,
    patches_to_logmel,
)
from pipeline_src.methods.mavil.decoder import ModalityDecoder, Noised
from pipeline_src.methods.mavil.diffusion import Predict, Sampler, normal_like, sample
from pipeline_src.methods.mavil.network import MAViL, Pair, place_tokens
from pipeline_src.methods.mavil.views import Masks


@torch.no_grad()
def denoise(
    model: MAViL,
    logmel_BTM: Tensor,
    frames_BFCHW: Tensor,
    masks: Masks,
    *,
    num_steps: int,
    sampler: Sampler = "ddim",
    generator: torch.Generator,
) -> DenoisedPictures:
    """Sample the hidden patches of both modalities, S states; inputs are encoded once.

    Args:
        num_steps: steps of the sampler; S is one more.
        generator: of the start noise and, for "ddpm", of that of the steps.
    """
    fused = model.encode_visible(logmel_BTM, frames_BFCHW, masks)
    pictures = []
    for side, decoder, to_picture in (
        (0, model.decoder_a, patches_to_logmel),
        (1, model.decoder_v, patches_to_frames),
    ):
        clean_BLP = model.patches(logmel_BTM, frames_BFCHW)[side]
        ids_BQ = masks[side].ids_hidden()
        states = sample(
            _prediction(model, decoder, (fused[side], fused[1 - side]), masks, side, clean_BLP),
            normal_like(gather_tokens(clean_BLP, ids_BQ), generator),
            model.schedule,
            num_steps=num_steps,
            sampler=sampler,
            generator=generator,
        )
        hidden = masks[side].is_masked_BL[..., None]
        filled = [
            torch.where(hidden, place_tokens(x.float(), ids_BQ, clean_BLP.shape[1]), clean_BLP)
            for x in states
        ]
        pictures.append(torch.stack([to_picture(model.config, x) for x in filled], dim=1))
    steps = (*model.schedule.kept_steps(num_steps), 0)
    return DenoisedPictures(pictures[0], pictures[1], steps)


def _prediction(
    model: MAViL,
    decoder: ModalityDecoder,
    fused: Pair,
    masks: Masks,
    side: int,
    clean_BLP: Tensor,
) -> Predict:
    """Wrap the decoder as the sampler calls it: (x_t, t) -> x_0 (B, Q, P) in the inputs' units."""
    ids_keep, ids_BQ = masks[side].ids_keep, masks[side].ids_hidden()
    _, mean, std = normalise_patches(gather_tokens(clean_BLP, ids_BQ))

    def predict(noisy_BQP: Tensor, step: int) -> Tensor:
        """Predict x_0: (B, Q, P)."""
        steps_B = torch.full_like(ids_BQ[:, 0], step)
        x = decoder(*fused, ids_keep, ids_BQ, Noised(noisy_BQP, steps_B)).float()
        return x * std + mean if model.config.norm_pix_loss else x

    return predict
