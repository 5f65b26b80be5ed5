"""CAV-MAE (arXiv:2210.07839)."""

from pipeline_src.methods.cav_mae.config import CAVMAEConfig
from pipeline_src.methods.common.method import Method

METHOD = Method(
    config=CAVMAEConfig,
    network="pipeline_src.methods.cav_mae.network:CAVMAE",
    objective="pipeline_src.methods.cav_mae.objective:CAVMAEPretrain",
    image_weights="pipeline_src.methods.cav_mae.weights:IMAGE_WEIGHTS",
    published="pipeline_src.methods.cav_mae.weights:PUBLISHED",
)
