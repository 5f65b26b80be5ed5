# Checkpoints -> metrics.json: after fine-tuning, and of pre-training before any label is used.


rule evaluate_finetuned:
    input:
        finetune=finetune_done,
        pretrain=pretrain_done,
        index=scored_index,
    output:
        metrics="<results>/{run}/eval/{dataset}/metrics.json",
    log:
        "<logs>/evaluate_finetuned/{run}/{dataset}.log",
    benchmark:
        "<benchmarks>/evaluate_finetuned/{run}/{dataset}.tsv"
    threads: workflow.cores or 1
    resources:
        mem_mb=8000,
        runtime=240,
        gpu=0,
    params:
        model=run_params("model"),
        evaluate=run_params("evaluate"),
        step_version=versions.EVALUATE,
    script:
        "../scripts/evaluate_finetuned.py"


rule evaluate_folds:
    input:
        folds=fold_metrics,
    output:
        metrics="<results>/{run}/folds/{dataset}/metrics.json",
    log:
        "<logs>/evaluate_folds/{run}/{dataset}.log",
    localrule: True
    params:
        step_version=versions.EVALUATE,
    script:
        "../scripts/evaluate_folds.py"


rule evaluate_pretrained:
    input:
        pretrain=own_pretrain_done,
        train=probe_train_index,
        val=probe_val_index,
        test=scored_index,
    output:
        metrics="<results>/{run}/probe/{dataset}/metrics.json",
    log:
        "<logs>/evaluate_pretrained/{run}/{dataset}.log",
    benchmark:
        "<benchmarks>/evaluate_pretrained/{run}/{dataset}.tsv"
    threads: workflow.cores or 1
    resources:
        mem_mb=8000,
        runtime=240,
        gpu=0,
    params:
        model=run_params("model"),
        evaluate=run_params("evaluate"),
        num_examples=settings.report.num_examples,
        step_version=versions.EVALUATE,
    script:
        "../scripts/evaluate_pretrained.py"
