# Shards -> checkpoints. Local rules: each submits its own job and waits (pipeline_src.submit).
# Their resources are what that job asks for (pipeline_src.submit.request); profiles set them.


rule pretrain_model:
    input:
        train=pretrain_indexes,
        start=start_done,
        teacher=teacher_done,
    output:
        done="<results>/{run}/pretrain/done.json",
    log:
        "<logs>/pretrain_model/{run}.log",
    benchmark:
        "<benchmarks>/pretrain_model/{run}.tsv"
    retries: 0  # the waiter itself goes on after a job that died
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
        model=run_params("model"),
        recipe=run_params("pretrain"),
        num_ranks=shared_by_ranks("pretrain"),
        step_version=versions.PRETRAIN,
    script:
        "../scripts/pretrain_model.py"


rule finetune_model:
    input:
        train=finetune_train_indexes,
        val=finetune_val_indexes,
        pretrain=pretrain_done,
    output:
        done="<results>/{run}/finetune/{dataset}/done.json",
    log:
        "<logs>/finetune_model/{run}/{dataset}.log",
    benchmark:
        "<benchmarks>/finetune_model/{run}/{dataset}.tsv"
    retries: 0  # the waiter itself goes on after a job that died
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
        model=run_params("model"),
        recipe=run_params("finetune"),
        num_ranks=shared_by_ranks("finetune"),
        step_version=versions.FINETUNE,
    script:
        "../scripts/finetune_model.py"
