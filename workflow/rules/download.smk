# Clip list -> raw clips on this machine, one ledger row per clip.


rule download_clips:
    input:
        clips="<results>/{dataset}/plan/{split}/{chunk}.csv",
        retries=retry_requests("download"),
    output:
        manifest="<results>/{dataset}/download/{split}/{chunk}.json",
        ledger="<results>/{dataset}/download/{split}/{chunk}.ledger.csv",
    log:
        "<logs>/download_clips/{dataset}/{split}/{chunk}.log",
    benchmark:
        "<benchmarks>/download_clips/{dataset}/{split}/{chunk}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=720,
    params:
        root=lambda wildcards: str(catalog.dataset(wildcards.dataset).root),
        places=lambda wildcards: catalog.places(wildcards.dataset),
        raw=lambda w: f"{settings.results}/{w.dataset}/raw/{w.split}/{w.chunk}",
        limits=f"{settings.results}/.hosts",
        download=dump(settings.download),
        step_version=versions.DOWNLOAD,
    script:
        "../scripts/download_clips.py"


# `retry_failed_<dataset>` asks for one per chunk and stage with transient failures.
rule request_retry:
    output:
        touch("<results>/{dataset}/retry/{stage}/{split}/{chunk}.{number}"),
    localrule: True


rule download_ledger:
    input:
        download=dataset_chunks("download"),
    output:
        ledger="<results>/{dataset}/download/ledger.parquet",
    log:
        "<logs>/download_ledger/{dataset}.log",
    benchmark:
        "<benchmarks>/download_ledger/{dataset}.tsv"
    localrule: True
    script:
        "../scripts/download_ledger.py"
