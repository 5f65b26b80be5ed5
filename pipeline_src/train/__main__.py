"""Entry of one rank: ``python -m pipeline_src.train <spec.json>``, alone or under torchrun."""

import argparse
import logging
from pathlib import Path

from pipeline_src.runs.spec import load_spec
from pipeline_src.train.run import run_training
from pipeline_src.train.stop import StopFlag


def main() -> None:
    """Train the spec named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spec", type=Path, help="spec.json, as the workflow writes it")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    spec = load_spec(parser.parse_args().spec)
    with StopFlag() as stop:
        run_training(spec, stop)


if __name__ == "__main__":
    main()
