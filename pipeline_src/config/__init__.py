"""The configuration: typed sections, their defaults, and the files generated from them."""

from pipeline_src.config.curriculum import CurriculumConfig
from pipeline_src.config.data import (
    AudioConfig,
    DownloadConfig,
    MediaConfig,
    PlanConfig,
    RateLimitConfig,
    RemoteConfig,
    ShardsConfig,
)
from pipeline_src.config.evaluation import EvaluateConfig, ReportConfig, SubmitConfig
from pipeline_src.config.load import (
    default_config,
    load_config,
    merge_files,
    read_config,
    resolve_run,
)
from pipeline_src.config.networks import pretrain_network
from pipeline_src.config.optim import AugmentConfig, OptimConfig
from pipeline_src.config.root import Config, RunConfig
from pipeline_src.config.segments import Segment, plan_segments
from pipeline_src.config.training import FinetuneConfig, ModelConfig, PretrainConfig
from pipeline_src.config.yaml_files import read_yaml

__all__ = [
    "AudioConfig",
    "AugmentConfig",
    "Config",
    "CurriculumConfig",
    "DownloadConfig",
    "EvaluateConfig",
    "FinetuneConfig",
    "MediaConfig",
    "ModelConfig",
    "OptimConfig",
    "PlanConfig",
    "PretrainConfig",
    "RateLimitConfig",
    "RemoteConfig",
    "ReportConfig",
    "RunConfig",
    "Segment",
    "ShardsConfig",
    "SubmitConfig",
    "default_config",
    "load_config",
    "merge_files",
    "plan_segments",
    "pretrain_network",
    "read_config",
    "read_yaml",
    "resolve_run",
]
