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
from pipeline_src.config.phase_plan import plan_phases
from pipeline_src.config.phases import Phase, Schedule, even_schedule, make_schedule
from pipeline_src.config.root import Config, RunConfig
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
    "Phase",
    "PlanConfig",
    "PretrainConfig",
    "RateLimitConfig",
    "RemoteConfig",
    "ReportConfig",
    "RunConfig",
    "Schedule",
    "ShardsConfig",
    "SubmitConfig",
    "default_config",
    "even_schedule",
    "load_config",
    "make_schedule",
    "merge_files",
    "plan_phases",
    "pretrain_network",
    "read_config",
    "read_yaml",
    "resolve_run",
]
