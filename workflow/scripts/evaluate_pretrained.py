"""Score one pre-training before any label is used."""

from pathlib import Path

from pipeline_src.config import load_config, resolve_run
from pipeline_src.evaluate.pretrained import evaluate_pretrained
from pipeline_src.system.joblog import log_to_file

with log_to_file(snakemake.log[0]):
    run = resolve_run(load_config(snakemake.config), snakemake.wildcards.run)
    evaluate_pretrained(
        run=snakemake.wildcards.run,
        pretrain_done=Path(snakemake.input.pretrain),
        train_index=next(map(Path, snakemake.input.train), None),
        val_index=next(map(Path, snakemake.input.val), None),
        test_index=Path(snakemake.input.test),
        groups_path=next(map(Path, snakemake.input.groups), None),
        metrics_path=Path(snakemake.output.metrics),
        model=run.model,
        evaluate=run.evaluate,
        config=snakemake.config,
        num_examples=snakemake.params.num_examples,
        num_threads=snakemake.threads,
    )
