# Log-mel, frames and labels -> WebDataset shards of each chunk, then one index per split and one ledger.


rule pack_shard:
    input:
        logmel=rules.extract_logmel.output.manifest,
        transcode=rules.transcode_clips.output.manifest,
    output:
        manifest="<results>/{dataset}/shards/{split}/{chunk}.json",
        ledger="<results>/{dataset}/shards/{split}/{chunk}.ledger.csv",
    log:
        "<logs>/pack_shard/{dataset}/{split}/{chunk}.log",
    benchmark:
        "<benchmarks>/pack_shard/{dataset}/{split}/{chunk}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=120,
    params:
        shards=dump(settings.shards.of_tars),
        step_version=versions.PACK,
    script:
        "../scripts/pack_shard.py"


rule pack_index:
    input:
        shards=split_shards,
        train=train_shards,
        earlier=earlier_shards,
        dataset=lambda wildcards: str(catalog.dataset_path(wildcards.dataset)),
        described=dataset_files,
    output:
        index="<results>/{dataset}/shards/{split}/index.json",
    log:
        "<logs>/pack_index/{dataset}/{split}.log",
    benchmark:
        "<benchmarks>/pack_index/{dataset}/{split}.tsv"
    retries: 0
    localrule: True
    params:
        exclude_duplicates="duplicate" in settings.shards.exclude_flags,
        audio=dump(settings.audio),
        media=lambda wildcards: dump(catalog.media(wildcards.dataset)),
        step_version=versions.INDEX,
    script:
        "../scripts/pack_index.py"


rule pack_ledger:
    input:
        download=dataset_chunks("download"),
        transcode=dataset_chunks("transcode"),
        logmel=dataset_chunks("logmel"),
        shards=dataset_chunks("shards"),
    output:
        ledger="<results>/{dataset}/shards/ledger.parquet",
    log:
        "<logs>/pack_ledger/{dataset}.log",
    benchmark:
        "<benchmarks>/pack_ledger/{dataset}.tsv"
    localrule: True
    script:
        "../scripts/pack_ledger.py"


# Of shards that lie elsewhere: the index and its manifests alone.
rule fetch_index:
    input:
        dataset=lambda wildcards: str(catalog.dataset_path(wildcards.dataset)),
    output:
        index="<results>/{dataset}/remote/{split}/index.json",
    log:
        "<logs>/fetch_index/{dataset}/{split}.log",
    benchmark:
        "<benchmarks>/fetch_index/{dataset}/{split}.tsv"
    retries: 0
    localrule: True
    params:
        step_version=versions.INDEX,
    script:
        "../scripts/fetch_index.py"
