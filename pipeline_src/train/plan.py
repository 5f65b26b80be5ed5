"""What a training does at which step: its schedule, and the negatives of its contrast."""

from torch import Tensor

from pipeline_src.config import OptimConfig, PretrainConfig, plan_phases, pretrain_network
from pipeline_src.config.phases import Schedule, even_schedule, make_schedule
from pipeline_src.methods.common.contrast import sample_negatives
from pipeline_src.runs.spec import TrainSpec
from pipeline_src.train.distributed import Ranks
from pipeline_src.train.generators import seeded_generator


def training_schedule(spec: TrainSpec, num_clips: int, num_mel_bins: int) -> Schedule:
    """Every step of a training over ``num_clips`` clips per epoch.

    Raises:
        ConfigError: a mask ratio or batch of the plan is impossible.
    """
    recipe = spec.recipe
    if not isinstance(recipe, PretrainConfig):
        return even_schedule(num_clips, recipe.batch_size, recipe.epochs)
    return make_schedule(
        num_clips,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        phases=plan_phases(pretrain_network(spec.model, recipe, num_mel_bins), recipe),
        phase_epochs=recipe.curriculum.every_epochs,
    )


def step_negatives(
    recipe: OptimConfig, schedule: Schedule, step: int, ranks: Ranks
) -> Tensor | None:
    """Which clips each clip of a step is scored against, (N, N), the same on every rank.

    With ``negatives: fixed`` they are as many as in a batch of ``batch_size`` clips; where the
    contrast stays within a rank, as many as in that rank's share of one. None = all.
    """
    if not isinstance(recipe, PretrainConfig) or recipe.negatives == "all":
        return None
    num_parts = ranks.world_size if recipe.contrast_scope == "local" else 1
    num_clips = schedule.phase(step).batch_size
    generator = seeded_generator(ranks.device, recipe.seed, "negatives", step)
    return sample_negatives(num_clips // num_parts, recipe.batch_size // num_parts, generator)
