# Clip list -> raw clips on this machine, one ledger row per clip.
from pipeline_src.manifest.retries import RetryRequests

requests = RetryRequests(Path(settings.results))


def retry_requests(stage):
    """An input function: the requests that the stage's job of a chunk answers."""
    return checked(lambda w: requests.of(w.dataset, stage, w.split, w.chunk))


rule download_clips:
    input:
        clips=paths.LISTED_CLIPS,
        retries=retry_requests("download"),
    output:
        manifest=paths.of_stage(paths.MANIFEST, "download"),
        ledger=paths.of_stage(paths.LEDGER, "download"),
    log:
        "<logs>/download_clips/{dataset}/{split}/{chunk}.log",
    benchmark:
        "<benchmarks>/download_clips/{dataset}/{split}/{chunk}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=720,
    params:
        **catalog.params("download_clips"),
        root=lambda w: str(catalog.dataset(w.dataset).root),
        sources=lambda w: catalog.clip_sources(w.dataset),
        raw=lambda w: catalog.raw_folder(w.dataset, w.split, w.chunk),
        limits=catalog.hosts_folder,
    script:
        "../scripts/download_clips.py"


# `retry_failed_<dataset>` asks for one per chunk and stage with transient failures.
rule request_retry:
    output:
        touch(paths.RETRY),
    localrule: True


rule download_ledger:
    input:
        download=checked(lambda w: catalog.chunk_files("download", w.dataset)),
    output:
        ledger=paths.of_stage(paths.ALL_LEDGERS, "download"),
    log:
        "<logs>/download_ledger/{dataset}.log",
    benchmark:
        "<benchmarks>/download_ledger/{dataset}.tsv"
    localrule: True
    script:
        "../scripts/download_ledger.py"
