"""What one training job is: everything it needs, as one JSON file."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from pipeline_src import versions
from pipeline_src.atomic import json_sha256, write_json
from pipeline_src.config import FinetuneConfig, ModelConfig, PretrainConfig
from pipeline_src.config.section import Section

SPEC_FILE = "spec.json"
DONE_FILE = "done.json"
# Keys that change how a run is carried out, not what it computes.
OPERATIONAL_KEYS = {
    "num_workers",
    "log_every",
    "save_every_seconds",
    "keep_checkpoints",
    "validate_every_epochs",
    "datasets",  # what they hold is in ``data``
    "packed",
    "checkpoint_run",  # its weights are in ``start``
    "checkpoint",  # likewise
}


class TrainSpec(Section):
    """One pre-training or fine-tuning job."""

    stage: Literal["pretrain", "finetune"]
    run_dir: Path
    model: ModelConfig
    recipe: PretrainConfig | FinetuneConfig
    train_indexes: tuple[Path, ...] = Field(
        default=(), description="index.json of training splits; empty: weights from elsewhere"
    )
    val_indexes: tuple[Path, ...] = Field(default=(), description="index.json of validation splits")
    initial_checkpoint: Path | None = Field(
        default=None, description="done.json of the pre-training"
    )
    num_threads: int = Field(default=1, gt=0, description="CPU threads per rank")

    def save(self) -> Path:
        """Write spec.json into the run's folder."""
        path = self.run_dir / SPEC_FILE
        write_json(path, self.model_dump(mode="json"))
        return path

    def fingerprint(self) -> str:
        """Hash of all that decides the result: configuration, data, start, code version."""
        recipe = self.recipe.model_dump(mode="json", exclude=OPERATIONAL_KEYS)
        start = None
        if self.initial_checkpoint:
            start = json.loads(self.initial_checkpoint.read_text(encoding="utf-8"))["sha256"]
        return json_sha256(
            {
                "stage": self.stage,
                "model": self.model.model_dump(mode="json"),
                "recipe": recipe,
                "data": [index_fingerprint(path) for path in self.train_indexes],
                "start": start,
                "version": getattr(versions, self.stage.upper()),
            }
        )


def load_spec(path: Path) -> TrainSpec:
    """Read spec.json back."""
    return TrainSpec.model_validate_json(path.read_text(encoding="utf-8"))


def index_fingerprint(path: Path) -> dict[str, Any]:
    """The parts of an index that decide what a model learns from it."""
    index = json.loads(path.read_text(encoding="utf-8"))
    return {
        "dataset": index["dataset"],
        "split": index["split"],
        "task": index["task"],
        "class_names": index["class_names"],
        "logmel_mean": index["logmel_mean"],
        "logmel_std": index["logmel_std"],
        "shards": [shard["sha256"] for shard in index["shards"]],
    }
