# 16 kHz audio -> Kaldi log-mel filterbank.


rule extract_logmel:
    input:
        clips=rules.transcode_clips.output.manifest,
    output:
        manifest=paths.of_stage(paths.MANIFEST, "logmel"),
        ledger=paths.of_stage(paths.LEDGER, "logmel"),
    log:
        "<logs>/extract_logmel/{dataset}/{split}/{chunk}.log",
    benchmark:
        "<benchmarks>/extract_logmel/{dataset}/{split}/{chunk}.tsv"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        **catalog.params("extract_logmel"),
    script:
        "../scripts/extract_logmel.py"
