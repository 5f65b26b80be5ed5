"""Compute the log-mels of one chunk."""

from pathlib import Path

from pipeline_src.config import AudioConfig
from pipeline_src.logmel.chunk import extract_chunk
from pipeline_src.system.joblog import log_to_file

with log_to_file(snakemake.log[0]):
    extract_chunk(
        transcode_manifest=Path(snakemake.input.clips),
        manifest_path=Path(snakemake.output.manifest),
        ledger_path=Path(snakemake.output.ledger),
        audio=AudioConfig(**snakemake.params.audio),
        sample_rate_hz=snakemake.params.sample_rate_hz,
        num_workers=snakemake.threads,
        version=snakemake.params.step_version,
    )
