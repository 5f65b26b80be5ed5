"""What a training job asks of the machine: the resources of its rule, set in the profile."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from pipeline_src.config import OptimConfig
from pipeline_src.errors import ConfigError

# Slurm tells the job this long before its limit; a short limit keeps most of its time for work.
SIGNAL_DELAY_SECONDS = 120
SIGNAL_SHARE = 0.25


@dataclass(frozen=True)
class JobRequest:
    """Resources of one training job, named as in Snakemake's Slurm plugin where it has them.

    Args:
        tasks_per_node: ranks per node, one per GPU.
        cpus_per_task: CPU cores per rank; 0 = the rule's threads shared by the ranks of a node.
        mem_mb: memory per node; 0 = the cluster's default.
        runtime: time limit of one job in minutes; the training continues in the next one.
        slurm_partition, slurm_account, qos, constraint: empty = the cluster's default.
        slurm_extra: further sbatch options, e.g. ``--reservation=x --exclude=n7``.
    """

    nodes: int = 1
    tasks_per_node: int = 1
    cpus_per_task: int = 0
    gpus_per_node: int = 0
    mem_mb: int = 0
    runtime: int = 24 * 60
    slurm_partition: str = ""
    slurm_account: str = ""
    qos: str = ""
    constraint: str = ""
    slurm_extra: str = ""

    @classmethod
    def from_resources(cls, resources: Mapping[str, Any]) -> "JobRequest":
        """Take what a rule's resources name; the rest keeps its default."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: resources[name] for name in names if name in resources})

    @property
    def num_ranks(self) -> int:
        """Ranks over all nodes."""
        return self.nodes * self.tasks_per_node

    @property
    def signal_delay_seconds(self) -> int:
        """How long before the time limit the job is told to save."""
        return int(min(SIGNAL_DELAY_SECONDS, SIGNAL_SHARE * self.runtime * 60))

    def threads(self, rule_threads: int) -> int:
        """Return the CPU threads per rank."""
        return self.cpus_per_task or max(1, rule_threads // self.tasks_per_node)

    def check_batches(self, stage: str, recipe: OptimConfig) -> None:
        """Refuse ranks that could not share every batch of a training equally.

        Raises:
            ConfigError: names the key and the number of ranks.
        """
        name, unit = recipe.batch_unit
        if unit % self.num_ranks:
            raise ConfigError(
                f"{stage}.{name}={unit} is not divisible by {self.num_ranks} ranks "
                f"(nodes={self.nodes}, tasks_per_node={self.tasks_per_node} in the profile)"
            )

    def slurm_parameters(self) -> dict[str, Any]:
        """Return submitit's parameters that only Slurm knows."""
        plain = {
            "slurm_partition": self.slurm_partition,
            "slurm_account": self.slurm_account,
            "slurm_qos": self.qos,
            "slurm_constraint": self.constraint,
            "slurm_mem": f"{self.mem_mb}M" if self.mem_mb else "",
        }
        return {name: value for name, value in plain.items() if value}

    def extra_options(self) -> dict[str, Any]:
        """Parse ``slurm_extra`` into option -> value.

        Raises:
            ConfigError: it is not a list of long options.
        """
        options: dict[str, Any] = {}
        for word in shlex.split(self.slurm_extra):
            name, _, value = word.removeprefix("--").partition("=")
            if not word.startswith("--") or not name:
                raise ConfigError(f"slurm_extra: {word!r} is not of the form --option=value")
            options[name] = value or True
        return options
