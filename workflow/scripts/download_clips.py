"""Fetch the clips of one chunk."""

from pathlib import Path

from pipeline_src.config import DownloadConfig
from pipeline_src.download.chunk import download_chunk
from pipeline_src.joblog import log_to_file

with log_to_file(snakemake.log[0]):
    download_chunk(
        chunk_csv=Path(snakemake.input.clips),
        dataset_name=snakemake.wildcards.dataset,
        split=snakemake.wildcards.split,
        chunk=snakemake.wildcards.chunk,
        root=Path(snakemake.params.root),
        clip_file=snakemake.params.clip_file,
        raw_folder=Path(snakemake.params.raw),
        manifest_path=Path(snakemake.output.manifest),
        ledger_path=Path(snakemake.output.ledger),
        config=DownloadConfig(**snakemake.params.download),
        version=snakemake.params.step_version,
    )
