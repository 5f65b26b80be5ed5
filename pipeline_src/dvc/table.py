"""The table of stages: ``dvc.yaml`` is rendered from it, and a test compares it with the rules."""

from collections import Counter

from pipeline_src.catalog import Catalog
from pipeline_src.dvc.data import data_stages
from pipeline_src.dvc.runs import (
    evaluate_stage,
    finetune_stage,
    folds_stage,
    pretrain_stage,
    probe_stage,
    report_stage,
)
from pipeline_src.dvc.stage import Stage
from pipeline_src.errors import ConfigError


def all_stages(catalog: Catalog) -> list[Stage]:
    """Return every stage of the listed data sets and runs, each after those that it depends on.

    Raises:
        ConfigError: the names of two stages are equal.
    """
    stages = [stage for name in catalog.listed for stage in data_stages(catalog, name)]
    stages += [
        pretrain_stage(catalog, run)
        for run in catalog.pretrained_runs()
        if not catalog.run(run).pretrain.checkpoint
    ]
    for run in catalog.run_names:
        for name in catalog.finetune_datasets(run):
            for view in catalog.fold_variants(name):
                if not catalog.run(run).finetune.checkpoint:
                    stages.append(finetune_stage(catalog, run, view))
                stages.append(evaluate_stage(catalog, run, view))
            stages += [folds_stage(catalog, p) for p in catalog.cross_validations(name, (run,))]
    stages += [probe_stage(catalog, path) for path in catalog.report_probes()]
    stages.append(report_stage(catalog, stages))
    name, count = Counter(stage.name for stage in stages).most_common(1)[0]
    if count > 1:
        raise ConfigError(f"two stages of dvc.yaml would be called {name!r}; rename a run")
    return stages
