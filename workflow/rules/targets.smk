# The names that people type.
from functools import partial

from pipeline_src.catalog.targets import refuse_unknown
from pipeline_src.download.local import is_another_now


def retried_shards(name):
    """The shards of a data set; its chunks that another try may change are made again for them."""
    made = {stage: catalog.chunk_files(stage, name) for stage in RETRIED_STAGES}
    asked = requests.ask(made, partial(is_another_now, catalog.dataset(name).root))
    logger.info(
        f"{name}: {asked.num_clips} clips with transient failures, or whose local files are there "
        f"or have changed by now, in {asked.num_chunks} chunks are tried again"
    )
    return [*catalog.shards(name), catalog.download_ledger(name)]


for dataset_name in catalog.names:

    rule:
        name:
            f"download_{dataset_name}"
        input:
            target(catalog.downloads, dataset_name),
        localrule: True

    rule:
        name:
            f"transcode_{dataset_name}"
        input:
            target(catalog.chunk_files, "transcode", dataset_name),
        localrule: True

    rule:
        name:
            f"logmel_{dataset_name}"
        input:
            target(catalog.chunk_files, "logmel", dataset_name),
        localrule: True

    rule:
        name:
            f"shards_{dataset_name}"
        input:
            target(catalog.shards, dataset_name),
        localrule: True

    rule:
        name:
            f"retry_failed_{dataset_name}"
        input:
            target(retried_shards, dataset_name),
        localrule: True

    rule:
        name:
            f"finetune_{dataset_name}"
        input:
            target(catalog.finetune_dones, dataset_name),
        localrule: True

    rule:
        name:
            f"eval_{dataset_name}"
        input:
            target(catalog.evaluations, dataset_name),
        localrule: True


rule pretrain:
    input:
        target(catalog.pretrain_dones),
    localrule: True


rule report:
    input:
        rules.report_results.output.page,
    localrule: True


if workflow.is_main_process:
    try:
        refuse_unknown(sys.argv[1:], {"all", *(rule.name for rule in workflow.rules)})
    except PipelineError as error:
        raise WorkflowError(str(error)) from None
