"""CAV-MAE Sync pre-training: CAV-MAE's losses on a frame and its segment, contrast of class tokens.

CAV-MAE Sync (arXiv:2505.01237): one pair per clip and step, one mask for both losses.
"""

from torch import Tensor

from pipeline_src.methods.cav_mae.objective import CAVMAEPretrain, MaskPlan
from pipeline_src.methods.cav_mae_sync.network import CAVMAESync


class CAVMAESyncPretrain(CAVMAEPretrain):
    """Both pre-training losses of a network, in one pass."""

    model: CAVMAESync

    def _contrast(self, audio_BD: Tensor, video_BD: Tensor, plan: MaskPlan) -> dict[str, Tensor]:
        """Contrast what the network pools; of class tokens and means the mean of both losses.

        Returns:
            0-d values.
        """
        if self.model.config.contrast_features != "both":
            return super()._contrast(audio_BD, video_BD, plan)
        halves = zip(audio_BD.chunk(2, dim=1), video_BD.chunk(2, dim=1), strict=True)
        parts = [super(CAVMAESyncPretrain, self)._contrast(a, v, plan) for a, v in halves]
        return {name: (parts[0][name] + parts[1][name]) / 2 for name in parts[0]}
