"""What one training job is: everything it needs, as one JSON file."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from pipeline_src import versions
from pipeline_src.config import (
    EvaluateConfig,
    FinetuneConfig,
    ModelConfig,
    PretrainConfig,
    RemoteConfig,
    SubmitConfig,
)
from pipeline_src.config.section import Section
from pipeline_src.errors import CheckpointError
from pipeline_src.runs.records import damaged_file, read_json_object
from pipeline_src.system.atomic import json_sha256, write_json

SPEC_FILE = "spec.json"
DONE_FILE = "done.json"
CHECKPOINTS_FOLDER = "checkpoints"
STATE_FILE = "state.json"  # of a checkpoint
LOGGERS_FILE = "loggers.json"  # ids of what submit.loggers write
MODEL_FILE = "model.safetensors"
DONE_ADVICE = "delete it and run the same command again, which writes it anew"
RECIPES = {"pretrain": PretrainConfig.__name__, "finetune": FinetuneConfig.__name__}
SPEC_ADVICE = "delete it and run the workflow's command again, which writes it anew"
PUBLISHED_FOLDER = "checkpoint"  # its result, which needs none of them
SUPERSEDED_FOLDER = "superseded"  # trainings of other configurations


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
        default=None, description="done.json of the pre-training that it starts from"
    )
    teacher_checkpoint: Path | None = Field(
        default=None, description="done.json of the pre-training that a second stage follows"
    )
    remote: RemoteConfig = RemoteConfig()
    num_threads: int = Field(default=1, gt=0, description="CPU threads per rank")
    stall_minutes: float = Field(
        default=SubmitConfig().stall_minutes,
        ge=0,
        description="time without a sign of life after which that is said; 0 = never",
    )

    loggers: tuple[str, ...] = Field(default=(), description="wandb, mlflow")

    @property
    def results(self) -> Path:
        """Folder of results that it lies in, <results>/<run>/<stage>/..., absolute."""
        run_dir = self.run_dir.absolute()
        folders = (run_dir, *run_dir.parents)
        return next((one for one in folders if one.name == self.stage), run_dir).parents[1]

    def save(self) -> Path:
        """Write spec.json into the run's folder."""
        path = self.run_dir / SPEC_FILE
        write_json(path, self.model_dump(mode="json"))
        return path

    def fingerprint(self) -> str:
        """Hash all that decides the result: configuration, data, start, code version."""
        teacher = self.teacher_checkpoint
        return json_sha256(
            {
                "stage": self.stage,
                **self._settings(),
                "data": [index_fingerprint(path) for path in self.train_indexes],
                "start": self.initial_checkpoint and _weights_sha256(self.initial_checkpoint),
                **({"teacher": _weights_sha256(teacher)} if teacher else {}),
                "version": getattr(versions, self.stage.upper()),
            }
        )

    def config_sha256(self) -> str:
        """Hash the settings that decide the result, the same in every folder and machine."""
        return json_sha256(self._settings())

    def data_sha256(self) -> str:
        """Hash the clips, labels and statistics that it learns from."""
        return json_sha256([index_fingerprint(path) for path in self.train_indexes])

    def trained_on(self) -> list[dict[str, str]]:
        """Name the data sets that it learns from, and the collection that each is a part of."""
        indexes = [json.loads(path.read_text(encoding="utf-8")) for path in self.train_indexes]
        return [{key: index[key] for key in ("dataset", "collection")} for index in indexes]

    def _settings(self) -> dict[str, Any]:
        return {
            "model": self.model.recipe_values(),
            "recipe": self.recipe.recipe_values(),
        }


def _weights_sha256(done: Path) -> str:
    return read_json_object(done, {"sha256": str}, DONE_ADVICE)["sha256"]


def done_fingerprint(done: Path) -> str:
    """Return the fingerprint of the training that a done.json speaks of.

    Raises:
        CheckpointError: the file is damaged.
    """
    return read_json_object(done, {"fingerprint": str}, DONE_ADVICE)["fingerprint"]


def load_spec(path: Path) -> TrainSpec:
    """Read spec.json back.

    Raises:
        CheckpointError: it is missing, damaged, or of another version.
    """
    values = read_json_object(path, {"stage": str, "recipe": dict}, SPEC_ADVICE)
    return parse_spec(values, str(path), SPEC_ADVICE)


