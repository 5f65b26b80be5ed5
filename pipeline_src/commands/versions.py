"""Which steps' code has changed while their version did not.

... --check                 # which steps changed
... --write                 # after a version was raised
... --keeps-results STEP    # a change that keeps every byte
... --list STEP             # what it reaches
"""

import argparse

from pipeline_src.dvc.reached import ENTRY_POINTS, list_reached, problems, record
from pipeline_src.errors import StageError

ALL = "all"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the actions, one of which is asked for."""
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--check", action="store_true", help="name steps whose code changed")
    action.add_argument("--write", action="store_true", help="record steps with a new version")
    action.add_argument(
        "--keeps-results",
        nargs="+",
        choices=[*ENTRY_POINTS, ALL],
        metavar="STEP",
        help=f"record these too; {ALL} = every one",
    )
    action.add_argument(
        "--list",
        choices=ENTRY_POINTS,
        type=str.upper,
        metavar="STEP",
        help=f"print what a step reaches: {', '.join(ENTRY_POINTS)}",
    )


def run(options: argparse.Namespace) -> int:
    """Do what was asked.

    Raises:
        StageError: steps changed without their version, or a version without its step; names them.
    """
    if options.list:
        print("\n".join(list_reached(options.list)))
        return 0
    if not options.check:
        kept = options.keeps_results or ()
        record(ENTRY_POINTS if ALL in kept else kept)
    if found := list(problems()):
        raise StageError("\n".join(found))
    print("every step's code is as recorded")
    return 0
