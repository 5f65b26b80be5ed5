"""Networks: log-mel and frames in, tokens, logits and reconstructions out."""

from pipeline_src.models.avsiam import AVSiam
from pipeline_src.models.base import AudioVisualModel
from pipeline_src.models.cav_mae import CAVMAE
from pipeline_src.models.factory import create_model
from pipeline_src.models.mavil import MAViL

__all__ = ["CAVMAE", "AVSiam", "AudioVisualModel", "MAViL", "create_model"]
