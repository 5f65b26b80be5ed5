"""What both evaluations share: the scored split, a network run over it, arrays, provenance.

Scores and probes are computed by one process, with loader processes and without ranks: a split is
small beside a training's, its clips are each scored once, and none can be left over.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline_src.config import EvaluateConfig, ModelConfig, RemoteConfig
from pipeline_src.datasets.clip_groups import read_groups
from pipeline_src.errors import CheckpointError, ManifestError
from pipeline_src.evaluate.predict import Outputs, pooled_features, run_over
from pipeline_src.loader.batches import Batch
from pipeline_src.loader.dataset import ClipDataset
from pipeline_src.manifest.losses import first_loss
from pipeline_src.methods.common.network import AudioVisualModel
from pipeline_src.runs.build import evaluation_format, restore_model
from pipeline_src.runs.checkpoint import MODEL_FILE, Checkpoint
from pipeline_src.runs.normalisation import warn_of_differences
from pipeline_src.runs.provenance import git_commit, package_versions
from pipeline_src.runs.spec import score_hashes
from pipeline_src.shards.reader import ShardReader
from pipeline_src.shards.samples import Sample
from pipeline_src.shards.shard_set import ShardSet, open_shards
from pipeline_src.system.atomic import atomic_path


@dataclass(frozen=True)
class Split:
    """One split of a data set with the head of its index.json.

    Args:
        groups: clip_id -> what it shares with other clips, of those that the list names it of.
    """

    shards: ShardSet
    index: dict[str, Any]
    path: Path
    groups: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.index['dataset']}/{self.index['split']}"

    def dataset(self, checkpoint: Checkpoint, evaluate: EvaluateConfig) -> ClipDataset:
        """Open its clips as the checkpoint wants them, ``evaluate.num_frames`` frames each."""
        return ClipDataset(
            self.shards, evaluation_format(checkpoint, num_frames=evaluate.num_frames)
        )

    @property
    def has_video(self) -> bool:
        """Whether its clips have frames."""
        return "video" in self.shards.modalities

    def coverage(self) -> dict[str, Any]:
        """Say how many of the listed clips are scored, and give the hash of which."""
        keys = ("dataset", "split", "task", "modalities", "num_clips", "num_clips_in_list")
        return {key: self.index[key] for key in (*keys, "clip_ids_sha256")}


def open_split(index_path: Path, config: dict[str, Any], groups_path: Path | None = None) -> Split:
    """Open a split for scoring.

    Args:
        config: the whole configuration; its section remote says how shards at URLs are read.
        groups_path: what its clips share; None where the list says nothing of it.
    Raises:
        ManifestError: it holds no clips; says why, with the first.
    """
    index = json.loads(index_path.read_text(encoding="utf-8"))
    shards = open_shards((index_path,), RemoteConfig(**config.get("remote", {})))
    if not len(shards):
        listed = ", ".join(f"{reason} {count}" for reason, count in index["reasons"].items())
        manifests = sorted(index_path.parent.glob("[0-9]*.json"))
        first = next(filter(None, map(first_loss, manifests)), "")
        raise ManifestError(
            f"{index_path}: 0 of {index['num_clips_in_list']} clips, nothing to score; "
            f"lost: {listed}{first and '; the first: '}{first}"
        )
    return Split(shards, index, index_path, read_groups(groups_path) if groups_path else {})


def shared_sources(split: Split, places: Sequence[int]) -> Outputs:
    """Name the group of each clip, else its source, as ``sources`` (N,), where clips share some.

    What compares figures draws such clips together. Shards at URLs are not fetched again for it.
    """
    samples = [split.shards.samples[place] for place in places]
    unnamed = [sample for sample in samples if sample.clip_id not in split.groups]
    if not all(isinstance(sample.shard, Path) for sample in unnamed):
        return {}
    named = {**split.groups, **_read_sources(unnamed)}
    sources = [named[sample.clip_id] for sample in samples]
    return {"sources": np.array(sources)} if len(set(sources)) < len(sources) else {}


def _read_sources(samples: Sequence[Sample]) -> dict[str, str]:
    """Read the source of each clip of local shards, by clip_id."""
    reader = ShardReader()
    members = {sample.clip_id: reader.read(sample, ("json",))["json"] for sample in samples}
    return {clip_id: json.loads(bytes(member))["source"] for clip_id, member in members.items()}


def check_fits(checkpoint: Checkpoint, split: Split, model: ModelConfig) -> list[str]:
    """Refuse a checkpoint of another network than the run names, or for other inputs.

    Returns:
        Warnings: how the log-mels differ from those that it has learnt.
    Raises:
        CheckpointError: method or size differ, or the number of mel bins.
    """
    trained = checkpoint.spec.model.name
    if trained != model.name:
        raise CheckpointError(
            f"{checkpoint.folder}: holds {trained}, the run's model is {model.name}; set "
            "model.method and model.size to the checkpoint's, or name another checkpoint"
        )
    expected, found = checkpoint.state["num_mel_bins"], split.shards.num_mel_bins
    if expected != found:
        raise CheckpointError(
            f"{checkpoint.folder}: takes {expected} mel bins, the shards of "
            f"{split.index['dataset']} hold {found}; set audio.num_mel_bins: {expected}"
        )
    return warn_of_differences(checkpoint, split.shards, "evaluate")


def num_seen_frames(checkpoint: Checkpoint, evaluate: EvaluateConfig) -> int:
    """Count the frames of a clip that the network is shown: whole groups alone."""
    size = checkpoint.spec.recipe.num_frames
    return evaluate.num_frames // size * size


def pick_device() -> torch.device:
    """Choose the GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def run_checkpoint(
    checkpoint: Checkpoint,
    split: Split,
    evaluate: EvaluateConfig,
    step: Callable[[AudioVisualModel, Batch], dict[str, Tensor]],
    *,
    label: str,
    trained: bool = True,
) -> Outputs:
    """Apply ``step`` of a checkpoint's network to every clip of a split: see ``run_over``.

    Args:
        trained: False takes the initial weights.
    """
    device = pick_device()
    model = restore_model(checkpoint, trained=trained)[0].to(device)
    return run_over(
        split.dataset(checkpoint, evaluate),
        partial(step, model),
        batch_size=evaluate.batch_size,
        device=device,
        num_workers=evaluate.num_workers,
        label=label,
    )


