"""Build the report page of all runs."""

from pathlib import Path

from pipeline_src.config import ReportConfig
from pipeline_src.report.build import build_report
from pipeline_src.system.joblog import log_to_file

with log_to_file(snakemake.log[0]):
    build_report(
        metrics_files=[Path(path) for path in snakemake.input.metrics],
        fold_files=[Path(path) for path in snakemake.input.folds],
        probe_files=[Path(path) for path in snakemake.input.probes],
        index_files=[Path(path) for path in snakemake.input.indexes],
        output=Path(snakemake.output.page),
        config=ReportConfig(**snakemake.params.report),
    )
