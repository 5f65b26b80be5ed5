"""Classes of files, folders and URLs by a fine-tuned checkpoint, one row per file or window.

    av-pipeline classify results/avsiam_tiny/finetune/avdigits my_videos --output classes.csv

A row has the best classes with their scores, or the reason why the file was refused. The same
command continues what was begun.
"""

import argparse

from pipeline_src.errors import ConfigError
from pipeline_src.inference.results import Classification
from pipeline_src.inference.run import SPAN_COLUMNS, add_inputs, open_model, write_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the checkpoint, the inputs and the output."""
    add_inputs(parser)
    parser.add_argument("--top", type=int, default=5, help="classes per row")


def run(options: argparse.Namespace) -> int:
    """Score what the command line names.

    Raises:
        ConfigError: --top, or nothing to look at.
        CheckpointError: not that of a fine-tuning.
    """
    if options.top < 1:
        raise ConfigError(f"--top {options.top}; allowed: at least 1")
    model = open_model(options)
    count = min(options.top, len(model.class_names))
    ranks = [f"{name}_{rank}" for rank in range(1, count + 1) for name in ("label", "score")]
    return write_table(
        options,
        model,
        model.classifications,
        [*SPAN_COLUMNS, "head", *ranks],
        lambda one: Classification.row(one, count),
        lambda one: Classification.record(one, count),
    )
