"""Score one fine-tuned checkpoint."""

from pathlib import Path

from pipeline_src.config import EvaluateConfig, ModelConfig
from pipeline_src.eval.finetuned import evaluate_finetuned
from pipeline_src.joblog import log_to_file

with log_to_file(snakemake.log[0]):
    evaluate_finetuned(
        run=snakemake.wildcards.run,
        finetune_done=Path(snakemake.input.finetune),
        pretrain_done=next(map(Path, snakemake.input.pretrain), None),
        index_path=Path(snakemake.input.index),
        metrics_path=Path(snakemake.output.metrics),
        model=ModelConfig(**snakemake.params.model),
        evaluate=EvaluateConfig(**snakemake.params.evaluate),
        config=snakemake.config,
        num_threads=snakemake.threads,
    )
