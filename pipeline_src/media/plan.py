"""``python -m pipeline_src.media.plan <dataset>``: what fetching a data set will take.

The command itself is in ``pipeline_src.estimate``, because it reads the whole configuration.
"""

import runpy

if __name__ == "__main__":
    runpy.run_module("pipeline_src.commands.estimate", run_name="__main__")
