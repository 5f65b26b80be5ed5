"""Fetch the index of shards that lie elsewhere."""

from pathlib import Path

from pipeline_src.config import RemoteConfig
from pipeline_src.shards.fetch import fetch_index
from pipeline_src.system.joblog import log_to_file

with log_to_file(snakemake.log[0]):
    fetch_index(
        index_path=Path(snakemake.output.index),
        dataset_path=Path(snakemake.input.dataset),
        split=snakemake.wildcards.split,
        remote=RemoteConfig(**snakemake.config["remote"]),
    )
