"""Where the workflow's files lie: every path is spelled here alone, as a pattern of Snakemake's.

``<results>`` is a path variable of the workflow, ``{dataset}`` and the like are its wildcards. The
rules take the patterns as they are, the catalog fills them.
"""

import re
from pathlib import Path

from pipeline_src.datasets.chunk_plan import CLASSES_FILE
from pipeline_src.datasets.clip_groups import GROUPS_FOLDER
from pipeline_src.evaluate.files import METRICS_FILE
from pipeline_src.manifest.ledger import LEDGER_SUFFIX
from pipeline_src.manifest.retries import REQUESTS_FOLDER
from pipeline_src.runs.spec import DONE_FILE
from pipeline_src.shards.files import INDEX_FILE

RESULTS = "<results>"
HOSTS = "<results>/.hosts"  # what all jobs know of the hosts they ask
LISTED_CLIPS = "<results>/{dataset}/plan/{split}/{chunk}.csv"
RAW_CLIPS = "<results>/{dataset}/raw/{split}/{chunk}"
CLASSES = f"<results>/{{dataset}}/{CLASSES_FILE}"
CLIP_GROUPS = f"<results>/{{dataset}}/{GROUPS_FOLDER}/{{split}}.csv"
RETRY = f"<results>/{{dataset}}/{REQUESTS_FOLDER}/{{stage}}/{{split}}/{{chunk}}.{{number}}"
MANIFEST = "<results>/{dataset}/{stage}/{split}/{chunk}.json"
LEDGER = MANIFEST.removesuffix(".json") + LEDGER_SUFFIX
ALL_LEDGERS = "<results>/{dataset}/{stage}/ledger.parquet"
PACKED_INDEX = f"<results>/{{dataset}}/shards/{{split}}/{INDEX_FILE}"
FETCHED_INDEX = f"<results>/{{dataset}}/remote/{{split}}/{INDEX_FILE}"  # of shards packed elsewhere
RUN_CONFIG = "<results>/{run}/config.yaml"
PRETRAIN_FOLDER, FINETUNE_FOLDER = "pretrain", "finetune"  # of a run's trainings
PRETRAINED = f"<results>/{{run}}/{PRETRAIN_FOLDER}/{DONE_FILE}"
FINETUNED = f"<results>/{{run}}/{FINETUNE_FOLDER}/{{dataset}}/{DONE_FILE}"
SCORES = f"<results>/{{run}}/eval/{{dataset}}/{METRICS_FILE}"
FOLD_SCORES = f"<results>/{{run}}/folds/{{dataset}}/{METRICS_FILE}"
PROBE_SCORES = f"<results>/{{run}}/probe/{{dataset}}/{METRICS_FILE}"
REPORT = "<results>/report/index.html"


def of_stage(pattern: str, stage: str) -> str:
    """Return the pattern with the stage filled in; the other wildcards stay."""
    return pattern.replace("{stage}", stage)


def as_glob(pattern: str) -> str:
    """Return what every file of a pattern matches, seen from the results."""
    return re.sub(r"{\w+}", "*", pattern.removeprefix(f"{RESULTS}/"))


def glob_within(pattern: str, owner: str) -> str:
    """Return what every file of a pattern matches, seen from a folder of ``owner``'s wildcard."""
    return as_glob(pattern.replace(f"{{{owner}}}/", "", 1))


def fill(pattern: str, results: str | Path, **names: str) -> str:
    """Return the path that a pattern stands for; names that it lacks are passed over."""
    return pattern.format(**names).replace(RESULTS, str(results), 1)
