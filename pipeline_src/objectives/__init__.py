"""Losses: modules that wrap a network, take a batch and a plan, and return {"loss": ..., ...}."""

from pipeline_src.objectives.cav_mae import CAVMAEPretrain
from pipeline_src.objectives.classify import Classify
from pipeline_src.objectives.pretrain import AVSiamPretrain
from pipeline_src.objectives.setting import StepSetting

TrainObjective = AVSiamPretrain | CAVMAEPretrain | Classify

__all__ = ["AVSiamPretrain", "CAVMAEPretrain", "Classify", "StepSetting", "TrainObjective"]
