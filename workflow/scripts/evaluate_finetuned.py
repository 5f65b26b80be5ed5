"""Score one fine-tuned checkpoint."""

from pathlib import Path

from pipeline_src.config import load_config, resolve_run
from pipeline_src.evaluate.finetuned import evaluate_finetuned
from pipeline_src.system.joblog import log_to_file

with log_to_file(snakemake.log[0]):
    run = resolve_run(load_config(snakemake.config), snakemake.wildcards.run)
    evaluate_finetuned(
        run=snakemake.wildcards.run,
        finetune_done=Path(snakemake.input.finetune),
        pretrain_done=next(map(Path, snakemake.input.pretrain), None),
        index_path=Path(snakemake.input.index),
        groups_path=next(map(Path, snakemake.input.groups), None),
        metrics_path=Path(snakemake.output.metrics),
        model=run.model,
        evaluate=run.evaluate,
        config=snakemake.config,
        num_threads=snakemake.threads,
    )
