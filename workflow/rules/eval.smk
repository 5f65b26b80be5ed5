# Checkpoints -> metrics.json: after fine-tuning, and of pre-training before any label is used.


rule evaluate_finetuned:
    input:
        finetune=checked(lambda w: catalog.finetune_done(w.run, w.dataset)),
        pretrain=checked(lambda w: catalog.pretrain_done(w.run)),
        index=checked(lambda w: catalog.scored_index(w.run, w.dataset)),
        chunks=checked(
            lambda w: catalog.chunks_behind([catalog.scored_index(w.run, w.dataset)])
        ),
        groups=checked(lambda w: catalog.scored_groups(w.run, w.dataset)),
    output:
        metrics=paths.SCORES,
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
        **catalog.params("evaluate_finetuned"),
    script:
        "../scripts/evaluate_finetuned.py"


rule evaluate_folds:
    input:
        folds=checked(lambda w: catalog.metrics(w.dataset, (w.run,))),
    output:
        metrics=paths.FOLD_SCORES,
    log:
        "<logs>/evaluate_folds/{run}/{dataset}.log",
    localrule: True
    params:
        **catalog.params("evaluate_folds"),
    script:
        "../scripts/evaluate_folds.py"


rule evaluate_pretrained:
    input:
        pretrain=checked(lambda w: catalog.own_pretrain_done(w.run)),
        train=checked(lambda w: catalog.probe_train_index(w.run, w.dataset)),
        val=checked(lambda w: catalog.probe_val_index(w.run, w.dataset)),
        test=checked(lambda w: catalog.scored_index(w.run, w.dataset)),
        chunks=checked(lambda w: catalog.probed_chunks(w.run, w.dataset)),
        groups=checked(lambda w: catalog.scored_groups(w.run, w.dataset)),
    output:
        metrics=paths.PROBE_SCORES,
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
        **catalog.params("evaluate_pretrained"),
    script:
        "../scripts/evaluate_pretrained.py"
