# Raw clips -> 16 kHz mono audio and frames, in one decode per clip.


rule transcode_clips:
    input:
        clips=rules.download_clips.output.manifest,
        retries=retry_requests("transcode"),
    output:
        manifest="<results>/{dataset}/transcode/{split}/{chunk}.json",
        ledger="<results>/{dataset}/transcode/{split}/{chunk}.ledger.csv",
    log:
        "<logs>/transcode_clips/{dataset}/{split}/{chunk}.log",
    benchmark:
        "<benchmarks>/transcode_clips/{dataset}/{split}/{chunk}.tsv"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=720,
    params:
        media=lambda wildcards: dump(catalog.media(wildcards.dataset)),
        step_version=versions.TRANSCODE,
    script:
        "../scripts/transcode_clips.py"
