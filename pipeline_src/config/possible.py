"""Is a run possible? Every question that its settings alone answer, one function each.

``refuse_impossible`` asks them all, of every run and before anything is made. What needs data sets
or files is asked in ``catalog.possible``.
"""

from pipeline_src.config.data import MediaConfig
from pipeline_src.config.networks import input_sizes, network_config_of, pretrain_network
from pipeline_src.config.phase_plan import plan_phases
from pipeline_src.config.root import Config, RunConfig
from pipeline_src.config.sources import check_sources
from pipeline_src.config.training import FinetuneConfig, PretrainConfig
from pipeline_src.errors import ConfigError
from pipeline_src.methods import NetworkConfig, find_method, make_network_config
from pipeline_src.methods.common.config import multiples_near
from pipeline_src.modalities import HEADS


def refuse_impossible(config: Config, name: str, run: RunConfig) -> None:
    """Ask every question of run ``name``.

    Raises:
        ConfigError: the first that is answered with no; names the keys and their values.
    """
    try:
        _check_shares(run)
        _check_curriculum(run)
        _check_frames(run)
        _check_evaluated_windows(run)
    except ConfigError as error:
        raise ConfigError(f"configuration refused:\n  runs.{name}: {error}") from None
    try:
        _check_mixup(config, run)
        for stage, recipe in (("pretrain", run.pretrain), ("finetune", run.finetune)):
            _check_stored_frames(stage, recipe, config.media)
        _check_network(run, config.audio.num_mel_bins)
        _check_classifier(run, config)
        _check_plan(run, config.audio.num_mel_bins)
    except ConfigError as error:
        raise ConfigError(f"run {name}: {error}") from None
    check_sources(config, name, run)


def _check_shares(run: RunConfig) -> None:
    """Refuse a batch that has no clip for each of the ratios that share it.

    Raises:
        ConfigError: ``batch_size`` is smaller than the number of ratios.
    """
    pretrain = run.pretrain
    key = find_method(run.model.method).config.ratio_key
    ratios = pretrain.listed_ratios(key)
    if pretrain.batch_size < len(ratios):
        raise ConfigError(
            f"pretrain.batch_size={pretrain.batch_size} is smaller than the number of "
            f"{key}, {len(ratios)}"
        )


def _check_curriculum(run: RunConfig) -> None:
    """Refuse a curriculum that schedules nothing of this method.

    Raises:
        ConfigError: ratios are listed in place of the one that it schedules, what it schedules
            has no weight, or the contrast has no ratio of its own.
    """
    pretrain, method = run.pretrain, run.model.method
    network = find_method(method).config
    passes_apart = network.has_contrast_pass
    if not pretrain.curriculum.is_on:
        return
    listed = pretrain.listed_ratios(network.ratio_key)
    if listed and not passes_apart:
        raise ConfigError(
            f"pretrain.{network.ratio_key}={list(listed)} stand for the mask ratio that "
            "pretrain.curriculum schedules; give one of them"
        )
    if passes_apart and pretrain.reconstruct_weight == 0:
        raise ConfigError(
            f"pretrain.curriculum schedules the reconstruction of {method}, but "
            "pretrain.reconstruct_weight is 0"
        )
    if pretrain.curriculum.contrast_ratios_end and not passes_apart:
        raise ConfigError(
            f"pretrain.curriculum.contrast_ratios_end: {method} contrasts under "
            "the mask of its reconstruction; leave it empty"
        )


def _check_frames(run: RunConfig) -> None:
    """Refuse numbers of frames that the next stage could not take over.

    Where the start is another run's or a converted one, ``catalog.possible`` compares with that.

    Raises:
        ConfigError: fine-tuning sees another number than pre-training, evaluation a smaller one.
    """
    seen = run.finetune.num_frames
    elsewhere = run.finetune.checkpoint_run or run.finetune.checkpoint or run.pretrain.checkpoint
    starts_from_own = run.finetune.init == "pretrain" and not elsewhere
    if starts_from_own and run.pretrain.num_frames != seen:
        raise ConfigError(
            f"finetune.num_frames={seen} must equal pretrain.num_frames="
            f"{run.pretrain.num_frames}, or finetune.init be scratch"
        )
    if run.evaluate.num_frames < seen:
        raise ConfigError(
            f"evaluate.num_frames={run.evaluate.num_frames} must be at least "
            f"finetune.num_frames={seen}"
        )


def _check_evaluated_windows(run: RunConfig) -> None:
    shown, size = run.evaluate.num_frames, run.finetune.num_frames
    if run.finetune.fps and shown % size:
        raise ConfigError(
            f"evaluate.num_frames={shown} must be a multiple of finetune.num_frames={size}: "
            f"with finetune.fps={run.finetune.fps:g} it is a number of whole windows"
        )


def _check_mixup(config: Config, run: RunConfig) -> None:
    mixup = run.finetune.mixup
    if mixup and not config.shards.waveform and not run.finetune.checkpoint:
        raise ConfigError(f"finetune.mixup = {mixup:g} mixes waveforms; set shards.waveform: true")


