"""MAViL (arXiv:2212.08071) and DiffMAViL (arXiv:2310.03937), one family of networks."""

from dataclasses import replace

from pipeline_src.methods.common.method import Method
from pipeline_src.methods.mavil.config import DiffMAViLConfig, MAViLConfig

METHOD = Method(
    config=MAViLConfig,
    network="pipeline_src.methods.mavil.network:MAViL",
    objective="pipeline_src.methods.mavil.objective:MAViLPretrain",
    image_weights="pipeline_src.methods.mavil.weights:IMAGE_WEIGHTS",
)
DIFFUSION = replace(METHOD, config=DiffMAViLConfig)
