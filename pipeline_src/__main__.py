"""``python -m pipeline_src <command>``: ``av-pipeline`` without an installation."""

import sys

from pipeline_src.commands.cli import main

if __name__ == "__main__":
    sys.exit(main())
