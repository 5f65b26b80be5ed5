"""A checkpoint as a folder to share: weights, config, preprocessing, model card.

    av-pipeline export results/avsiam_tiny/finetune/avdigits my_model

`load("my_model")` and the other commands read it. --onnx adds both encoders for other runtimes. The
card says what is known of data, licences, recipe and figures; read it before you share it. Nothing
is uploaded.
"""

import argparse
from pathlib import Path

from pipeline_src.inference.export import export


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the source and the target."""
    add = parser.add_argument
    add("source", type=Path, help="folder of a training or of a checkpoint")
    add("target", type=Path, help="folder to write")
    add("--onnx", action="store_true", help="both encoders as ONNX; needs the extra export")


def run(options: argparse.Namespace) -> int:
    """Export what the command line names."""
    model = export(options.source, options.target)
    if options.onnx:
        from pipeline_src.inference.onnx import export_onnx

        export_onnx(model, options.target)
    print("\n".join(str(path) for path in sorted(options.target.iterdir())))
    return 0
