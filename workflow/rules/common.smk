# The checked configuration and everything derived from it: no rule, no work.
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from pipeline_src import versions
from pipeline_src.catalog import Catalog
from pipeline_src.catalog.targets import refuse_unknown
from pipeline_src.config import (load_config, merge_files)
from pipeline_src.config.command_line import (lost_settings, refuse_repeated, refuse_unknown_profile)
from pipeline_src.errors import PipelineError
from pipeline_src.system.executor import (announce_executor, import_package_from, keep_slurm_conf, replaced_resources)
from pipeline_src.system.lock import hold_results
from pipeline_src.manifest.retries import (RETRIED_STAGES, RetryRequests)
from pipeline_src.dvc.arrival import settle_arrived
from pipeline_src.dvc.place import refuse_outside
from pipeline_src.submit.interrupt import pass_on_interrupts
from pipeline_src.submit.orphans import cancel_orphans
from pipeline_src.submit.request import JobRequest

ROOT = Path(workflow.current_basedir, "../..").resolve()
import_package_from(ROOT)
SLURM_PROFILE = ROOT / "profiles/slurm"
keep_slurm_conf(SLURM_PROFILE / "bin")


def fetch_lists(dataset):
    """Bring the published lists of a data set: a run does, a dry run and a job of its own do not."""
    plugin = workflow.executor_plugin  # there once the targets are looked at
    if plugin is not None and workflow.is_main_process:
        if not (workflow.dryrun or workflow.touch):
            from pipeline_src.download.official import fetch_official

            fetch_official(dataset, settings.download, settings.network, logger.info)


CONFIG_FILES = [ROOT / "config/config.yaml", *workflow.overwrite_configfiles]
CONFIG_FILES = [Path(os.path.relpath(os.path.realpath(path))) for path in CONFIG_FILES]
try:
    refuse_repeated(sys.argv)
    refuse_unknown_profile(sys.argv, ROOT)
    for sentence in lost_settings(sys.argv, os.environ, ROOT):
        logger.warning(sentence)
    # Read here and not by Snakemake, which keeps the last of two equal keys and takes the nulls
    # of --config for text.
    assignments = workflow.config_settings.config_args
    values = merge_files(CONFIG_FILES, assignments)
    settings = load_config(values, CONFIG_FILES, assignments)
    # Files are looked for once, not by every job on a cluster.
    main = workflow.is_main_process
    catalog = Catalog(
        settings, ROOT / "config/datasets", looks_for_files=main, fetch=fetch_lists
    )
    if "DVC_STAGE" in os.environ:  # DVC itself looks after hours of work
        refuse_outside(catalog.results, Path())
except PipelineError as error:
    raise WorkflowError(str(error)) from None
if workflow.config_settings.replace_workflow_config:
    raise WorkflowError(
        "--replace-workflow-config would put built-in defaults in place of config/config.yaml; "
        "leave it out, --configfile is merged on top of it"
    )
if workflow.is_main_process:
    for sentence in catalog.changed_runs():
        logger.warning(sentence)
    if "DVC_STAGE" not in os.environ:  # DVC decides by itself what is current
        options = ["--snakefile", str(ROOT / "Snakefile"), "--cores", "1", "--nolock"]
        options += ["--workflow-profile", "none", "--quiet", "all"]
        options += ["--configfile", *map(str, CONFIG_FILES)]
        options += ["--config", *assignments] if assignments else []
        for sentence in settle_arrived(catalog, options):
            logger.info(sentence)
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


onstart:
    # Held until this process ends, however it ends.
    try:
        hold_results(Path(settings.results))
    except PipelineError as error:  # Snakemake would add a traceback
        raise WorkflowError(str(error)) from None
    pass_on_interrupts()
    announce_executor(workflow.executor_plugin.name)
    if workflow.executor_plugin.name == "slurm":
        given = workflow.resource_settings.overwrite_resources
        for rule, lost in replaced_resources(SLURM_PROFILE / "profile.yaml", given):
            logger.warning(
                f"{rule} goes without the Slurm profile's {', '.join(lost)}: --set-resources "
                "replaces all of a profile's; name them there too, or edit a copy of the profile"
            )
        if left := cancel_orphans():
            logger.warning(
                f"Cancelled chunk jobs that an earlier call left: {left}"
            )


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


