# Shards -> checkpoints. Local rules: each submits its own job and waits (pipeline_src.submit).
# Their resources are what that job asks for (pipeline_src.submit.request); profiles set them.
from pipeline_src.catalog.check import check_training
from pipeline_src.catalog.possible import refuse_missing_loggers
from pipeline_src.submit.request import JobRequest


def shared_by_ranks(section):
    """A params function: ranks of a training, refused where they could not share every batch.

    On its own, because Snakemake compares no param that follows from resources: as part of the
    recipe it would hide every change of it.
    """

    def count(wildcards, request):
        request.check_batches(section, getattr(catalog.run(wildcards.run), section))
        view = getattr(wildcards, "dataset", "")
        check_training(catalog, wildcards.run, section, view, request.num_ranks)
        refuse_missing_loggers(settings.submit.loggers)
        return request.num_ranks

    return lambda wildcards, resources: checked(
        lambda w: count(w, JobRequest.from_resources(dict(resources.items())))
    )(wildcards)


rule pretrain_model:
    input:
        train=checked(lambda w: catalog.pretrain_indexes(w.run)),
        chunks=checked(lambda w: catalog.chunks_behind(catalog.pretrain_indexes(w.run))),
        start=checked(lambda w: catalog.start_done(w.run)),
        teacher=checked(lambda w: catalog.teacher_done(w.run)),
    output:
        done=paths.PRETRAINED,
    log:
        "<logs>/pretrain_model/{run}.log",
    benchmark:
        "<benchmarks>/pretrain_model/{run}.tsv"
    retries: 0  # the waiter itself submits again after a job that died
    localrule: True
    threads: workflow.cores or 1
    resources:
        mem_mb=16000,
        runtime=1440,
        nodes=1,
        tasks_per_node=1,
        cpus_per_task=0,
        gpus_per_node=0,
    params:
        **catalog.params("pretrain_model"),
        num_ranks=shared_by_ranks("pretrain"),
    script:
        "../scripts/pretrain_model.py"


rule finetune_model:
    input:
        train=checked(lambda w: catalog.finetune_train_indexes(w.run, w.dataset)),
        val=checked(lambda w: catalog.finetune_val_indexes(w.dataset)),
        chunks=checked(lambda w: catalog.finetune_chunks(w.run, w.dataset)),
        pretrain=checked(lambda w: catalog.pretrain_done(w.run)),
    output:
        done=paths.FINETUNED,
    log:
        "<logs>/finetune_model/{run}/{dataset}.log",
    benchmark:
        "<benchmarks>/finetune_model/{run}/{dataset}.tsv"
    retries: 0  # the waiter itself submits again after a job that died
    localrule: True
    threads: workflow.cores or 1
    resources:
        mem_mb=16000,
        runtime=1440,
        nodes=1,
        tasks_per_node=1,
        cpus_per_task=0,
        gpus_per_node=0,
    params:
        **catalog.params("finetune_model"),
        num_ranks=shared_by_ranks("finetune"),
    script:
        "../scripts/finetune_model.py"
