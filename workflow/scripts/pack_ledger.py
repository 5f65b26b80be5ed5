"""Collect the ledgers of all stages of a data set."""

from pathlib import Path

from pipeline_src.manifest.collect import collect_ledgers
from pipeline_src.system.joblog import log_to_file

with log_to_file(snakemake.log[0]):
    manifests = {stage: [Path(path) for path in paths] for stage, paths in snakemake.input.items()}
    collect_ledgers(manifests, Path(snakemake.output.ledger))
