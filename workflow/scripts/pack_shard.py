"""Pack one chunk into a WebDataset shard."""

from pathlib import Path

from pipeline_src.config import ShardsConfig
from pipeline_src.shards.write import pack_chunk
from pipeline_src.system.joblog import log_to_file

with log_to_file(snakemake.log[0]):
    manifest = Path(snakemake.output.manifest)
    pack_chunk(
        logmel_manifest=Path(snakemake.input.logmel),
        transcode_manifest=Path(snakemake.input.transcode),
        manifest_path=manifest,
        ledger_path=Path(snakemake.output.ledger),
        shard_path=manifest.with_name(f"{snakemake.wildcards.split}-{manifest.stem}.tar"),
        shards=ShardsConfig(**snakemake.params.shards),
        version=snakemake.params.step_version,
    )
