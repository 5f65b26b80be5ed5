"""What `make setup` writes to .dvc/config.local: DVC's state folder, and pages without the network.

What is named there already stays.
"""

import argparse
import contextlib
import sys

from pipeline_src.dvc.plots_page import use_local_page
from pipeline_src.dvc.site_cache import use_own_site_cache
from pipeline_src.errors import PipelineError
from pipeline_src.system.checkout import CHECKOUT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare nothing: there is nothing to choose."""


def run(options: argparse.Namespace) -> int:
    """Write both settings; what fails is said, since all but DVC works without."""
    settings = {"DVC keeps its state in": use_own_site_cache, "Pages of dvc plots:": use_local_page}
    with contextlib.chdir(CHECKOUT):  # never another project's
        for setting, use in settings.items():
            try:
                print(setting, use())
            except PipelineError as problem:
                print(f"{setting} not set: {problem}; see `av-pipeline doctor`", file=sys.stderr)
    return 0
