"""Data sets, runs and the files that their stages write: the Snakefile's only source of paths.

Imports neither torch nor any clip list beyond its counts.
"""

from pipeline_src.catalog.runs import Catalog

__all__ = ["Catalog"]
