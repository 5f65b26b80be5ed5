"""The keys of CAV-MAE Sync's released classes, pre-training and classification.

CAV-MAE Sync (arXiv:2505.01237). They are CAV-MAE's and those of class tokens, registers and
aggregator; the length of a segment shows in the positions. Image weights start it as CAV-MAE.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from pipeline_src.methods.common.network import AudioVisualModel
from pipeline_src.methods.common.published_keys import PublishedClass, PublishedKey, unused_norms

NUM_MEL_BINS = 128
AGGREGATOR_TOKEN = "cls_cls_token"


def all_keys(live: list[PublishedKey], model: AudioVisualModel) -> list[PublishedKey]:
    """List the keys that the classes read and those they never read."""
    del model
    named = [key._replace(name=_published_name(key.name)) for key in live]
    return [*named, *unused_norms(named)]


def _published_name(name: str) -> str:
    if name == "classifier.token":
        return AGGREGATOR_TOKEN
    for ours, theirs in (("blocks", "layers"), ("norm", "norm"), ("head", "head")):
        if name.startswith(f"classifier.{ours}."):
            return name.replace(f"classifier.{ours}", f"classifier_{theirs}", 1)
    return name


def shown_overrides(source: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read constructor arguments off a released file: segment length, registers, classifier."""
    dim, _, *patch = source["patch_embed_a.proj.weight"].shape
    rows = NUM_MEL_BINS // patch[0]
    registers = source.get("register_tokens")
    shown: dict[str, Any] = {
        "target_length": source["pos_embed_a"].shape[1] // rows * patch[1],
        "num_registers": 0 if registers is None else len(registers) // 2,
    }
    if AGGREGATOR_TOKEN in source:
        is_pair = source[AGGREGATOR_TOKEN].shape[-1] == 2 * dim
        return shown | {"classifier": "pairs" if is_pair else "single"}
    return shown | ({"classifier": "frame"} if "mlp_head.1.bias" in source else {})


PUBLISHED = PublishedClass(
    "CAV-MAE Sync", "cls_token_a", all_keys, ("temporal_embed",), shown_overrides
)
