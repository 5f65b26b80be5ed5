"""Commands beside the workflow: ``python -m pipeline_src <command> --help``."""

import argparse
import logging
import sys

from pipeline_src.doctor import add_doctor_parser
from pipeline_src.errors import PipelineError
from pipeline_src.reproduce import add_reproduce_parser
from pipeline_src.stages.commands import add_stages_parser, add_sync_parser


def main() -> None:
    """Run the command that was named; a user error ends with its message alone."""
    parser = argparse.ArgumentParser(prog="python -m pipeline_src", description=__doc__)
    parsers = parser.add_subparsers(dest="command", required=True)
    add_stages_parser(parsers)
    add_sync_parser(parsers)
    add_doctor_parser(parsers)
    add_reproduce_parser(parsers)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    arguments = parser.parse_args()
    try:
        sys.exit(arguments.run(arguments))
    except PipelineError as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
