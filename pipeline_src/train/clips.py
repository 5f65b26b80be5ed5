"""The clips of a training: which, in which form, in which order, and those it is validated on."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline_src.config import FinetuneConfig, ModelConfig, OptimConfig, PretrainConfig
from pipeline_src.config.data import RemoteConfig
from pipeline_src.config.networks import network_config_of
from pipeline_src.errors import ManifestError
from pipeline_src.evaluate.predict import quick_accuracy
from pipeline_src.loader.batches import Batch, to_device, training_batches
from pipeline_src.loader.clip_format import ClipFormat
from pipeline_src.loader.dataset import ClipDataset
from pipeline_src.loader.sampler import ClipWeights, EpochSampler, stratified_subset
from pipeline_src.methods.common.network import AudioVisualModel
from pipeline_src.runs.build import segment_rule
from pipeline_src.shards.shard_set import ShardSet, open_shards
from pipeline_src.train.decode_failures import DecodeFailures
from pipeline_src.train.distributed import Ranks
from pipeline_src.train.progress import TrainProgress
from pipeline_src.train.task import Task


def training_shards(
    index_paths: Sequence[Path], remote: RemoteConfig, *, label_fraction: float, seed: int
) -> ShardSet:
    """Open the labelled share of the training splits that a task learns from.

    Raises:
        ManifestError: there are no clips.
    """
    shards = open_shards(index_paths, remote)
    if label_fraction < 1:
        labels = [sample.labels for sample in shards.samples]
        shards = shards.subset(stratified_subset(labels, label_fraction, seed))
    if not len(shards):
        raise ManifestError(f"{index_paths[0]}: the training split holds no clips")
    return shards


def training_format(
    task: Task, model: ModelConfig, recipe: PretrainConfig | FinetuneConfig, shards: ShardSet
) -> ClipFormat:
    """Return the form in which the network sees the clips in training."""
    num_frames = recipe.num_frames
    network = network_config_of(model, num_frames=num_frames, num_mel_bins=shards.num_mel_bins)
    return ClipFormat(
        target_length=model.target_length,
        img_size=model.img_size,
        num_frames=task.num_groups(network) * num_frames,
        logmel_mean=shards.logmel_mean,
        logmel_std=shards.logmel_std,
        training=True,
        seed=recipe.seed,
        fps=recipe.fps,
        window_frames=num_frames,
        segments=segment_rule(network, shards.front_end),
    )


@contextmanager
def training_stream(
    dataset: ClipDataset,
    weights: ClipWeights | None,
    recipe: OptimConfig,
    progress: TrainProgress,
    ranks: Ranks,
    failures: DecodeFailures,
) -> Iterator[Iterator[Batch]]:
    """Give this rank's batches from the next step to the last, on its device.

    The processes that make them end with this context, whatever ends it. The shapes are those of
    ``ClipDataset.__getitems__``.

    Args:
        weights: chances of the clips to be drawn; None = each once per epoch.
        failures: counts the clips that had to be replaced.
    """
    sampler = EpochSampler(
        len(dataset), progress.schedule, recipe.seed, ranks.rank, ranks.world_size, weights
    )
    with training_batches(
        dataset,
        sampler,
        first_step=progress.step,
        last_step=progress.num_steps,
        num_workers=recipe.num_workers,
        prefetch=recipe.prefetch_batches,
        pin_memory=ranks.device.type == "cuda",
    ) as batches:
        yield (to_device(failures.take(batch), ranks.device, dataset.format) for batch in batches)


def validation(
    held_out: ShardSet | None,
    model: AudioVisualModel,
    clip_format: ClipFormat,
    heads: Sequence[str],
    recipe: OptimConfig,
    ranks: Ranks,
    heartbeat: Callable[[str], None],
) -> Callable[[], dict[str, float]] | None:
    """Return what scores the network between epochs; None without heads or clips.

    Args:
        clip_format: of the training clips, without random choices.
        heartbeat: told of every batch.
    """
    if not heads or held_out is None or not len(held_out):
        return None
    dataset = ClipDataset(held_out, clip_format)
    return lambda: quick_accuracy(
        model,
        dataset,
        heads=tuple(heads),
        batch_size=recipe.batch_size,
        num_workers=recipe.num_workers,
        device=ranks.device,
        rank=ranks.rank,
        world_size=ranks.world_size,
        heartbeat=heartbeat,
    )
