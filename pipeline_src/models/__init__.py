"""Networks: log-mel and frames in, tokens, logits and reconstructions out."""

from pipeline_src.models.avsiam import AVSiam
from pipeline_src.models.factory import create_model

__all__ = ["AVSiam", "create_model"]
