"""Decode the clips of one chunk to 16 kHz audio and frames."""

from pathlib import Path

from pipeline_src.config import MediaConfig
from pipeline_src.system.joblog import log_to_file
from pipeline_src.transcode.transcode import transcode_chunk

with log_to_file(snakemake.log[0]):
    transcode_chunk(
        download_manifest=Path(snakemake.input.clips),
        manifest_path=Path(snakemake.output.manifest),
        ledger_path=Path(snakemake.output.ledger),
        media=MediaConfig(**{**snakemake.config["media"], **snakemake.params.media}),
        num_workers=snakemake.threads,
        version=snakemake.params.step_version,
    )
