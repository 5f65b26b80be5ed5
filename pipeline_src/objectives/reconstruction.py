"""Masked-patch reconstruction (MAE, arXiv:2111.06377; AVSiam, arXiv:2403.19638).

Shape legend: B clips, L tokens, P patch vector.
"""

from torch import Tensor

from pipeline_src.models.patch_embed import normalise_patches


def masked_mse(
    pred_BLP: Tensor, target_BLP: Tensor, is_masked_BL: Tensor, *, norm_pix: bool = False
) -> Tensor:
    """Average the per-patch mean squared error over hidden patches (True = hidden).

    With ``norm_pix`` each target patch is first normalised by its own mean and deviation.

    Raises:
        ValueError: nothing is hidden.
    """
    if not is_masked_BL.any():
        raise ValueError("no token is hidden: reconstruct_ratio is too small for this many tokens")
    if norm_pix:
        target_BLP = normalise_patches(target_BLP.float())[0]
    error_BL = (pred_BLP.float() - target_BLP.float()).square().mean(dim=-1)
    return error_BL[is_masked_BL].mean()
