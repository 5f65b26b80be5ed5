# The names that people type.
for dataset_name in catalog.names:

    rule:
        name:
            f"download_{dataset_name}"
        localrule: True
        input:
            target(catalog.chunk_files, "download", dataset_name),

    rule:
        name:
            f"shards_{dataset_name}"
        localrule: True
        input:
            target(catalog.indexes, dataset_name),

    rule:
        name:
            f"finetune_{dataset_name}"
        localrule: True
        input:
            expand(
                "<results>/{run}/finetune/{dataset}/done.json",
                run=catalog.run_names,
                dataset=dataset_name,
            ),

    rule:
        name:
            f"eval_{dataset_name}"
        localrule: True
        input:
            target(catalog.evaluations, dataset_name),


rule pretrain:
    localrule: True
    input:
        expand("<results>/{run}/pretrain/done.json", run=catalog.pretrained_runs()),


rule report:
    localrule: True
    input:
        "<results>/report/index.html",
