"""What the registry knows of a method. Imports no torch: the dry run reads it."""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pipeline_src.methods.common.config import NetworkConfig

if TYPE_CHECKING:
    from pipeline_src.methods.common.image_keys import ImageWeights
    from pipeline_src.methods.common.network import AudioVisualModel
    from pipeline_src.methods.common.published_keys import PublishedClass


@dataclass(frozen=True)
class Method:
    """The parts of a method; those that import torch as "package.module:name".

    Args:
        config: the network's constructor arguments.
        network: its class, built from ``config``.
        objective: losses of its pre-training, a module built from the network and from keys of the
            configuration's section ``pretrain``, which its keyword arguments name.
        image_weights: ``ImageWeights`` that start the network; empty = none fit it.
        published: ``PublishedClass`` of its released weights; empty = none are released.
        citation: its paper as BibTeX, for model cards; empty = none.
    """

    config: type[NetworkConfig]
    network: str
    objective: str
    image_weights: str = ""
    published: str = ""
    citation: str = ""

    def load_network(self) -> "type[AudioVisualModel]":
        """Import the class of the network."""
        return load_reference(self.network)

    def load_objective(self) -> Any:
        """Import the class of the pre-training objective."""
        return load_reference(self.objective)

    def load_image_weights(self) -> "ImageWeights | None":
        """Import what is known of image weights; None where none fit."""
        return load_reference(self.image_weights) if self.image_weights else None

    def load_published(self) -> "PublishedClass | None":
        """Import what is known of released weights; None where there are none."""
        return load_reference(self.published) if self.published else None


def load_reference(reference: str) -> Any:
    """Import what "package.module:name" names."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)
