"""What a training does at which step: its timetable, and what an objective is told about it."""

from pipeline_src.config import OptimConfig, PretrainConfig, plan_segments, pretrain_network
from pipeline_src.loader.timetable import Timetable, even_timetable, make_timetable
from pipeline_src.methods.common.setting import StepSetting, draw_candidates
from pipeline_src.runs.spec import TrainSpec
from pipeline_src.train.distributed import Ranks
from pipeline_src.train.generators import seeded_generator


def training_timetable(spec: TrainSpec, num_clips: int, num_mel_bins: int) -> Timetable:
    """Every step of a training over ``num_clips`` clips per epoch.

    Raises:
        ConfigError: a mask ratio or batch of the plan is impossible.
    """
    recipe = spec.recipe
    if not isinstance(recipe, PretrainConfig):
        return even_timetable(num_clips, recipe.batch_size, recipe.epochs)
    return make_timetable(
        num_clips,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        segments=plan_segments(pretrain_network(spec.model, recipe, num_mel_bins), recipe),
        segment_epochs=recipe.curriculum.every_epochs,
    )


def step_setting(
    recipe: OptimConfig, timetable: Timetable, step: int, ranks: Ranks
) -> StepSetting | None:
    """Mask ratios and contrast candidates of a step, the same on every rank.

    With ``negatives: fixed`` each clip has as many candidates as in a batch of ``batch_size``
    clips; where the contrast stays within a rank, as many as in that rank's share of one.
    """
    if not isinstance(recipe, PretrainConfig):
        return None
    stretch = timetable.stretch(step)
    assert stretch.ratios is not None  # a pre-training's segments have them
    if recipe.negatives == "all":
        return StepSetting(stretch.ratios)
    num_parts = ranks.world_size if recipe.contrast_scope == "local" else 1
    generator = seeded_generator(ranks.device, recipe.seed, "negatives", step)
    return StepSetting(
        stretch.ratios,
        draw_candidates(stretch.batch_size // num_parts, recipe.batch_size // num_parts, generator),
    )
