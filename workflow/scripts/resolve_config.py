"""Write the resolved sections of one run, for people and the report."""

from pathlib import Path

import yaml

from pipeline_src.atomic import write_text
from pipeline_src.joblog import log_to_file

with log_to_file(snakemake.log[0]):
    write_text(Path(snakemake.output.config), yaml.safe_dump(snakemake.params.run, sort_keys=False))
