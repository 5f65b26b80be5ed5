"""Whether the weights that a run starts from were made for its network; imports no torch.

A start of another shape is refused when the workflow is planned, not hours later by the training.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from pipeline_src.config.training import ModelConfig
from pipeline_src.errors import ConfigError
from pipeline_src.methods import METHODS, NetworkConfig, make_architecture

# What decides the encoder's tensors, or what they compute; a method may lack some.
ENCODER_KEYS = (
    *("embed_dim", "depth", "num_heads", "mlp_ratio", "num_mel_bins", "patch_size", "audio_patch"),
    *("shared_depth", "fusion_depth", "tubelet_size", "double_input", "encoders"),
)
DECODER_KEYS = ("decoder_embed_dim", "decoder_depth", "decoder_num_heads")
LENGTH_KEYS = ("target_length", "img_size")


class Network(NamedTuple):
    """A run's or a checkpoint's network: its section ``model``, and all its sizes."""

    model: ModelConfig
    sizes: NetworkConfig

    @classmethod
    def of(cls, model: ModelConfig, *, num_frames: int, num_mel_bins: int) -> "Network":
        """Work out the sizes of a network for these inputs."""
        inputs = {
            "img_size": model.img_size,
            "target_length": model.target_length,
            "num_mel_bins": num_mel_bins,
            "num_frames": num_frames,
        }
        return cls(model, make_architecture(model.name, **inputs, **model.overrides))


def converted_network(done: str) -> Network:
    """Read the network of a converted checkpoint from the state.json that its done.json names.

    Raises:
        ConfigError: one of the files is not what the converter writes.
    """
    try:
        folder = (
            Path(done).parent / json.loads(Path(done).read_text(encoding="utf-8"))["checkpoint"]
        )
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        model = ModelConfig.model_validate(state["spec"]["model"])
        num_frames = state["spec"]["recipe"]["num_frames"]
        return Network.of(model, num_frames=num_frames, num_mel_bins=state["num_mel_bins"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ConfigError(
            f"{done}: no readable checkpoint beside it ({type(error).__name__}: "
            f"{str(error)[:200]}); write the folder again with av-pipeline convert"
        ) from None


def refuse_other_network(
    run: str, own: Network, start: Network, *, whose: str, stage: Literal["pretrain", "finetune"]
) -> None:
    """Compare a run's network with the one that its training starts from.

    Args:
        whose: where the start comes from, for the message.
        stage: of the training that starts; a pre-training also keeps the decoder.

    Raises:
        ConfigError: names each key with both values.
    """
    configs = [METHODS[network.model.method].config for network in (own, start)]
    if not (issubclass(configs[0], configs[1]) or issubclass(configs[1], configs[0])):
        raise ConfigError(
            f"run {run} is a network of {own.model.method} and starts from {whose}, one of "
            f"{start.model.method}; name a start of the same method"
        )
    keys = ENCODER_KEYS + (DECODER_KEYS if stage == "pretrain" else ())
    if differing := _differences(own, start, keys):
        raise ConfigError(
            f"run {run} starts from {whose}, a network of another shape: {differing}; give both "
            "the same size and overrides in their section model"
        )
    _refuse_other_lengths(run, own, start, whose)


def _refuse_other_lengths(run: str, own: Network, start: Network, whose: str) -> None:
    fit = own.model.fit_positions
    differing = _differences(own, start, LENGTH_KEYS)
    if differing and fit == "refuse":
        raise ConfigError(
            f"run {run} starts from {whose}, which knows inputs of another size: {differing}; give "
            "both the same, or set model.fit_positions: interpolate (positions stretched) or trim "
            "(the first of them)"
        )
    longer = [k for k in LENGTH_KEYS if getattr(own.sizes, k) > getattr(start.sizes, k)]
    if longer and fit == "trim":
        raise ConfigError(
            f"run {run}: model.fit_positions: trim cannot lengthen what {whose} knows: "
            f"{_differences(own, start, longer)}; set it to interpolate"
        )


def _differences(own: Network, start: Network, keys: Iterable[str]) -> str:
    """Each key that differs with both values; a method without the key has None."""
    values = ((key, *(getattr(n.sizes, key, None) for n in (own, start))) for key in keys)
    return ", ".join(
        f"{key} = {ours}, there {theirs}" for key, ours, theirs in values if ours != theirs
    )
