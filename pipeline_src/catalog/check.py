"""Whether `all` can be asked for: what the workflow's rules would ask, without the workflow."""

from collections import Counter
from typing import Literal

from pipeline_src.catalog import paths
from pipeline_src.catalog.possible import (
    has_begun,
    refuse_large_batch,
    refuse_long_warmup,
    refuse_missing_init,
)
from pipeline_src.catalog.runs import Catalog
from pipeline_src.datasets.dataset import split_view


def check_all(catalog: Catalog) -> None:
    """Ask for the inputs of every training and evaluation that ``all`` needs.

    Data sets whose published lists a run fetches first are left out until they are there.

    Raises:
        ConfigError, ManifestError: the first that a rule would be refused with.
    """
    for name in filter(catalog.has_lists, catalog.listed):
        catalog.indexes(name)
    for run in catalog.pretrained_runs():
        catalog.own_pretrain_done(run)
        if not catalog.run(run).pretrain.checkpoint:
            _check_pretraining(catalog, run)
    for run in catalog.finetuned_runs():
        for name in filter(catalog.has_lists, catalog.finetune_datasets(run)):
            for view in catalog.fold_variants(name):
                _check_finetuning(catalog, run, view)
    for run in catalog.pretrained_runs():
        for name in filter(catalog.has_lists, catalog.probe_datasets(run)):
            if catalog.is_probed(run, name):
                catalog.scored_index(run, name)


def _check_pretraining(catalog: Catalog, run: str) -> None:
    if all(map(catalog.has_lists, catalog.pretrain_datasets(run))):
        catalog.pretrain_indexes(run)
        check_training(catalog, run, "pretrain", "", 1)
    catalog.start_done(run)
    catalog.teacher_done(run)


def _check_finetuning(catalog: Catalog, run: str, view: str) -> None:
    catalog.finetune_done(run, view)
    if not catalog.run(run).finetune.checkpoint:
        catalog.finetune_train_indexes(run, view)
        check_training(catalog, run, "finetune", view, 1)
    catalog.pretrain_done(run)
    catalog.scored_index(run, view)


def check_training(
    catalog: Catalog,
    run: str,
    stage: Literal["pretrain", "finetune"],
    view: str,
    num_ranks: int,
) -> None:
    """Ask what a training that is still to be done needs besides its inputs.

    Args:
        view: what is fine-tuned on; empty for a pre-training.
    Raises:
        ConfigError: the listed clips cannot fill a batch, its warm-up is too long, or its initial
            weights are not there.
    """
    model, recipe = catalog.run(run).model, getattr(catalog.run(run), stage)
    if recipe.checkpoint:
        return
    names = {"run": run, "dataset": view}
    done = catalog.fill(paths.FINETUNED if view else paths.PRETRAINED, **names)
    if not has_begun(done, model, recipe):
        refuse_long_warmup(run, stage, recipe)
        if stage == "pretrain" or recipe.init == "scratch":
            refuse_missing_init(run, model.init)
    counts: dict[str, list[Counter[int] | None]] = {}
    for name, split in _trained_on(catalog, run, view):
        counts.setdefault(name, []).append(catalog.clips_per_class(name, split))
    refuse_large_batch(run, stage, recipe, counts, num_ranks)


def _trained_on(catalog: Catalog, run: str, view: str) -> list[tuple[str, str]]:
    """Return data set and split of all that a training learns from."""
    if not view:
        return [(name, "train") for name in catalog.pretrain_datasets(run)]
    name, held_out = split_view(view)
    if not held_out:
        return [(name, "train")]
    return [(name, split) for split in catalog.splits(name) if split != held_out]
