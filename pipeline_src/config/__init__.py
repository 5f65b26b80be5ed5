"""The configuration: typed sections, their defaults, and the files generated from them."""

from pipeline_src.config.data import (
    AudioConfig,
    DownloadConfig,
    MediaConfig,
    NetworkConfig,
    PlanConfig,
    ShardsConfig,
)
from pipeline_src.config.load import load_config, read_config, resolve_run
from pipeline_src.config.root import Config, RunConfig
from pipeline_src.config.training import (
    AugmentConfig,
    EvaluateConfig,
    FinetuneConfig,
    ModelConfig,
    OptimConfig,
    PretrainConfig,
    ReportConfig,
    SubmitConfig,
)

__all__ = [
    "AudioConfig",
    "AugmentConfig",
    "Config",
    "DownloadConfig",
    "EvaluateConfig",
    "FinetuneConfig",
    "MediaConfig",
    "ModelConfig",
    "NetworkConfig",
    "OptimConfig",
    "PlanConfig",
    "PretrainConfig",
    "ReportConfig",
    "RunConfig",
    "ShardsConfig",
    "SubmitConfig",
    "load_config",
    "read_config",
    "resolve_run",
]
