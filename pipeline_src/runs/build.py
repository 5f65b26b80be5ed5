"""The network of a spec, fresh or filled from a checkpoint, and the clips it wants to see."""

from collections.abc import Mapping
from typing import Any

import torch

from pipeline_src.config.data import AudioConfig
from pipeline_src.config.training import ModelConfig
from pipeline_src.errors import CheckpointError
from pipeline_src.loader.clip_format import ClipFormat
from pipeline_src.loader.segments import SegmentRule
from pipeline_src.methods import NetworkConfig, make_network_config
from pipeline_src.methods.common.network import AudioVisualModel
from pipeline_src.methods.factory import create_model
from pipeline_src.runs.checkpoint import Checkpoint, load_weights
from pipeline_src.runs.spec import TrainSpec


def build_model(
    model: ModelConfig, *, num_classes: int, num_mel_bins: int, num_frames: int, seed: int
) -> AudioVisualModel:
    """Build a network with initial weights from ``seed`` and ``model.init``.

    Args:
        num_classes: 0 for pre-training (decoder, no heads).
        num_frames: video frames per clip that it takes at a time.
    """
    torch.manual_seed(seed)
    return create_model(
        model.name,
        num_classes=num_classes,
        init=model.init,
        img_size=model.img_size,
        target_length=model.target_length,
        num_mel_bins=num_mel_bins,
        num_frames=num_frames,
        **model.overrides,
    )


def restore_model(
    checkpoint: Checkpoint, *, trained: bool = True
) -> tuple[AudioVisualModel, TrainSpec]:
    """Build a checkpoint's network; with ``trained=False`` the same before its first step."""
    state, spec = checkpoint.state, checkpoint.spec
    # A trained network needs no initial weights: the hub or their file may be gone by now.
    start = spec.model.model_copy(update={"init": "random"}) if trained else spec.model
    model = build_model(
        start,
        num_classes=len(state["class_names"]),
        num_mel_bins=state["num_mel_bins"],
        num_frames=spec.recipe.num_frames,
        seed=spec.recipe.seed,
    )
    if trained:
        load_weights(checkpoint, model)
    return model.eval(), spec


def trained_network_config(checkpoint: Checkpoint) -> NetworkConfig:
    """Return the sizes of a checkpoint's network."""
    state, spec = checkpoint.state, checkpoint.spec
    return make_network_config(
        spec.model.name,
        num_classes=len(state["class_names"]),
        img_size=spec.model.img_size,
        target_length=spec.model.target_length,
        num_mel_bins=state["num_mel_bins"],
        num_frames=spec.recipe.num_frames,
        **spec.model.overrides,
    )


def segment_rule(network: NetworkConfig, front_end: Mapping[str, Any]) -> SegmentRule | None:
    """Return where segments lie in log-mels of a front end; None where the network has none."""
    if not network.clip_length:
        return None
    hop_ms = front_end.get("hop_length_ms", AudioConfig().hop_length_ms)
    return SegmentRule(network.clip_length, network.segment_centre, 1000 / hop_ms)


def evaluation_format(checkpoint: Checkpoint, *, num_frames: int) -> ClipFormat:
    """Return clips as the checkpoint was trained on them, with fixed frames and no random choice.

    Raises:
        CheckpointError: ``num_frames`` are not whole windows of a checkpoint with ``fps`` or with
            segments.
    """
    spec = checkpoint.spec
    segments = segment_rule(
        trained_network_config(checkpoint), checkpoint.state.get("front_end") or {}
    )
    if (spec.recipe.fps or segments) and num_frames % spec.recipe.num_frames:
        raise CheckpointError(
            f"{checkpoint.folder}: sees windows of {spec.recipe.num_frames} frames; set "
            f"evaluate.num_frames = {num_frames} to a multiple of that"
        )
    return ClipFormat(
        target_length=spec.model.target_length,
        img_size=spec.model.img_size,
        num_frames=num_frames,
        logmel_mean=checkpoint.state["logmel_mean"],
        logmel_std=checkpoint.state["logmel_std"],
        training=False,
        fps=spec.recipe.fps,
        window_frames=spec.recipe.num_frames,
        segments=segments,
    )
