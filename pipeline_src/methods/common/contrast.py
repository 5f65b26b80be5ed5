"""InfoNCE over the clips of all ranks, or of one.

AVSiam (arXiv:2403.19638): cosine similarity / temperature, the pair of the same clip is the
positive, every other clip of the global batch a negative, in both directions. CAV-MAE
(arXiv:2210.07839): for each video over the audios, among the clips of one rank.

Shape legend: B clips of this rank, N clips of all ranks, D width.
"""

from typing import Any, Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

Direction = Literal["both", "a2v", "v2a"]
Scope = Literal["global", "local"]


class _GatherWithGrad(torch.autograd.Function):
    """All-gather whose backward sums the ranks' gradients and takes the own slice.

    With DDP's mean over ranks this is exactly the gradient of the global batch.
    """

    @staticmethod
    def forward(ctx: Any, x_BD: Tensor) -> Tensor:
        """Return the features of all ranks, (N, D)."""
        parts = [torch.empty_like(x_BD) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x_BD.contiguous())
        ctx.num_clips = x_BD.shape[0]
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        """Return the gradient (B, D) of this rank's features."""
        grad_ND = grads[0].clone(
            memory_format=torch.contiguous_format
        )  # autograd may use what it hands over elsewhere
        dist.all_reduce(grad_ND)
        start = dist.get_rank() * ctx.num_clips
        return grad_ND[start : start + ctx.num_clips]


def gather_clips(x_BD: Tensor) -> Tensor:
    """Collect features of all ranks (N, D) with gradient; the same batch size on every rank."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return x_BD
    return _GatherWithGrad.apply(x_BD)  # type: ignore[return-value]


def scoped_contrastive_loss(
    audio_BD: Tensor,
    video_BD: Tensor,
    *,
    temperature: float,
    direction: Direction = "both",
    scope: Scope = "global",
    negative_mask_NN: Tensor | None = None,
) -> dict[str, Tensor]:
    """Compute ``contrastive_loss``, 0-d values, among clips of all ranks ("global") or this one."""
    if scope == "global":
        audio_BD, video_BD = gather_clips(audio_BD), gather_clips(video_BD)
    return contrastive_loss(
        audio_BD,
        video_BD,
        temperature=temperature,
        direction=direction,
        negative_mask_NN=negative_mask_NN,
    )


def contrastive_loss(
    audio_ND: Tensor,
    video_ND: Tensor,
    *,
    temperature: float,
    direction: Direction = "both",
    negative_mask_NN: Tensor | None = None,
) -> dict[str, Tensor]:
    """Score each clip's pair against all others: "a2v" = of each audio among the videos.

    Args:
        negative_mask_NN: (N, N) bool, True = a clip that this one (row) is scored against, itself
            included, the same in both directions; None = all.

    Returns:
        0-d tensors: contrast_loss (at chance: ln of the number of candidates), contrast_accuracy
        (top-1, mean of the directions used), audio_spread and video_spread (see
        ``feature_spread``).
    """
    # bfloat16 would round cosines near 1 to steps of 2^-8: nearly equal clips would tie.
    with torch.autocast(audio_ND.device.type, enabled=False):
        audio_ND = F.normalize(audio_ND.float(), dim=1)
        video_ND = F.normalize(video_ND.float(), dim=1)
        similarity_NN = audio_ND @ video_ND.T / temperature
    views = {"a2v": [similarity_NN], "v2a": [similarity_NN.T]}.get(
        direction, [similarity_NN, similarity_NN.T]
    )
    if negative_mask_NN is not None:
        views = [view.masked_fill(~negative_mask_NN, float("-inf")) for view in views]
    target = torch.arange(len(similarity_NN), device=similarity_NN.device)
    losses = [F.cross_entropy(view, target) for view in views]
    hits = [(view.argmax(1) == target).float().mean() for view in views]
    return {
        "contrast_loss": torch.stack(losses).mean(),
        "contrast_accuracy": torch.stack(hits).mean(),
        "audio_spread": feature_spread(audio_ND),
        "video_spread": feature_spread(video_ND),
    }


@torch.no_grad()
def feature_spread(unit_ND: Tensor) -> Tensor:
    """Measure collapse: standard deviation over clips of unit vectors, mean over D; 0-d.

    0 when all clips share one vector; about 1 / sqrt(D) when they fill the sphere.
    """
    return unit_ND.std(dim=0, correction=0).mean()


def sample_negatives(
    num_clips: int, num_compared: int, generator: torch.Generator
) -> Tensor | None:
    """Choose for each clip itself and random others, ``num_compared`` in all.

    Returns:
        negative_mask_NN (N, N) bool, row = clip, True = scored against it, both for the clip's
        audio among the videos and for its video among the audios; None where every clip is.
    """
    if num_compared >= num_clips:
        return None
    device = generator.device
    noise_NN = torch.rand(num_clips, num_clips, generator=generator, device=device)
    noise_NN.fill_diagonal_(-1)  # the positive is always one
    chosen = noise_NN.topk(num_compared, dim=1, largest=False).indices
    negative_mask_NN = torch.zeros(num_clips, num_clips, dtype=torch.bool, device=device)
    return negative_mask_NN.scatter_(1, chosen, True)
