"""Write the resolved sections of one run, for people and the report."""

from pathlib import Path

import yaml

from pipeline_src.config import load_config, resolve_run
from pipeline_src.system.atomic import write_text
from pipeline_src.system.joblog import log_to_file

with log_to_file(snakemake.log[0]):
    run = resolve_run(load_config(snakemake.config), snakemake.wildcards.run)
    text = yaml.safe_dump(run.model_dump(mode="json"), sort_keys=False)
    write_text(Path(snakemake.output.config), text)
