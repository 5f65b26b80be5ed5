# Log-mel, frames and labels -> WebDataset shards of each chunk, then one index per split and one ledger.


rule pack_shard:
    input:
        logmel=rules.extract_logmel.output.manifest,
        transcode=rules.transcode_clips.output.manifest,
    output:
        manifest=paths.of_stage(paths.MANIFEST, "shards"),
        ledger=paths.of_stage(paths.LEDGER, "shards"),
    log:
        "<logs>/pack_shard/{dataset}/{split}/{chunk}.log",
    benchmark:
        "<benchmarks>/pack_shard/{dataset}/{split}/{chunk}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=120,
    params:
        **catalog.params("pack_shard"),
    script:
        "../scripts/pack_shard.py"


rule pack_index:
    input:
        shards=checked(lambda w: catalog.chunk_files("shards", w.dataset, w.split)),
        train=checked(lambda w: catalog.chunk_files("shards", w.dataset, "train")),
        earlier=checked(lambda w: catalog.earlier_shards(w.dataset, w.split)),
        dataset=lambda w: str(catalog.dataset_path(w.dataset)),
        described=checked(lambda w: catalog.dataset_files(w.dataset)),
    output:
        index=paths.PACKED_INDEX,
    log:
        "<logs>/pack_index/{dataset}/{split}.log",
    benchmark:
        "<benchmarks>/pack_index/{dataset}/{split}.tsv"
    retries: 0
    localrule: True
    params:
        **catalog.params("pack_index"),
    script:
        "../scripts/pack_index.py"


rule pack_ledger:
    input:
        download=checked(lambda w: catalog.chunk_files("download", w.dataset)),
        transcode=checked(lambda w: catalog.chunk_files("transcode", w.dataset)),
        logmel=checked(lambda w: catalog.chunk_files("logmel", w.dataset)),
        shards=checked(lambda w: catalog.chunk_files("shards", w.dataset)),
    output:
        ledger=paths.of_stage(paths.ALL_LEDGERS, "shards"),
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
        dataset=lambda w: str(catalog.dataset_path(w.dataset)),
    output:
        index=paths.FETCHED_INDEX,
    log:
        "<logs>/fetch_index/{dataset}/{split}.log",
    benchmark:
        "<benchmarks>/fetch_index/{dataset}/{split}.tsv"
    retries: 0
    localrule: True
    params:
        **catalog.params("fetch_index"),
    script:
        "../scripts/fetch_index.py"
