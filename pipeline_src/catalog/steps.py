"""What each rule's result depends on: settings, and a version of the code.

The rules take their params from here and DVC's stages their keys, and a manifest that lies in the
results is judged by it. What else a job reads, such as numbers of workers, changes no result.
"""

from collections.abc import Mapping
from functools import reduce
from types import MappingProxyType
from typing import Any, NamedTuple

from pipeline_src import versions
from pipeline_src.config.section import Section

VERSION_PARAM = "step_version"
PLAN = "plan"  # the stage that is no rule: lists are cut when the Snakefile is parsed
NOTHING: Mapping[str, str] = MappingProxyType({})


class WorkflowStep(NamedTuple):
    """What one rule's result depends on.

    Args:
        version: constant of ``pipeline_src/versions.py``.
        settings: param of the rule -> key of the configuration, a whole section or dotted.
    """

    version: str
    settings: Mapping[str, str] = NOTHING

    @property
    def params(self) -> tuple[str, ...]:
        """Names of the params."""
        return (*self.settings, VERSION_PARAM)

    @property
    def sections(self) -> set[str]:
        """Names of the sections that its settings are in."""
        return {key.split(".")[0] for key in self.settings.values()}

    def values(self, sections: Mapping[str, Any]) -> dict[str, Any]:
        """Return the params as plain values, so that every change of one is seen.

        Args:
            sections: of the configuration, or of the run in its place.
        """
        values = {name: _value(sections, key) for name, key in self.settings.items()}
        return {**values, VERSION_PARAM: getattr(versions, self.version)}


STEPS = {
    "download_clips": WorkflowStep("DOWNLOAD", {"download": "download"}),
    "transcode_clips": WorkflowStep("TRANSCODE", {"media": "media"}),
    "extract_logmel": WorkflowStep(
        "LOGMEL", {"audio": "audio", "sample_rate_hz": "media.sample_rate_hz"}
    ),
    "pack_shard": WorkflowStep("PACK", {"shards": "shards.of_tars"}),
    "pack_index": WorkflowStep(
        "INDEX",
        {
            "exclude_duplicates": "shards.excludes_duplicates",
            "audio": "audio",
            "media": "media",
        },
    ),
    "fetch_index": WorkflowStep("INDEX"),
    "pretrain_model": WorkflowStep("PRETRAIN", {"model": "model", "recipe": "pretrain"}),
    "finetune_model": WorkflowStep("FINETUNE", {"model": "model", "recipe": "finetune"}),
    "evaluate_finetuned": WorkflowStep("EVALUATE", {"model": "model", "evaluate": "evaluate"}),
    "evaluate_folds": WorkflowStep("EVALUATE"),
    "evaluate_pretrained": WorkflowStep(
        "EVALUATE",
        {"model": "model", "evaluate": "evaluate", "num_examples": "report.num_examples"},
    ),
    "report_results": WorkflowStep("REPORT", {"report": "report"}),
}


def single_values(sections: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return of each rule the settings that are no section, key -> value, to name a changed one."""
    return {
        rule: {
            key: value
            for key in step.settings.values()
            if not isinstance(value := _value(sections, key), Mapping)
        }
        for rule, step in STEPS.items()
    }


class ChunkStage(NamedTuple):
    """A stage of a data set, made chunk by chunk in a folder of its name.

    Args:
        rule: makes one chunk.
        reads: stages whose files of the chunk it reads.
    """

    rule: str
    reads: tuple[str, ...]

    @property
    def recorded_name(self) -> str:
        """Its name in manifests and in the benchmark: of the step, not of the folder."""
        return STEPS[self.rule].version.lower()


CHUNK_STAGES = {
    "download": ChunkStage("download_clips", (PLAN,)),
    "transcode": ChunkStage("transcode_clips", ("download",)),
    "logmel": ChunkStage("extract_logmel", ("transcode",)),
    "shards": ChunkStage("pack_shard", ("logmel", "transcode")),
}


def _value(sections: Mapping[str, Any], key: str) -> Any:
    section, *below = key.split(".")
    value = reduce(getattr, below, sections[section])
    return value.recipe_values() if isinstance(value, Section) else value
