# When jobs begin, and what a person sees: two lines a job, and at the end the figures or the
# sentence that matters.
import os

from pipeline_src.catalog.steps import single_values
from pipeline_src.config.changes import section_keys
from pipeline_src.workflow.start import start_run
from pipeline_src.workflow.terminal import Names, shorten_messages


def is_forced():
    """Whether an option of this call forces jobs: known once all rules are read."""
    given = workflow.dag_settings
    return bool(given.forceall or given.forcetargets or given.forcerun)


if not workflow.output_settings.verbose:
    names = Names(section_keys(settings), single_values(dict(settings)))
    for handler in logger.handlers:
        if handler.name == "DefaultStreamHandler":
            shorten_messages(handler, names, is_forced=is_forced)


onstart:
    try:
        start_run(workflow, ROOT, Path(settings.results), logger)
    except PipelineError as error:  # Snakemake would add a traceback
        raise WorkflowError(str(error)) from None


onsuccess:
    # Where make prints it, also when there was nothing to do.
    if os.environ.get("AV_PIPELINE_TABLE") != "no":
        if any(job.rule.name == "report_results" for job in workflow.dag.jobs):
            from pipeline_src.report.table import print_results  # slow to import

            configured = {Path(path) for path in catalog.configured_evaluations()}
            try:
                print_results(Path(settings.results), configured)
            except PipelineError as error:  # the run itself went well
                logger.warning(str(error))
