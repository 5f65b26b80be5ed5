"""The clips of a training: which, in which form, in which order, and those it is validated on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline_src.config import FinetuneConfig, PretrainConfig
from pipeline_src.config.heads import scored_heads
from pipeline_src.config.networks import network_sizes
from pipeline_src.errors import ManifestError
from pipeline_src.evaluate.predict import quick_accuracy
from pipeline_src.loader.batches import Batch, to_device, training_batches
from pipeline_src.loader.clip_format import ClipFormat
from pipeline_src.loader.dataset import ClipDataset
from pipeline_src.loader.mixup import Mixup, read_mixup
from pipeline_src.loader.sampler import (
    ClipWeights,
    EpochSampler,
    balanced_weights,
    stratified_subset,
)
from pipeline_src.methods.common.network import AudioVisualModel
from pipeline_src.runs.build import segment_rule
from pipeline_src.runs.spec import TrainSpec
from pipeline_src.shards.read import ShardSet, open_shards
from pipeline_src.train.decode_failures import DecodeFailures
from pipeline_src.train.distributed import Ranks
from pipeline_src.train.progress import TrainProgress


def training_shards(spec: TrainSpec) -> ShardSet:
    """The labelled share of the training splits that the recipe learns from.

    Raises:
        ManifestError: there are no clips.
    """
    shards = open_shards(spec.train_indexes, spec.remote)
    fraction = getattr(spec.recipe, "label_fraction", 1.0)
    if fraction < 1:
        labels = [sample.labels for sample in shards.samples]
        shards = shards.subset(stratified_subset(labels, fraction, spec.recipe.seed))
    if not len(shards):
        raise ManifestError(f"{spec.train_indexes[0]}: the training split holds no clips")
    return shards


@contextmanager
def training_stream(
    spec: TrainSpec,
    shards: ShardSet,
    progress: TrainProgress,
    ranks: Ranks,
    failures: DecodeFailures,
) -> Iterator[Iterator[Batch]]:
    """This rank's batches from the progress's step to the last, on its device.

    The processes that make them end with this context, whatever ends it.

    Args:
        failures: counts the clips that had to be replaced.
    """
    recipe = spec.recipe
    sampler = EpochSampler(
        len(shards),
        progress.schedule,
        recipe.seed,
        ranks.rank,
        ranks.world_size,
        _clip_weights(recipe, shards),
    )
    seen = _format(spec, shards, training=True)
    with training_batches(
        ClipDataset(shards, seen, _mixup(spec), replaces=recipe.max_decode_errors > 0),
        sampler,
        first_step=progress.step,
        last_step=progress.num_steps,
        num_workers=recipe.num_workers,
        prefetch=recipe.prefetch_batches,
        pin_memory=ranks.device.type == "cuda",
    ) as batches:
        yield (to_device(failures.take(batch), ranks.device, seen) for batch in batches)


def validation(
    spec: TrainSpec,
    model: AudioVisualModel,
    shards: ShardSet,
    ranks: Ranks,
    sign: Callable[[str], None],
) -> Callable[[], dict[str, float]] | None:
    """What scores the network between epochs; None in a pre-training and without such clips.

    Args:
        sign: told of every batch.
    """
    held_out = open_shards(spec.val_indexes, spec.remote) if spec.val_indexes else None
    if not isinstance(spec.recipe, FinetuneConfig) or held_out is None or not len(held_out):
        return None
    dataset = ClipDataset(held_out, _format(spec, shards, training=False))
    batch_size = spec.recipe.batch_size
    heads = scored_heads(spec.recipe.modality_probs, shards.modalities, model.config.heads)
    return lambda: quick_accuracy(
        model,
        dataset,
        heads=heads,
        batch_size=batch_size,
        device=ranks.device,
        rank=ranks.rank,
        world_size=ranks.world_size,
        sign=sign,
    )


def _format(spec: TrainSpec, shards: ShardSet, *, training: bool) -> ClipFormat:
    num_frames = spec.recipe.num_frames
    network = network_sizes(spec.model, num_frames=num_frames, num_mel_bins=shards.num_mel_bins)
    num_groups = network.classified_groups if spec.stage == "finetune" else 1
    return ClipFormat(
        target_length=spec.model.target_length,
        img_size=spec.model.img_size,
        num_frames=num_groups * num_frames,
        logmel_mean=shards.logmel_mean,
        logmel_std=shards.logmel_std,
        training=training,
        seed=spec.recipe.seed,
        fps=spec.recipe.fps,
        window_frames=num_frames,
        segments=segment_rule(network, shards.front_end),
    )


def _clip_weights(recipe: PretrainConfig | FinetuneConfig, shards: ShardSet) -> ClipWeights | None:
    if not isinstance(recipe, FinetuneConfig) or not recipe.balanced_sampling:
        return None
    return balanced_weights([sample.labels for sample in shards.samples])


def _mixup(spec: TrainSpec) -> Mixup | None:
    recipe = spec.recipe
    if not isinstance(recipe, FinetuneConfig) or not recipe.mixup:
        return None
    return read_mixup(spec.train_indexes, probability=recipe.mixup, alpha=recipe.mixup_alpha)
