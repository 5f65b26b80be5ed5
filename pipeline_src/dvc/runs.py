"""Stages of the runs: shards -> checkpoints -> metrics -> report."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline_src.catalog import Catalog
from pipeline_src.config.heads import scored_heads
from pipeline_src.config.root import RUN_SECTIONS, RunConfig
from pipeline_src.config.section import Section, is_recorded, recorded_keys, section_of
from pipeline_src.datasets.dataset import split_view
from pipeline_src.dvc.stage import Out, Stage

METRICS = "metrics.json"
SUMMARY = "summary.json"
HISTORY = "history.csv"
VALIDATION = "validation.csv"


def pretrain_stage(catalog: Catalog, run: str) -> Stage:
    done = f"{catalog.results}/{run}/pretrain/done.json"
    return Stage(
        name=f"pretrain_{run}",
        rules=("pretrain_model",),
        target=done,
        deps=(
            *catalog.pretrain_indexes(run),
            *catalog.start_done(run),
            *catalog.teacher_done(run),
        ),
        params=_run_params(catalog, run, ("model", "pretrain")),
        versions=("PRETRAIN",),
        outs=_training_outs(done, (HISTORY,)),
    )


def finetune_stage(catalog: Catalog, run: str, name: str) -> Stage:
    """``name``: a data set, or a view with one fold held out."""
    done = f"{catalog.results}/{run}/finetune/{name}/done.json"
    validation = catalog.finetune_val_indexes(name)
    modalities = catalog.dataset(split_view(name)[0]).modalities
    return Stage(
        name=f"finetune_{run}_{name}",
        rules=("finetune_model",),
        target=done,
        deps=(
            *catalog.finetune_train_indexes(run, name),
            *validation,
            *catalog.pretrain_done(run),
        ),
        params=_run_params(catalog, run, ("model", "finetune")),
        versions=("FINETUNE",),
        outs=_training_outs(done, (HISTORY, VALIDATION) if validation else (HISTORY,)),
        heads=scored_heads(catalog.run(run).finetune.modality_probs, modalities),
    )


def _training_outs(done: str, tables: Sequence[str]) -> tuple[Out, ...]:
    folder = Path(done).parent
    return (
        Out(done),
        Out(f"{folder}/checkpoint"),
        *(Out(f"{folder}/{name}") for name in tables),
        Out(f"{folder}/metrics.jsonl", persist=True),
    )


def evaluate_stage(catalog: Catalog, run: str, name: str) -> Stage:
    (target,) = catalog.metrics(name, (run,))
    scored = catalog.scored_index(run, name)
    return Stage(
        name=f"evaluate_{run}_{name}",
        rules=("evaluate_finetuned",),
        target=target,
        deps=(catalog.finetune_done(run, name), *catalog.pretrain_done(run), scored),
        params=_run_params(catalog, run, ("model", "evaluate")),
        versions=("EVALUATE",),
        outs=_scores(target, ("predictions.npz", "embeddings.npz")),
    )


def folds_stage(catalog: Catalog, target: str) -> Stage:
    run, _, name, _ = Path(target).relative_to(catalog.results).parts
    return Stage(
        name=f"folds_{run}_{name}",
        rules=("evaluate_folds",),
        target=target,
        deps=tuple(catalog.metrics(name, (run,))),
        params=(),
        versions=("EVALUATE",),
        outs=_scores(target, ()),
    )


def probe_stage(catalog: Catalog, target: str) -> Stage:
    run, _, name, _ = Path(target).relative_to(catalog.results).parts
    scored = catalog.index(name, catalog.run(run).evaluate.split)
    has_pictures = catalog.dataset(name).has_video and bool(catalog.probe_train_index(run, name))
    learnt = [*catalog.probe_train_index(run, name), *catalog.probe_val_index(run, name)]
    return Stage(
        name=f"probe_{run}_{name}",
        rules=("evaluate_pretrained",),
        target=target,
        deps=(catalog.own_pretrain_done(run), *(path for path in learnt if path != scored), scored),
        params=(*_run_params(catalog, run, ("model", "evaluate")), "report.num_examples"),
        versions=("EVALUATE",),
        outs=_scores(target, ("reconstructions.npz",) if has_pictures else ()),
    )


def _scores(metrics: str, arrays: Sequence[str]) -> tuple[Out, ...]:
    folder = Path(metrics).parent
    return (
        Out(metrics),
        *(Out(f"{folder}/{name}") for name in arrays),
        Out(f"{folder}/{SUMMARY}", is_metric=True),
    )


def report_stage(catalog: Catalog, stages: Sequence[Stage]) -> Stage:
    scored = [*catalog.report_metrics(), *catalog.report_folds()]
    scored += [stage.target for stage in stages if stage.kind == "probe"]
    indexes = [path for name in catalog.listed for path in catalog.indexes(name)]
    configs = [f"{catalog.results}/{run}/config.yaml" for run in catalog.run_names]
    return Stage(
        name="report",
        rules=("resolve_config", "report_results", "report"),
        target="report",
        deps=(*scored, *indexes),
        params=("report", *_shared_keys(RUN_SECTIONS), "runs", "datasets", "results"),
        versions=("REPORT",),
        outs=(*map(Out, configs), Out(f"{catalog.results}/report/index.html")),
        before=("python -m pipeline_src stages --check",),
    )


def _run_params(catalog: Catalog, run: str, sections: Sequence[str]) -> tuple[str, ...]:
    """The keys that hold what counts of these sections of a run: shared values and its own.

    A section that the run does not write out could be added later, so then the whole run counts.
    """
    overlay = catalog.config.runs[run] or {}
    own: list[str] = []
    for section in sections:
        below = section_of(RunConfig, section)
        if below and section in overlay:
            own += _own_keys(below, overlay[section] or {}, f"runs.{run}.{section}")
    if any(section not in overlay for section in sections):
        own = [f"runs.{run}"]
    return (*_shared_keys(sections), *own)


def _shared_keys(sections: Sequence[str]) -> Iterator[str]:
    for section in sections:
        below = section_of(RunConfig, section)
        yield from recorded_keys(below, section) if below else [section]


def _own_keys(section: type[Section], values: Mapping[str, Any], prefix: str) -> list[str]:
    """What a run writes out of a section: key by key where some of it does not count."""
    if all(is_recorded(section, name) for name in values):
        return [prefix]
    return [f"{prefix}.{name}" for name in values if is_recorded(section, name)]
