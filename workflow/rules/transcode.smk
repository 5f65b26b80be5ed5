# Raw clips -> 16 kHz mono audio and frames, in one decode per clip.


rule transcode_clips:
    input:
        clips=rules.download_clips.output.manifest,
        retries=retry_requests("transcode"),
    output:
        manifest=paths.of_stage(paths.MANIFEST, "transcode"),
        ledger=paths.of_stage(paths.LEDGER, "transcode"),
    log:
        "<logs>/transcode_clips/{dataset}/{split}/{chunk}.log",
    benchmark:
        "<benchmarks>/transcode_clips/{dataset}/{split}/{chunk}.tsv"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=720,
    params:
        **catalog.params("transcode_clips"),
    script:
        "../scripts/transcode_clips.py"
