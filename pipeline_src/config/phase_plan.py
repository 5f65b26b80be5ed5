"""What a pre-training plans to do, epoch by epoch: its mask ratios and its batch sizes.

A phase is a span of ``every_epochs`` epochs with one set of ratios and one batch size; the list
is a pure function of network and recipe, so the dry run knows all of it. The batch rule is our
reconstruction of DiffMAViL's adaptive batch (arXiv:2310.03937), which is not published in detail.
"""

import math
from fractions import Fraction

from pipeline_src.config.phases import Phase
from pipeline_src.config.training import PretrainConfig
from pipeline_src.errors import ConfigError
from pipeline_src.methods import MaskRatios, NetworkConfig
from pipeline_src.modalities import MODALITIES


def plan_phases(network: NetworkConfig, recipe: PretrainConfig) -> tuple[Phase, ...]:
    """Return ratios and batch size of every phase of a pre-training.

    Raises:
        ConfigError: a ratio leaves no token, or a batch is over ``max_batch_size``.
    """
    count = recipe.curriculum.num_phases(recipe.epochs)
    ratios = [_ratios(network, recipe, number, count) for number in range(count)]
    for number, one in enumerate(ratios):
        _check_ratios(network, recipe, one, _span(recipe, number))
    loads = {one: _load(network, recipe, one) for one in dict.fromkeys(ratios)}
    highest = max(loads.values())  # at the schedule's lowest ratio
    phases = []
    for number, one in enumerate(ratios):
        size = recipe.batch_size
        if recipe.adaptive_batch != "none":
            size = adapted_batch_size(size, highest / loads[one], unit=recipe.batch_multiple)
        if 0 < recipe.max_batch_size < size:
            raise ConfigError(
                f"{_span(recipe, number)} has {size} clips per step, more than "
                f"max_batch_size={recipe.max_batch_size}: lower batch_size={recipe.batch_size} "
                f"or the ratio {max(one.audio, one.video):g}"
            )
        phases.append(Phase(size, one))
    return tuple(phases)


def _load(network: NetworkConfig, recipe: PretrainConfig, ratios: MaskRatios) -> Fraction:
    """Return what a clip costs in a step by the rule of ``adaptive_batch``, up to a factor."""
    if recipe.contrast_weight == 0:
        ratios = ratios._replace(listed=())  # the pass is not run
    if recipe.adaptive_batch == "tokens":
        return network.visible_tokens(ratios)
    return network.step_macs(ratios, recipe) if recipe.adaptive_batch == "flops" else Fraction(1)


def adapted_batch_size(reference: int, saving: Fraction | float, *, unit: int) -> int:
    """Return B_e = floor_u(B_ref L(rho_ref) / L(rho_e)), at least u.

    Args:
        reference: B_ref, clips per step at the lowest ratio.
        saving: L(rho_ref) / L(rho_e), how many clips cost what one costs at the lowest ratio.
        unit: u, what every batch size is a multiple of.
    """
    return max(unit, unit * math.floor(reference * saving / unit))


def _ratios(network: NetworkConfig, recipe: PretrainConfig, number: int, count: int) -> MaskRatios:
    curriculum = recipe.curriculum
    given = recipe.reconstruct_ratio
    scheduled = curriculum.ratio(curriculum.start, curriculum.end, number, count)
    video, audio = (
        scheduled if curriculum.is_on and curriculum.modalities != other else given
        for other in MODALITIES
    )
    if not network.has_contrast_pass:
        return MaskRatios(audio, video, recipe.listed_ratios(network.ratio_key))
    starts = recipe.contrast_ratios
    ends = curriculum.contrast_ratios_end or starts
    contrast = (
        curriculum.ratio(first, last, number, count)
        for first, last in zip(starts, ends, strict=True)
    )
    return MaskRatios(audio, video, tuple(contrast))


def _check_ratios(
    network: NetworkConfig, recipe: PretrainConfig, ratios: MaskRatios, span: str
) -> None:
    sizes = {"audio": network.num_audio_tokens, "video": network.num_video_tokens}
    for modality, num_tokens in sizes.items():
        for key, ratio in _asked(network, recipe, ratios, modality):
            if int(num_tokens * (1 - ratio)) < 1:
                raise ConfigError(
                    f"{span}: mask ratio {ratio:g} leaves none of the {num_tokens} {modality} "
                    f"tokens; set pretrain.{key} below 1 - 1 / {num_tokens}"
                )


def _asked(
    network: NetworkConfig, recipe: PretrainConfig, ratios: MaskRatios, modality: str
) -> list[tuple[str, float]]:
    """Return each mask ratio that tokens of a modality meet, after the ``pretrain`` key of it."""
    listed = [(network.ratio_key, ratio) for ratio in ratios.listed]
    if listed and not network.has_contrast_pass:
        return listed
    curriculum = recipe.curriculum
    is_scheduled = curriculum.is_on and curriculum.modalities in (modality, "both")
    own = ("curriculum" if is_scheduled else "reconstruct_ratio", getattr(ratios, modality))
    return [own, *listed]


def _span(recipe: PretrainConfig, number: int) -> str:
    if not recipe.curriculum.is_on:
        return "every epoch"
    return f"from epoch {number * recipe.curriculum.every_epochs:g} of {recipe.epochs:g}"
