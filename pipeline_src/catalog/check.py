"""Whether `all` can be asked for: what the workflow's rules would ask, without the workflow."""

from pipeline_src.catalog.runs import Catalog


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
        catalog.check_training(run, "pretrain", "", 1)
    catalog.start_done(run)
    catalog.teacher_done(run)


def _check_finetuning(catalog: Catalog, run: str, view: str) -> None:
    catalog.finetune_done(run, view)
    if not catalog.run(run).finetune.checkpoint:
        catalog.finetune_train_indexes(run, view)
        catalog.check_training(run, "finetune", view, 1)
    catalog.pretrain_done(run)
    catalog.scored_index(run, view)
