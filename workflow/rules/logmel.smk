# 16 kHz audio -> Kaldi log-mel filterbank.


rule extract_logmel:
    input:
        clips=rules.transcode_clips.output.manifest,
    output:
        manifest="<results>/{dataset}/logmel/{split}/{chunk}.json",
        ledger="<results>/{dataset}/logmel/{split}/{chunk}.ledger.csv",
    log:
        "<logs>/extract_logmel/{dataset}/{split}/{chunk}.log",
    benchmark:
        "<benchmarks>/extract_logmel/{dataset}/{split}/{chunk}.tsv"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        audio=dump(settings.audio),
        sample_rate_hz=settings.media.sample_rate_hz,
        step_version=versions.LOGMEL,
    script:
        "../scripts/extract_logmel.py"
