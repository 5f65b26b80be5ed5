"""CAV-MAE Sync (arXiv:2505.01237)."""

from pipeline_src.methods.cav_mae_sync.config import CAVMAESyncConfig
from pipeline_src.methods.common.method import Method

METHOD = Method(
    config=CAVMAESyncConfig,
    network="pipeline_src.methods.cav_mae_sync.network:CAVMAESync",
    objective="pipeline_src.methods.cav_mae_sync.objective:CAVMAESyncPretrain",
    image_weights="pipeline_src.methods.cav_mae.weights:IMAGE_WEIGHTS",
    published="pipeline_src.methods.cav_mae_sync.weights:PUBLISHED",
)
