"""Where the weights of a run come from: trained here, shared with another run, or converted."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

Stage = Literal["pretrain", "finetune"]
STAGE_LABELS: dict[Stage, str] = {"pretrain": "Pre-training", "finetune": "Fine-tuning"}


class Origin(NamedTuple):
    """Of one stage of a run.

    ``kind``: own = trained by this run; other = by the run ``name``; converted = from the folder
    ``name`` that the converter wrote; none = the run has no such stage.
    """

    kind: Literal["own", "other", "converted", "none"]
    name: str = ""


def training_origin(sections: Mapping[str, Any], stage: Stage) -> Origin:
    """Read from a run's config.yaml who trained ``stage``."""
    pretrain, finetune = (sections.get(name) or {} for name in ("pretrain", "finetune"))
    if stage == "finetune":
        folder = finetune.get("checkpoint")
        return Origin("converted", folder) if folder else Origin("own")
    if finetune.get("checkpoint_run"):
        return Origin("other", finetune["checkpoint_run"])
    if folder := pretrain.get("checkpoint"):
        return Origin("converted", folder)
    is_skipped = finetune.get("init") == "scratch" or finetune.get("checkpoint")
    return Origin("none") if is_skipped else Origin("own")


def stage_folder(run_dir: Path, stage: Stage, dataset: str) -> Path:
    """Where a run of its own trains ``stage``."""
    return run_dir / "pretrain" if stage == "pretrain" else run_dir / "finetune" / dataset


def stage_title(run_dir: Path, stage: Stage, dataset: str) -> str:
    """How the page calls a training, e.g. "Fine-tuning, avsiam_tiny / avdigits"."""
    name = f"{run_dir.name} / {dataset}" if dataset else run_dir.name
    return f"{STAGE_LABELS[stage]}, {name}"
