"""Collect the download ledgers of a data set."""

from pathlib import Path

from pipeline_src.download.collect import collect_ledgers
from pipeline_src.joblog import log_to_file

with log_to_file(snakemake.log[0]):
    collect_ledgers([Path(path) for path in snakemake.input], Path(snakemake.output.ledger))
