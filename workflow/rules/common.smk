# The checked configuration as a catalog of data sets, runs and files: no rule, no work.
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from pipeline_src.catalog import paths
from pipeline_src.errors import PipelineError
from pipeline_src.manifest.retries import RETRIED_STAGES
from pipeline_src.workflow.opening import open_catalog
from pipeline_src.workflow.start import prepare_environment

ROOT = Path(workflow.current_basedir, "../..").resolve()
prepare_environment(ROOT)
try:
    catalog = open_catalog(workflow, ROOT, logger)
except PipelineError as error:
    raise WorkflowError(str(error)) from None
settings = catalog.config
config.clear()
config.update(settings.model_dump(mode="json"))


pathvars:
    results=settings.results,
    logs=f"{settings.results}/logs",
    benchmarks=f"{settings.results}/benchmarks",


wildcard_constraints:
    # <data set>_fold<k>: that fold held out, a view of its shards.
    dataset=f"(?:{'|'.join(catalog.names)})(?:_fold[1-9][0-9]*)?",
    split="train|val|test|fold[1-9][0-9]*",
    chunk=r"\d{5}",
    number=r"\d{3}",
    stage="|".join(RETRIED_STAGES),
    run="|".join(catalog.run_names),


def checked(function):
    """An input function that ends with a user error's own words: Snakemake would add a traceback."""

    def call(wildcards):
        try:
            return function(wildcards)
        except PipelineError as error:
            sys.exit(f"{type(error).__name__}: {error}")

    return call


def target(function, *arguments):
    """An input function without wildcards, called only when the target is asked for."""
    return checked(lambda _: function(*arguments))
