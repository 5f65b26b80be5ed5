"""Constructor arguments of the networks that a configuration means; builds none of them."""

from pipeline_src.config.training import ModelConfig, PretrainConfig
from pipeline_src.methods import NetworkConfig, make_network_config


def input_sizes(model: ModelConfig, *, num_frames: int, num_mel_bins: int) -> dict[str, int]:
    """Return the sizes of a network's inputs, which have keys of their own in the configuration."""
    return {
        "num_mel_bins": num_mel_bins,
        "target_length": model.target_length,
        "img_size": model.img_size,
        "num_frames": num_frames,
    }


def network_config_of(model: ModelConfig, *, num_frames: int, num_mel_bins: int) -> NetworkConfig:
    """Return the constructor arguments of a network for such inputs.

    Raises:
        ConfigError: an override is unknown, or does not fit the inputs.
    """
    sizes = input_sizes(model, num_frames=num_frames, num_mel_bins=num_mel_bins)
    return make_network_config(model.name, **sizes, **model.overrides)


def pretrain_network(
    model: ModelConfig, recipe: PretrainConfig, num_mel_bins: int
) -> NetworkConfig:
    """Return the constructor arguments of the network that a pre-training builds."""
    return network_config_of(model, num_frames=recipe.num_frames, num_mel_bins=num_mel_bins)
