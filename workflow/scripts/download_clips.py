"""Fetch the clips of one chunk."""

from pathlib import Path

from pipeline_src.config import DownloadConfig, RateLimitConfig
from pipeline_src.download.chunk import download_chunk
from pipeline_src.download.source_choices import ClipSources
from pipeline_src.manifest.chunks import ChunkId
from pipeline_src.system.joblog import log_to_file
from pipeline_src.transcode.ffmpeg import find_ffmpeg

with log_to_file(snakemake.log[0]):
    download_chunk(
        chunk_csv=Path(snakemake.input.clips),
        id=ChunkId(*(snakemake.wildcards[name] for name in ("dataset", "split", "chunk"))),
        sources=ClipSources(Path(snakemake.params.root), **snakemake.params.sources),
        raw_folder=Path(snakemake.params.raw),
        limits_folder=Path(snakemake.params.limits),
        manifest_path=Path(snakemake.output.manifest),
        ledger_path=Path(snakemake.output.ledger),
        config=DownloadConfig(**snakemake.config["download"]),
        rate_limits=RateLimitConfig(**snakemake.config["rate_limits"]),
        ffmpeg=find_ffmpeg(),
        version=snakemake.params.step_version,
    )
