"""The masked-patch decoder, and its start values.

AVSiam (arXiv:2403.19638), CAV-MAE (arXiv:2210.07839). Published names carry the prefix ``decoder_``
or are ``mask_token``; here they are children of ``decoder`` (``decoder_blocks.0`` is
``decoder.blocks.0``): a plain renaming.

Shape legend: B batch, L tokens (La, Lv), K kept tokens of both modalities, P patch vector.
"""

import torch
from torch import Tensor, nn

from pipeline_src.methods.common.blocks import BLOCK_NORM_EPS, Block
from pipeline_src.methods.common.config import NetworkConfig
from pipeline_src.methods.common.masking import Mask, gather_tokens
from pipeline_src.methods.common.pos_embed import sincos_2d


class Decoder(nn.Module):
    """Fused kept tokens and mask tokens in, one vector per patch out."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        dim = config.decoder_embed_dim
        self.num_frames = config.num_frames
        self.embed = nn.Linear(config.embed_dim, dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed_a = nn.Parameter(sincos_2d(config.audio_grid, dim))
        self.pos_embed_v = nn.Parameter(sincos_2d(config.video_grid, dim))
        self.modality_a = nn.Parameter(torch.zeros(1, 1, dim))
        self.modality_v = nn.Parameter(torch.zeros(1, 1, dim))
        if config.num_frames > 1:
            self.temporal_embed = nn.Parameter(torch.zeros(1, config.num_frames, 1, dim))
        self.blocks = nn.ModuleList(
            Block(dim, config.decoder_num_heads, config.mlp_ratio, norms=("plain",))
            for _ in range(config.decoder_depth)
        )
        self.norm = nn.LayerNorm(dim, eps=BLOCK_NORM_EPS)
        self.pred_a = nn.Linear(dim, config.audio_patch_dim)
        self.pred_v = nn.Linear(dim, config.video_patch_dim)

    def forward(
        self, joint_BKD: Tensor, audio_mask: Mask, video_mask: Mask
    ) -> tuple[Tensor, Tensor]:
        """Decode the kept tokens, audio before video, into predictions (B, La, P), (B, Lv, P)."""
        num_kept = audio_mask.ids_keep.shape[1]
        audio_BLD = self._restore(joint_BKD[:, :num_kept], audio_mask.ids_restore)
        audio_BLD = audio_BLD + self.pos_embed_a + self.modality_a
        video_BLD = self._restore(joint_BKD[:, num_kept:], video_mask.ids_restore)
        video_BLD = video_BLD + self._video_positions()
        x_BLD = torch.cat([audio_BLD, video_BLD + self.modality_v], dim=1)
        for block in self.blocks:
            x_BLD = block(x_BLD, "plain")
        x_BLD = self.norm(x_BLD)
        num_audio = audio_BLD.shape[1]
        return self.pred_a(x_BLD[:, :num_audio]), self.pred_v(x_BLD[:, num_audio:])

    def _restore(self, kept_BKD: Tensor, ids_restore_BL: Tensor) -> Tensor:
        """Append mask tokens and undo the shuffle: (B, L, decoder width)."""
        kept = self.embed(kept_BKD)
        num_hidden = ids_restore_BL.shape[1] - kept.shape[1]
        hidden = self.mask_token.to(kept.dtype).expand(kept.shape[0], num_hidden, -1)
        return gather_tokens(torch.cat([kept, hidden], dim=1), ids_restore_BL)

    def _video_positions(self) -> Tensor:
        """Add up the positions in a frame and of the frames: (1, Lv, decoder width)."""
        if self.num_frames == 1:
            return self.pos_embed_v
        return (self.pos_embed_v[:, None] + self.temporal_embed).flatten(1, 2)
