"""Embeddings of files, folders and URLs by a checkpoint, one row per file or window.

    av-pipeline embed results/avsiam_tiny/pretrain my_videos --output embeddings.csv

A row has the pooled features of the sound (audio_0, ...) and of the picture (video_0, ...), as far
as a file has them, or the reason why it was refused. The same command continues what was begun.
"""

import argparse

from pipeline_src.inference.results import Embedding
from pipeline_src.inference.run import SPAN_COLUMNS, add_inputs, open_model, write_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the checkpoint, the inputs and the output."""
    add_inputs(parser)


def run(options: argparse.Namespace) -> int:
    """Embed what the command line names."""
    model = open_model(options)
    kinds = options.modalities or model.modalities
    width = model.network.config.embed_dim
    numbers = [
        f"{kind}_{place}" for kind in ("audio", "video") if kind in kinds for place in range(width)
    ]
    columns = [*SPAN_COLUMNS, *numbers]
    return write_table(options, model, model.embeddings, columns, Embedding.row, Embedding.record)
