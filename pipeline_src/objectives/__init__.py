"""Losses: modules that wrap a network, take a batch and a plan, and return {"loss": ..., ...}."""

from pipeline_src.objectives.cav_mae import CAVMAEPretrain
from pipeline_src.objectives.classify import Classify
from pipeline_src.objectives.mavil import MAViLPretrain
from pipeline_src.objectives.pretrain import AVSiamPretrain
from pipeline_src.objectives.setting import StepSetting

TrainObjective = AVSiamPretrain | CAVMAEPretrain | MAViLPretrain | Classify

__all__ = [
    "AVSiamPretrain",
    "CAVMAEPretrain",
    "Classify",
    "MAViLPretrain",
    "StepSetting",
    "TrainObjective",
]