def parse_spec(values: Any, where: str, advice: str) -> TrainSpec:
    """Return a spec from the values that a file holds.

    Args:
        where: the file, for the error. advice: what to do if the values do not fit.
    Raises:
        CheckpointError: another version wrote them, or they are damaged.
    """
    if not isinstance(values, Mapping):
        raise CheckpointError(f"{where}: missing, or no object; {advice}")
    try:
        return TrainSpec.model_validate(values)
    except ValidationError as error:
        # A recipe is one of two sections; of the other one nearly every key is unknown.
        own = RECIPES.get(str(values.get("stage")), "")
        problems = [one for one in error.errors() if not _is_of_other(one["loc"], own)]
        first = (problems or error.errors())[0]
        place = ".".join(str(part) for part in first["loc"] if not _names_a_section(part))
        raise CheckpointError(f"{where}: {place}: {first['msg']}; {advice}") from None


def _is_of_other(place: Sequence[int | str], own: str) -> bool:
    named = next((part for part in place if _names_a_section(part)), own)
    return bool(own) and own not in str(named)


def _names_a_section(part: int | str) -> bool:
    return any(name in str(part) for name in RECIPES.values())


def step_folder(step: int) -> str:
    """Name the checkpoint folder of a step; names sort as steps do."""
    return f"step_{step:08d}"


def saved_progress(run_dir: Path, fingerprint: str) -> tuple[int, int]:
    """Return steps done and wanted by a configuration's newest checkpoint; (0, 1) without one.

    A published one is the end, whether what only resuming needs is there or not.
    """
    for _, state in saved_states(run_dir):
        if state["fingerprint"] == fingerprint:
            return state["step"], state["num_steps"]
    return 0, 1


def is_trained(run_dir: Path, fingerprint: str) -> bool:
    """Return whether a configuration's last checkpoint is there and whole, by its hashes.

    One that was set aside counts where nothing is here: the next start brings it back.
    """
    is_here = saved_progress(run_dir, fingerprint)[0] > 0
    places = [run_dir] if is_here else superseded_folders(run_dir)
    return any(
        state["step"] >= state["num_steps"] and _is_whole(folder, state)
        for one in places
        for folder, state in _own_states(one, fingerprint)
    )


def whole_progress(run_dir: Path, fingerprint: str) -> int:
    """Return the steps of a configuration's last checkpoint that is whole; 0 without one."""
    states = _own_states(run_dir, fingerprint)
    return next((state["step"] for folder, state in states if _is_whole(folder, state)), 0)


def _own_states(run_dir: Path, fingerprint: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield a configuration's checkpoint folders and their states, the last first."""
    states = saved_states(run_dir)
    return ((folder, state) for folder, state in states if state["fingerprint"] == fingerprint)


def _is_whole(folder: Path, state: Mapping[str, Any]) -> bool:
    return MODEL_FILE in state["sha256"] and not damaged_file(folder, state["sha256"])


def superseded_folders(run_dir: Path) -> list[Path]:
    """List the folders of trainings that were set aside, in the order of that."""
    return sorted((run_dir / SUPERSEDED_FOLDER).glob("[0-9][0-9][0-9]"))


def saved_states(run_dir: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield checkpoint folders with their state.json: the published one, then the newest first."""
    keys = {"fingerprint": str, "step": int, "num_steps": int, "sha256": dict}
    resumable = sorted((run_dir / CHECKPOINTS_FOLDER).glob("step_*"), reverse=True)
    for folder in (run_dir / PUBLISHED_FOLDER, *resumable):
        try:
            state = read_json_object(folder / STATE_FILE, keys, "it is passed over")
        except CheckpointError:
            continue
        yield folder, state


def score_hashes(
    trained: Mapping[str, Any], scored_index: Path, evaluate: EvaluateConfig
) -> dict[str, str]:
    """Hash what a checkpoint's figures on a split depend on besides its weights.

    Args:
        trained: done.json or state.json of the checkpoint.
    """
    settings = [trained["config_sha256"], evaluate.recipe_values()]
    data = [trained["data_sha256"], index_fingerprint(scored_index)]
    return {"config_sha256": json_sha256(settings), "data_sha256": json_sha256(data)}


def index_fingerprint(path: Path) -> dict[str, Any]:
    """Return the parts of an index that decide what a model learns from it."""
    index = json.loads(path.read_text(encoding="utf-8"))
    leaves_out = index["excludes_duplicates"] and index["duplicates"]
    return {
        "dataset": index["dataset"],
        "split": index["split"],
        "task": index["task"],
        "class_names": index["class_names"],
        "logmel_mean": index["logmel_mean"],
        "logmel_std": index["logmel_std"],
        "shards": [shard["sha256"] for shard in index["shards"]],
        **({"clip_ids": index["clip_ids_sha256"]} if leaves_out else {}),
    }
