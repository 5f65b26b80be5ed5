# metrics.json of every run -> one self-contained page.


rule resolve_config:
    output:
        config=paths.RUN_CONFIG,
    log:
        "<logs>/resolve_config/{run}.log",
    localrule: True
    params:
        run=lambda w: catalog.run(w.run).recipe_values(),
    script:
        "../scripts/resolve_config.py"


rule report_results:
    input:
        metrics=target(catalog.report_metrics),
        folds=target(catalog.report_folds),
        probes=target(catalog.report_probes),
        indexes=target(catalog.report_indexes),
        configs=expand(rules.resolve_config.output.config, run=catalog.run_names),
    output:
        page=report(
            paths.REPORT,
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
        **catalog.params("report_results"),
    script:
        "../scripts/report_results.py"
