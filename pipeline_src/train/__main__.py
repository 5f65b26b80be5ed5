"""Entry of one rank: ``python -m pipeline_src.train <spec.json>``, alone or under torchrun."""

import argparse
import logging
import sys
from pathlib import Path

from pipeline_src.errors import PipelineError
from pipeline_src.runs.spec import load_spec
from pipeline_src.train.run import run_training
from pipeline_src.train.stop import StopFlag, StopRequestedError


def main() -> None:
    """Train the spec named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spec", type=Path, help="spec.json, as the workflow writes it")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        spec = load_spec(parser.parse_args().spec)
    except PipelineError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    with StopFlag() as stop:
        try:
            run_training(spec, stop)
        except (PipelineError, StopRequestedError) as error:
            sys.exit(f"{type(error).__name__}: {error}")
        except KeyboardInterrupt:  # a second Ctrl-C
            sys.exit("stopped; the same command goes on from the last saved state")


if __name__ == "__main__":
    main()
