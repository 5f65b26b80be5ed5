"""From a list of raw videos to evaluated audio-visual checkpoints."""

from typing import TYPE_CHECKING, Any

from pipeline_src.system import renamed

if TYPE_CHECKING:
    from pipeline_src.inference.model import Model, load

__all__ = ["Model", "load"]

renamed.install()


def __getattr__(name: str) -> Any:
    """Import ``load`` or ``Model``, and torch with the first of them, not before.

    Raises:
        AttributeError: another name.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pipeline_src.inference import model

    return getattr(model, name)
