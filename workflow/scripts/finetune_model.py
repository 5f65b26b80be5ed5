"""Fine-tune one run on one data set: submit the job, or join the one that is running, and wait."""

from pathlib import Path

from pipeline_src.config import load_config, resolve_run
from pipeline_src.runs.spec import TrainSpec
from pipeline_src.submit.request import JobRequest
from pipeline_src.submit.run import run_and_wait
from pipeline_src.system.joblog import log_to_file

with log_to_file(snakemake.log[0]):
    config = load_config(snakemake.config)
    run = resolve_run(config, snakemake.wildcards.run)
    run_and_wait(
        TrainSpec(
            stage="finetune",
            run_dir=Path(snakemake.output.done).parent,
            model=run.model,
            recipe=run.finetune,
            remote=config.remote,
            train_indexes=snakemake.input.train,
            val_indexes=snakemake.input.val,
            initial_checkpoint=next(iter(snakemake.input.pretrain), None),
        ),
        config.submit,
        JobRequest.from_resources(dict(snakemake.resources.items())),
        threads=snakemake.threads,
    )
