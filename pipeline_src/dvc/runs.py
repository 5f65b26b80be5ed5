"""Stages of the runs: shards -> checkpoints -> metrics -> report."""

from collections.abc import Sequence
from pathlib import Path

from pipeline_src.catalog import Catalog, paths
from pipeline_src.config.networks import network_config_of
from pipeline_src.config.root import RUN_SECTIONS
from pipeline_src.datasets.dataset import split_view
from pipeline_src.dvc.settings import dataset_keys, run_keys, shared_keys, versions_of
from pipeline_src.dvc.stage import Out, Stage, relative_path
from pipeline_src.evaluate.files import (
    EMBEDDINGS_FILE,
    PREDICTIONS_FILE,
    RECONSTRUCTIONS_FILE,
    RETRIEVAL_FILE,
    SUMMARY_FILE,
)
from pipeline_src.runs.history import HISTORY_FILE, METRICS_LOG_FILE, VALIDATION_FILE
from pipeline_src.runs.spec import PUBLISHED_FOLDER


def pretrain_stage(catalog: Catalog, run: str) -> Stage:
    done = catalog.own_pretrain_done(run)
    return Stage(
        name=f"pretrain_{run}",
        rules=("pretrain_model",),
        target=done,
        deps=(
            *catalog.pretrain_indexes(run),
            *catalog.start_done(run),
            *catalog.teacher_done(run),
        ),
        params=run_keys(catalog, "pretrain_model", run),
        versions=versions_of(["pretrain_model"]),
        outs=_training_outs(done, (HISTORY_FILE,)),
    )


def finetune_stage(catalog: Catalog, run: str, name: str) -> Stage:
    """Make the stage of a fine-tuning on ``name``: a data set, or a view with one fold held out."""
    done = catalog.finetune_done(run, name)
    validation = catalog.finetune_val_indexes(name)
    modalities = catalog.dataset(split_view(name)[0]).modalities
    recipe, bins = catalog.run(run), catalog.config.audio.num_mel_bins
    frames = recipe.finetune.num_frames
    network = network_config_of(recipe.model, num_frames=frames, num_mel_bins=bins)
    return Stage(
        name=f"finetune_{run}_{name}",
        rules=("finetune_model",),
        target=done,
        deps=(
            *catalog.finetune_train_indexes(run, name),
            *validation,
            *catalog.pretrain_done(run),
        ),
        params=run_keys(catalog, "finetune_model", run),
        versions=versions_of(["finetune_model"]),
        outs=_training_outs(
            done, (HISTORY_FILE, VALIDATION_FILE) if validation else (HISTORY_FILE,)
        ),
        heads=recipe.finetune.scored_heads(modalities, network.heads),
    )


def _training_outs(done: str, tables: Sequence[str]) -> tuple[Out, ...]:
    folder = Path(done).parent
    return (
        Out(done),
        Out(f"{folder}/{PUBLISHED_FOLDER}"),
        *(Out(f"{folder}/{name}") for name in tables),
        Out(f"{folder}/{METRICS_LOG_FILE}", persist=True),
    )


def evaluate_stage(catalog: Catalog, run: str, name: str) -> Stage:
    (target,) = catalog.metrics(name, (run,))
    scored = catalog.scored_index(run, name)
    return Stage(
        name=f"evaluate_{run}_{name}",
        rules=("evaluate_finetuned",),
        target=target,
        deps=(
            catalog.finetune_done(run, name),
            *catalog.pretrain_done(run),
            *_group_lists(catalog, run, name),
            scored,
        ),
        params=run_keys(catalog, "evaluate_finetuned", run),
        versions=versions_of(["evaluate_finetuned"]),
        outs=_scores(target, (PREDICTIONS_FILE, EMBEDDINGS_FILE, *_retrieval(catalog, name))),
    )


def _group_lists(catalog: Catalog, run: str, view: str) -> list[str]:
    """Return the lists that say which scored clips share something: what is made of them has none.

    Snakemake reads that from a file which is, like the plan, nobody's output.
    """
    if not catalog.scored_groups(run, view):
        return []
    return [relative_path(path) for path in catalog.dataset(split_view(view)[0]).list_files]


def folds_stage(catalog: Catalog, target: str) -> Stage:
    run, _, name, _ = Path(target).relative_to(catalog.results).parts
    return Stage(
        name=f"folds_{run}_{name}",
        rules=("evaluate_folds",),
        target=target,
        deps=tuple(catalog.metrics(name, (run,))),
        params=(),
        versions=versions_of(["evaluate_folds"]),
        outs=_scores(target, ()),
    )


def probe_stage(catalog: Catalog, target: str) -> Stage:
    run, _, name, _ = Path(target).relative_to(catalog.results).parts
    scored = catalog.index(name, catalog.run(run).evaluate.split)
    has_pictures = catalog.dataset(name).has_video and bool(catalog.probe_train_index(run, name))
    pictures = (RECONSTRUCTIONS_FILE,) if has_pictures else ()
    learnt = [*catalog.probe_train_index(run, name), *catalog.probe_val_index(run, name)]
    return Stage(
        name=f"probe_{run}_{name}",
        rules=("evaluate_pretrained",),
        target=target,
        deps=(
            catalog.own_pretrain_done(run),
            *(path for path in learnt if path != scored),
            *_group_lists(catalog, run, name),
            scored,
        ),
        params=run_keys(catalog, "evaluate_pretrained", run),
        versions=versions_of(["evaluate_pretrained"]),
        outs=_scores(target, (*pictures, *_retrieval(catalog, name))),
    )


def _retrieval(catalog: Catalog, view: str) -> tuple[str, ...]:
    return (RETRIEVAL_FILE,) if catalog.dataset(split_view(view)[0]).has_video else ()


def _scores(metrics: str, arrays: Sequence[str]) -> tuple[Out, ...]:
    folder = Path(metrics).parent
    return (
        Out(metrics),
        *(Out(f"{folder}/{name}") for name in arrays),
        Out(f"{folder}/{SUMMARY_FILE}", is_metric=True),
    )


def report_stage(catalog: Catalog, stages: Sequence[Stage]) -> Stage:
    scored = [*catalog.report_metrics(), *catalog.report_folds()]
    scored += [stage.target for stage in stages if stage.kind == "probe"]
    configs = [str(catalog.run_file(run)) for run in catalog.run_names]
    return Stage(
        name="report",
        rules=("resolve_config", "report_results", "report"),
        target="report",
        deps=(*scored, *catalog.report_indexes()),
        params=(
            *dataset_keys(["report_results"]),
            *shared_keys(RUN_SECTIONS),
            *("runs", "datasets", "results"),
        ),
        versions=versions_of(["report_results"]),
        outs=(*map(Out, configs), Out(catalog.fill(paths.REPORT))),
        before=("python -m pipeline_src stages --check",),
    )
