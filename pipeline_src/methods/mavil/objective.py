"""MAViL and DiffMAViL pre-training: reconstruction and two contrasts over masked views.

MAViL (arXiv:2212.08071): masked patches, audio against video, and two views of one clip against
each other. DiffMAViL (arXiv:2310.03937): the decoders start from noised patches. Pooling, weights
and temperatures are not confirmed against the papers (docs/methods.md). With a teacher, stage 2:
its fused tokens of complete inputs are predicted instead of patches. The module is what DDP wraps;
masks, steps and noise are drawn outside its forward.

Shape legend: B clips, N clips of all ranks, L tokens, Q hidden tokens to predict, P values of a
patch, E width of projected features.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline_src.methods.common.contrast import Direction, Scope, scoped_contrastive_loss
from pipeline_src.methods.common.masking import AudioMask
from pipeline_src.methods.common.patch_embed import normalise_patches
from pipeline_src.methods.common.ratios import MaskRatios
from pipeline_src.methods.mavil.config import SecondView, num_views
from pipeline_src.methods.mavil.network import MAViL, Pair
from pipeline_src.methods.mavil.view_draw import ViewDraw
from pipeline_src.methods.mavil.views import Queries, ViewedClips, move


class MAViLPlan(NamedTuple):
    """Every random choice of one step."""

    chunks: tuple[ViewedClips, ...]
    negative_mask_NN: Tensor | None = None  # see ``sample_negatives``


class MAViLPretrain(nn.Module):
    """The losses of a network in one pass; one of weight 0 is not computed.

    Args:
        model: built with ``num_classes=0``.
        audio_mask: structure of the audio masks; video masks have none.
        intra_weight, intra_temperature: of the contrast between two views.
        second_view: what the other view passes: encoders only, or decoders as well.
        decode_fraction, shared_step: see ``ViewDraw``; a joint decoder predicts all hidden tokens.
        teacher: finished network of stage 1; kept out of the state dict.
    """

    passes: tuple[str, ...] = ("joint",)

    def __init__(
        self,
        model: MAViL,
        *,
        contrast_direction: Direction,
        contrast_scope: Scope,
        contrast_weight: float,
        temperature: float,
        intra_weight: float,
        intra_temperature: float,
        reconstruct_weight: float,
        audio_mask: AudioMask,
        second_view: SecondView,
        decode_fraction: float,
        shared_step: bool,
        teacher: MAViL | None,
    ) -> None:
        super().__init__()
        if (model.config.predicts == "features") != (teacher is not None):
            raise ValueError(
                f"predicts={model.config.predicts} {'without' if teacher is None else 'with'} a "
                "teacher: stage 2 needs both features and a teacher"
            )
        self.model = model
        self.contrast_direction: Direction = contrast_direction
        self.contrast_scope: Scope = contrast_scope
        self.contrast_weight = contrast_weight
        self.temperature = temperature
        self.intra_weight = intra_weight
        self.intra_temperature = intra_temperature
        self.reconstruct_weight = reconstruct_weight
        num_encoded, num_decoded = num_views(second_view, intra_weight, reconstruct_weight)
        self.views = ViewDraw(
            model.config,
            audio_mask=audio_mask,
            num_encoded=num_encoded,
            num_decoded=num_decoded,
            decode_fraction=decode_fraction,
            shared_step=shared_step,
        )
        self._teacher = (teacher,)  # in a tuple: no submodule, so neither trained nor saved

    @property
    def find_unused_parameters(self) -> bool:
        """Whether a step leaves projections, or fusion and decoders, without gradient."""
        return self.contrast_weight == self.intra_weight == 0 or self.reconstruct_weight == 0

    def draw(
        self,
        batch_size: int,
        ratios: MaskRatios,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
        negative_mask_NN: Tensor | None = None,
    ) -> MAViLPlan:
        """Draw one step with ``generator`` and move it to ``device``.

        Listed ratios have orders of their own for audio, video and either view, as in AVSiam's
        contrast (arXiv:2403.19638).
        """
        chunks = self.views.draw(batch_size, ratios, generator)
        return MAViLPlan(move(chunks, torch.device(device)), negative_mask_NN)

    def forward(
        self, batch: dict[str, Tensor], plan: MAViLPlan, step_pass: str = "joint"
    ) -> dict[str, Tensor]:
        """Compute the losses.

        Args:
            batch: "logmel" (B, T, M) and "frames" (B, F, 3, H, W), F = the model's num_frames.

        Returns:
            0-d tensors: "loss" (weighted sum), then what was computed: contrast_loss,
            contrast_accuracy, audio_spread, video_spread, intra_loss, reconstruct_loss,
            audio_reconstruct_loss, video_reconstruct_loss.
        """
        features, predictions = self.model.forward_masked(
            batch["logmel"], batch["frames"], plan.chunks
        )
        values: dict[str, Tensor] = {}
        loss = torch.zeros((), device=batch["logmel"].device)
        if self.contrast_weight > 0:
            values |= self._contrast(*features[0], plan.negative_mask_NN)
            loss = loss + self.contrast_weight * values["contrast_loss"]
        if self.intra_weight > 0:
            values["intra_loss"] = self._intra(features, plan.negative_mask_NN)
            loss = loss + self.intra_weight * values["intra_loss"]
        if self.reconstruct_weight > 0:
            values |= self._reconstruct(batch, plan, predictions)
            loss = loss + self.reconstruct_weight * values["reconstruct_loss"]
        return {"loss": loss, **values}

    def _contrast(
        self, audio_BE: Tensor, video_BE: Tensor, negative_mask_NN: Tensor | None
    ) -> dict[str, Tensor]:
        """Compute the values of ``contrastive_loss``, 0-d, on the first view."""
        return scoped_contrastive_loss(
            audio_BE,
            video_BE,
            temperature=self.temperature,
            direction=self.contrast_direction,
            scope=self.contrast_scope,
            negative_mask_NN=negative_mask_NN,
        )

    def _intra(self, features: list[Pair], negative_mask_NN: Tensor | None) -> Tensor:
        """Average the contrast between the two views over the modalities: 0-d."""
        losses = [
            scoped_contrastive_loss(
                first,
                second,
                temperature=self.intra_temperature,
                scope=self.contrast_scope,
                negative_mask_NN=negative_mask_NN,
            )["contrast_loss"]
            for first, second in zip(*features, strict=True)
        ]
        return torch.stack(losses).mean()

    def _reconstruct(
        self, batch: dict[str, Tensor], plan: MAViLPlan, predictions: list[Pair]
    ) -> dict[str, Tensor]:
        """Average each modality's error over clips, views and hidden tokens; 0-d, and their sum."""
        targets = self._targets(batch)
        sums, num_clips = [torch.zeros((), device=batch["logmel"].device)] * 2, 0
        for (clip_ids, queries), predicted in zip(_queried(plan), predictions, strict=True):
            num_clips += len(clip_ids)
            for side, (query, pred_BQP) in enumerate(zip(queries, predicted, strict=True)):
                error = self._error(pred_BQP, targets[side][clip_ids[:, None], query.ids_BQ])
                sums[side] = sums[side] + len(clip_ids) * error
        audio_loss, video_loss = (total / num_clips for total in sums)
        return {
            "reconstruct_loss": audio_loss + video_loss,
            "audio_reconstruct_loss": audio_loss,
            "video_reconstruct_loss": video_loss,
        }

    @torch.no_grad()
    def _targets(self, batch: dict[str, Tensor]) -> Pair:
        """Make the targets at every place, (B, L, P): patches, or the teacher's tokens."""
        (teacher,) = self._teacher
        inputs = (batch["logmel"], batch["frames"])
        return teacher.fuse_complete(*inputs) if teacher else self.model.patches(*inputs)

    def _error(self, pred_BQP: Tensor, target_BQP: Tensor) -> Tensor:
        """Average the squared error, 0-d; with a teacher between unit vectors, summed over P."""
        pred_BQP, target_BQP = pred_BQP.float(), target_BQP.float()
        if self._teacher[0]:
            distance = F.normalize(pred_BQP, dim=-1) - F.normalize(target_BQP, dim=-1)
            return distance.square().sum(dim=-1).mean()
        if self.model.config.norm_pix_loss:
            target_BQP = normalise_patches(target_BQP)[0]
        return (pred_BQP - target_BQP).square().mean()


def _queried(plan: MAViLPlan) -> Iterator[tuple[Tensor, Queries]]:
    """List clips (B,) and queries of every decoded view, in the order of the predictions."""
    for clip_ids, views in plan.chunks:
        for view in views:
            if view.queries:
                yield clip_ids, view.queries
