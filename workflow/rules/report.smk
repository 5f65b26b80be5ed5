# metrics.json of every run -> one self-contained page.


rule resolve_config:
    output:
        config="<results>/{run}/config.yaml",
    log:
        "<logs>/resolve_config/{run}.log",
    localrule: True
    params:
        run=lambda wildcards: dump(catalog.run(wildcards.run)),
    script:
        "../scripts/resolve_config.py"


rule report_results:
    input:
        metrics=report_metrics,
        folds=report_folds,
        probes=report_probes,
        indexes=report_indexes,
        configs=expand(rules.resolve_config.output.config, run=catalog.run_names),
    output:
        page=report(
            "<results>/report/index.html",
            category="Results",
            caption="../report/results.rst",
        ),
    log:
        "<logs>/report_results.log",
    benchmark:
        "<benchmarks>/report_results.tsv"
    retries: 0
    localrule: True
    params:
        report=dump(settings.report),
        step_version=versions.REPORT,
    script:
        "../scripts/report_results.py"