def dump(section):
    """What counts of a configuration section, as a params value whose change is seen.

    Scripts take the rest, such as numbers of workers, from ``snakemake.config``.
    """
    return section.recipe_values()


def run_params(section):
    """A params function: that section of the wildcard's run."""
    return lambda wildcards: dump(getattr(catalog.run(wildcards.run), section))


def shared_by_ranks(section):
    """A params function: ranks of a training, refused where they could not share every batch.

    On its own, because Snakemake compares no param that follows from resources: as part of the
    recipe it would hide every change of it.
    """

    def count(wildcards, request):
        request.check_batches(section, getattr(catalog.run(wildcards.run), section))
        view = getattr(wildcards, "dataset", "")
        catalog.check_batch(wildcards.run, section, view, request.num_ranks)
        return request.num_ranks

    return lambda wildcards, resources: checked(
        lambda w: count(w, JobRequest.from_resources(dict(resources.items())))
    )(wildcards)


requests = RetryRequests(Path(settings.results))


def retried_shards(name):
    """The shards of a data set; its chunks with transient failures are made again for them."""
    asked = requests.ask({s: catalog.chunk_files(s, name) for s in RETRIED_STAGES})
    logger.info(
        f"{name}: {asked.num_clips} clips with transient failures in "
        f"{asked.num_chunks} chunks are tried again"
    )
    return [*catalog.shards(name), catalog.download_ledger(name)]


def retry_requests(stage):
    """An input function: the requests that the stage's job of a chunk answers."""
    return checked(lambda w: requests.of(w.dataset, stage, w.split, w.chunk))


def listed_ledgers():
    """What became of every clip of every listed data set."""
    return [path for name in catalog.listed for path in catalog.ledgers(name)]


def dataset_chunks(stage):
    """An input function: the stage's manifests of a whole data set."""
    return checked(lambda w: catalog.chunk_files(stage, w.dataset))


# Input functions: which files a wildcard stands for. The catalog knows the paths.
split_shards = checked(lambda w: catalog.chunk_files("shards", w.dataset, w.split))
train_shards = checked(lambda w: catalog.chunk_files("shards", w.dataset, "train"))
earlier_shards = checked(lambda w: catalog.earlier_shards(w.dataset, w.split))
scored_index = checked(lambda w: catalog.scored_index(w.run, w.dataset))
finetune_train_indexes = checked(
    lambda w: catalog.finetune_train_indexes(w.run, w.dataset)
)
finetune_val_indexes = checked(lambda w: catalog.finetune_val_indexes(w.dataset))
dataset_files = checked(lambda w: catalog.dataset_files(w.dataset))
pretrain_indexes = checked(lambda w: catalog.pretrain_indexes(w.run))
pretrain_done = checked(lambda w: catalog.pretrain_done(w.run))
probe_train_index = checked(lambda w: catalog.probe_train_index(w.run, w.dataset))
probe_val_index = checked(lambda w: catalog.probe_val_index(w.run, w.dataset))
start_done = checked(lambda w: catalog.start_done(w.run))
teacher_done = checked(lambda w: catalog.teacher_done(w.run))
own_pretrain_done = checked(lambda w: catalog.own_pretrain_done(w.run))
finetune_done = checked(lambda w: catalog.finetune_done(w.run, w.dataset))
fold_metrics = checked(lambda w: catalog.metrics(w.dataset, (w.run,)))
report_folds = checked(lambda _: catalog.report_folds())
report_metrics = checked(lambda _: catalog.report_metrics())
report_probes = checked(lambda _: catalog.report_probes())
report_indexes = checked(
    lambda _: [path for n in catalog.listed for path in catalog.indexes(n)]
)