def pooled(
    checkpoint: Checkpoint,
    split: Split,
    evaluate: EvaluateConfig,
    *,
    trained: bool = True,
    with_sets: bool = False,
) -> Outputs:
    """Pool features (N, D) of each modality of a split.

    Args:
        trained: False takes the initial weights.
        with_sets: adds what an attentive probe reads.
    """
    label = f"features of {split}" + ("" if trained else ", untrained")
    step = partial(pooled_features, with_sets=with_sets)
    return run_checkpoint(checkpoint, split, evaluate, step, label=label, trained=trained)


def provenance(
    checkpoint: Checkpoint, split: Split, evaluate: EvaluateConfig, config: dict[str, Any]
) -> dict[str, Any]:
    """Name the weights, clips, configuration, code and seeds that a figure comes from.

    Args:
        config: the whole configuration, from which the figure can be made again.
    """
    state = checkpoint.state
    return {
        "checkpoint_sha256": state["sha256"][MODEL_FILE],
        **score_hashes(state, split.path, evaluate),
        "seed": {"training": state["seed"], "evaluate": evaluate.seed},
        # Scores are always computed in fp32; of weights from elsewhere the first is not known.
        "precision": {"training": state.get("precision"), "evaluate": "float32"},
        "git_commit": git_commit(),
        "versions": package_versions(),
        "config": config,
    }


def save_arrays(path: Path, arrays: dict[str, NDArray]) -> None:
    """Write an .npz atomically; it holds no pickled objects."""
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
