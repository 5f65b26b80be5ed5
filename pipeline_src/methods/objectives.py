"""Losses: modules that wrap a network, take a batch and a plan, and return {"loss": ..., ...}."""

from pipeline_src.methods.avsiam.objective import AVSiamPretrain
from pipeline_src.methods.cav_mae.objective import CAVMAEPretrain
from pipeline_src.methods.common.classify import Classify
from pipeline_src.methods.mavil.objective import MAViLPretrain

TrainObjective = AVSiamPretrain | CAVMAEPretrain | MAViLPretrain | Classify

__all__ = [
    "AVSiamPretrain",
    "CAVMAEPretrain",
    "Classify",
    "MAViLPretrain",
    "TrainObjective",
]
