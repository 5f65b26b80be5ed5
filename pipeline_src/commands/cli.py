"""The one command: ``av-pipeline <command>``, or ``python -m pipeline_src <command>``.

A command is a module of ``pipeline_src.commands``: its docstring is the description,
``add_arguments`` declares its options, ``run`` does it and returns the exit code. Only the command
that was named is imported, so that the list of all of them needs no torch.
"""

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence

from pipeline_src.errors import PipelineError, did_you_mean

NAME = "av-pipeline"
SIGPIPE_STATUS = 141  # what a shell says of a process that the signal ended
COMMANDS = {
    "list": "a data set from a folder of videos: YAML, clip list, class list",
    "doctor": "check this checkout and this machine",
    "fetch": "published lists and archives of data sets, where they are missing",
    "estimate": "clips, gigabytes and hours of a data set, before any request",
    "cost": "parameters, operations, memory and GPU hours of trainings, before they run",
    "convert": "published weights to a checkpoint folder, and back",
    "embed": "vectors of files, folders and URLs by a checkpoint",
    "classify": "classes of files, folders and URLs by a fine-tuned checkpoint",
    "search": "clips of one's own, found by sound or picture",
    "serve": "a page to search them, for one's own browser",
    "complete": "what checkpoints of before 0.2 lack for their use",
    "export": "a checkpoint as a folder to share, with its model card",
    "verify": "every byte of packed shards, and some or all clips decoded",
    "table": "the figures of every evaluation as plain text",
    "config": "config.yaml, schema.json and README.md in config/, generated from the sections",
    "stages": "dvc.yaml, generated from config/config.yaml",
    "sync": "reconcile what DVC and Snakemake hold of the results",
    "setup": "what `make setup` tells DVC of this checkout: state folder, pages",
    "versions": "steps whose code changed while their version did not",
    "reproduce": "make a metrics.json again from its commit and compare",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that was named; a user error exits with its message alone."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = _parse(_parser(given[0] if given else ""), given)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        status = options.run(options)
        if sys.stdout:  # none of a daemon's
            sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever read has enough, as ``head`` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SIGPIPE_STATUS
    except PipelineError as error:
        sys.exit(f"{type(error).__name__}: {error}")


def _parse(parser: argparse.ArgumentParser, given: Sequence[str]) -> argparse.Namespace:
    """Parse the command line; inputs may stand behind options, too.

    argparse gives a list that may be empty what stands before the next option and no more.
    """
    options, left = parser.parse_known_args(given)
    behind = list(given[given.index("--") :]) if "--" in given else []
    unknown = [word for word in left if word.startswith("-") and word not in behind]
    if left and (unknown or not isinstance(getattr(options, "inputs", None), list)):
        parser.error(f"unrecognized arguments: {' '.join(unknown or left)}")
    if left:
        options.inputs += [word for word in left if word != "--"]
    return options


def _parser(asked: str) -> argparse.ArgumentParser:
    """Return every command with its summary; options only of the one that is asked for."""
    parser = argparse.ArgumentParser(
        prog=NAME, description="Commands beside the workflow, which `snakemake` runs."
    )
    parsers = parser.add_subparsers(metavar="COMMAND", required=True)
    if asked and not asked.startswith("-") and asked not in COMMANDS:
        known = ", ".join(COMMANDS)
        parser.error(f"unknown command {asked!r}{did_you_mean(asked, COMMANDS)}; known: {known}")
    for name, summary in COMMANDS.items():
        own = parsers.add_parser(
            name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name == asked:
            module = importlib.import_module(f"pipeline_src.commands.{name}")
            own.description = module.__doc__
            module.add_arguments(own)
            own.set_defaults(run=module.run)
    return parser