def _check_stored_frames(
    stage: str, recipe: PretrainConfig | FinetuneConfig, media: MediaConfig
) -> None:
    """Refuse frames that no clip can give.

    Raises:
        ConfigError: a clip has too few, at too low a rate or uneven, or is too short.
    """
    if not recipe.fps:
        if 0 < media.num_frames < recipe.num_frames:
            raise ConfigError(
                f"{stage}.num_frames = {recipe.num_frames}, but a clip has "
                f"media.num_frames = {media.num_frames}; store that many or lower it"
            )
        return
    if recipe.fps > media.frame_rate:
        raise ConfigError(
            f"{stage}.fps = {recipe.fps:g} needs frames stored at that rate, but "
            f"media.frame_rate = {media.frame_rate:g}; set media.frame_rate to {recipe.fps:g} "
            "or more and media.num_frames to 0"
        )
    if media.frame_times != "exact":
        raise ConfigError(
            f"{stage}.fps = {recipe.fps:g} needs evenly spaced frames, but "
            f"media.frame_times = {media.frame_times}; set media.frame_times to exact"
        )
    seconds = recipe.num_frames / recipe.fps
    if seconds > media.max_seconds:
        raise ConfigError(
            f"{stage}.num_frames = {recipe.num_frames} at fps = {recipe.fps:g} "
            f"last {seconds:g} s, longer than any clip (media.max_seconds = "
            f"{media.max_seconds:g})"
        )


def _check_classifier(run: RunConfig, config: Config) -> None:
    """Refuse a classifier that asks for frames or heads that there are not.

    Raises:
        ConfigError: evaluation has no whole groups of frames, a clip has too few of them, or a
            head that is not there has a share.
    """
    if run.finetune.skip or run.finetune.checkpoint:
        return
    shape = {"num_frames": run.finetune.num_frames, "num_mel_bins": config.audio.num_mel_bins}
    network = network_config_of(run.model, **shape)
    if network.clip_length and run.evaluate.num_frames % run.finetune.num_frames:
        raise ConfigError(
            f"evaluate.num_frames={run.evaluate.num_frames} must be a multiple of "
            f"finetune.num_frames={run.finetune.num_frames}: with model.overrides.clip_length="
            f"{network.clip_length} each group of them has its segment of sound"
        )
    shown = network.classified_groups * run.finetune.num_frames
    if 0 < config.media.num_frames < shown:
        raise ConfigError(
            f"the classifier takes {shown} frames of a clip, but a clip has media.num_frames = "
            f"{config.media.num_frames}; store that many or lower model.overrides.num_segments"
        )
    shares = dict(zip(HEADS, run.finetune.modality_probs, strict=True))
    if missing := [head for head in HEADS if shares[head] > 0 and head not in network.heads]:
        raise ConfigError(
            f"finetune.modality_probs={list(shares.values())} trains {missing[0]}, but this "
            f"classifier scores {' and '.join(network.heads)} alone; give the others 0"
        )


def _check_network(run: RunConfig, num_mel_bins: int) -> None:
    """Refuse a network that could not be built, or whose settings change nothing.

    Raises:
        ConfigError: an override has a key of its own or is refused by the network, or a key of the
            recipe changes nothing.
    """
    sizes = {"num_frames": run.finetune.num_frames, "num_mel_bins": num_mel_bins}
    own_keys = {*input_sizes(run.model, **sizes), "num_classes", "init"}
    if twice := own_keys & set(run.model.overrides):
        raise ConfigError(
            f"model.overrides.{min(twice)} has a key of its own in the configuration; set it there"
        )
    try:
        network = network_config_of(run.model, **sizes)
    except ConfigError as error:
        raise ConfigError(f"model.overrides: {error}") from None
    _check_patches(network, run.model.name)
    network.check_recipe(run.pretrain)


def _check_patches(network: NetworkConfig, name: str) -> None:
    """Refuse a log-mel whose last bins or frames no patch would cover.

    But for that of the method's own default: the published huge networks leave a rest.

    Args:
        name: the network's, e.g. avsiam_huge.
    Raises:
        ConfigError: names the key, its value and the patch's.
    """
    inputs = ("num_mel_bins", "target_length", "audio_patch")
    published = make_network_config(name)
    if all(getattr(network, key) == getattr(published, key) for key in inputs):
        return
    sizes = (("audio", "num_mel_bins", "mel bins"), ("model", "target_length", "frames"))
    for (section, key, what), unit in zip(sizes, network.audio_patch, strict=True):
        size = getattr(network, key)
        if size % unit:
            raise ConfigError(
                f"{section}.{key}={size} is not a multiple of {unit}, the {what} of an audio patch "
                f"(model.overrides.audio_patch_size), so the last {size % unit} would not be seen; "
                f"set it to {multiples_near(size, unit)}"
            )


def _check_plan(run: RunConfig, num_mel_bins: int) -> None:
    """Refuse mask ratios and batches that some step of a pre-training could not take.

    Raises:
        ConfigError: the phases cannot be planned.
    """
    if run.pretrain.checkpoint:
        return
    try:
        plan_phases(pretrain_network(run.model, run.pretrain, num_mel_bins), run.pretrain)
    except ConfigError as error:
        raise ConfigError(f"pretrain: {error}") from None
