"""Average one run's scores over the folds of a data set."""

from pathlib import Path

from pipeline_src.evaluate.folds import average_folds
from pipeline_src.system.joblog import log_to_file

with log_to_file(snakemake.log[0]):
    average_folds(
        [Path(path) for path in snakemake.input.folds],
        Path(snakemake.output.metrics),
    )
