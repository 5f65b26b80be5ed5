"""Merge the shards of one split into index.json."""

from pathlib import Path

from pipeline_src.config import AudioConfig, MediaConfig, ShardsConfig
from pipeline_src.shards.index import write_index
from pipeline_src.system.joblog import log_to_file

with log_to_file(snakemake.log[0]):
    write_index(
        shard_manifests=[Path(path) for path in snakemake.input.shards],
        train_manifests=[Path(path) for path in snakemake.input.train],
        earlier_manifests=[Path(path) for path in snakemake.input.earlier],
        index_path=Path(snakemake.output.index),
        dataset_path=Path(snakemake.input.dataset),
        split=snakemake.wildcards.split,
        exclude_duplicates=snakemake.params.exclude_duplicates,
        max_failed_fraction=ShardsConfig(**snakemake.config["shards"]).max_failed_fraction,
        audio=AudioConfig(**snakemake.params.audio),
        media=MediaConfig(**snakemake.params.media),
        version=snakemake.params.step_version,
        class_list=Path(snakemake.input.described[0]),
    )
