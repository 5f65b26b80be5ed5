"""Whether what lies in the results is what the configuration would make now.

Snakemake's records are of this checkout, DVC's of its last run; the files themselves say more.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline_src.catalog import Catalog
from pipeline_src.catalog.steps import CHUNK_STAGES
from pipeline_src.config import RunConfig
from pipeline_src.dvc.stage import Stage
from pipeline_src.dvc.stale import stale_manifests
from pipeline_src.errors import PipelineError, StageError
from pipeline_src.manifest.chunks import read_chunk
from pipeline_src.runs.spec import MODEL_FILE, TrainSpec, score_hashes
from pipeline_src.shards.files import shard_files, shard_paths
from pipeline_src.system.atomic import file_sha256


def check_outputs(catalog: Catalog, stage: Stage) -> None:
    """Check every output of a stage against the configuration and its inputs.

    Raises:
        StageError: one is missing, damaged, or was made from something else.
    """
    missing = [out.path for out in stage.outs if not Path(out.path).exists()]
    if missing:
        raise StageError(f"{missing[0]} is missing")
    checks: dict[str, Callable[[Catalog, Stage], None]] = {
        **dict.fromkeys(CHUNK_STAGES, _check_chunks),
        "pretrain": _check_training,
        "finetune": _check_training,
        "evaluate": _check_scores,
        "folds": _check_folds,
        "probe": _check_scores,
        "report": _check_report,
    }
    try:
        checks[stage.kind](catalog, stage)
    except (OSError, ValueError, KeyError) as error:
        raise StageError(f"{stage.target}: not readable ({error})") from error
    except StageError:
        raise
    except PipelineError as error:
        raise StageError(str(error)) from error


def _check_chunks(catalog: Catalog, stage: Stage) -> None:
    name = stage.name.removeprefix(f"{stage.kind}_")
    if catalog.dataset(name).is_packed:
        return  # their content is another's
    if stale := stale_manifests(catalog, stage.kind, name):
        raise StageError(f"{stale[0]} was made with other settings or inputs")
    if stage.kind != "shards":
        return
    for index in map(Path, catalog.indexes(name)):
        check_split_index(catalog, name, index)


def check_split_index(catalog: Catalog, name: str, index: Path) -> None:
    """Check that the index of a split lists the shards of its manifests, by today's settings.

    Raises:
        StageError: it lists others. ManifestError: a manifest is missing or damaged.
    """
    record = _read(index)
    # Its other settings are those of the shards, which say them by their hashes.
    excludes = catalog.recorded("pack_index", name)["exclude_duplicates"]
    if record["excludes_duplicates"] != excludes:
        raise StageError(f"{index} was made with other shards.exclude_flags")
    found: list[str] = []
    for path in map(Path, catalog.chunk_files("shards", name, index.parent.name)):
        manifest = read_chunk(path, "pack")
        shard_paths(path, manifest)
        found += [shard.sha256 for shard in shard_files(manifest)]
    if [shard["sha256"] for shard in record["shards"]] != found:
        raise StageError(f"{index} lists other shards than its folder holds")


def _check_training(catalog: Catalog, stage: Stage) -> None:
    path = Path(stage.target)
    done = _read(path)
    if done["fingerprint"] != _spec(catalog, stage).fingerprint():
        raise StageError(f"{path} was trained with other settings or data")
    weights = path.parent / done["checkpoint"] / MODEL_FILE
    if file_sha256(weights) != done["sha256"]:
        raise StageError(f"{weights} is not what {path.name} names")


def _spec(catalog: Catalog, stage: Stage) -> TrainSpec:
    done = Path(stage.target)
    name, _, *view = done.relative_to(catalog.results).parts
    run = catalog.run(name)
    if stage.kind == "pretrain":
        return TrainSpec(
            stage="pretrain",
            run_dir=done.parent,
            model=run.model,
            recipe=run.pretrain,
            train_indexes=tuple(map(Path, catalog.pretrain_indexes(name))),
            initial_checkpoint=_first(catalog.start_done(name)),
            teacher_checkpoint=_first(catalog.teacher_done(name)),
        )
    return TrainSpec(
        stage="finetune",
        run_dir=done.parent,
        model=run.model,
        recipe=run.finetune,
        train_indexes=tuple(map(Path, catalog.finetune_train_indexes(name, view[0]))),
        initial_checkpoint=_first(catalog.pretrain_done(name)),
    )


def _first(paths: Sequence[str]) -> Path | None:
    return Path(paths[0]) if paths else None


def _check_scores(catalog: Catalog, stage: Stage) -> None:
    metrics = _read(Path(stage.target))
    done = _read(Path(stage.deps[0]))
    run = Path(stage.target).relative_to(catalog.results).parts[0]
    expected = score_hashes(done, Path(stage.deps[-1]), catalog.run(run).evaluate)
    expected["checkpoint_sha256"] = done["sha256"]
    if other := [name for name, value in expected.items() if metrics[name] != value]:
        raise StageError(f"{stage.target} was computed from another {', '.join(other)}")


def _check_folds(catalog: Catalog, stage: Stage) -> None:
    del catalog  # the files name each other
    scored = [_read(Path(path))["checkpoint_sha256"] for path in stage.deps]
    if _read(Path(stage.target))["checkpoint_sha256"] != scored:
        raise StageError(f"{stage.target} was computed from other folds")


def _check_report(catalog: Catalog, stage: Stage) -> None:
    for run in catalog.run_names:
        path = catalog.run_file(run)
        written = RunConfig.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        if written.recipe_values() != catalog.run(run).recipe_values():
            raise StageError(f"{path} holds other settings")


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
