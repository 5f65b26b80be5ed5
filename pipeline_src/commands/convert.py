"""Published weights to a checkpoint folder, and back.

... published.pth   FOLDER      --model avsiam_base
... finetuned.pth   FOLDER      --model cav_mae_base --dataset config/datasets/vggsound.yaml
... mae.pth         FOLDER      --model cav_mae_base --from image
... FOLDER          weights.pth
... FOLDER          vit.pth     --to image
"""

import argparse
from pathlib import Path

from pipeline_src.inference.locate import locate
from pipeline_src.runs.convert import (
    LOGMEL_MEAN,
    LOGMEL_STD,
    describe_report,
    describe_way_back,
    export_weights,
    import_weights,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the source and the target; the source says the direction."""
    add = parser.add_argument
    add(
        "source",
        type=Path,
        help="file of weights, or folder of a training, a checkpoint or an export",
    )
    add("target", type=Path, help="folder, or file of weights")
    add("--model", default="", help="e.g. avsiam_base")
    add("--from", "--to", dest="origin", choices=("published", "image"), default="published")
    add("--variant", default="released", help="paper or released")
    add("--dataset", type=Path, help="YAML of the data set that a file was fine-tuned on")
    add("--trained-on", type=Path, nargs="+", help="YAML of each data set it has learnt from")
    add("--set", action="append", default=[], help="a constructor argument, key=value")
    add(
        "--allow",
        action="append",
        default=[],
        metavar="PATTERN",
        help="--from image: encoder tensors that may be unused or missing, e.g. reg_token",
    )
    add("--logmel-mean", type=float, default=LOGMEL_MEAN, help="that the weights were trained with")
    add("--logmel-std", type=float, default=LOGMEL_STD, help="that the weights were trained with")
    add("--seed", type=int, default=0, help="of layers that an image network does not fill")


def run(options: argparse.Namespace) -> int:
    """Convert what the command line names, in the direction that the source says."""
    if not options.source.is_dir():
        print(describe_report(options, import_weights(options)))
        return 0
    checkpoint = locate(options.source)
    print(describe_report(options, export_weights(options, checkpoint)))
    if options.origin == "published":
        print(describe_way_back(options, checkpoint))
    return 0
