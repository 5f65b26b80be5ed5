"""How a data set that was listed is run: settings by its size and kind, checked before shown."""

import json
import math
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline_src.catalog import Catalog
from pipeline_src.catalog.check import check_all
from pipeline_src.commands.list_clips import ListedClip
from pipeline_src.config import Config, load_config, merge_files, resolve_run
from pipeline_src.datasets.folder import Folder
from pipeline_src.errors import PipelineError

Stages = dict[str, dict[str, Any]]
FEWEST_CLASSES = 2


@dataclass(frozen=True)
class Proposal:
    """What goes after ``--config``.

    Args:
        problem: why the data set cannot be run with it; empty where it can.
    """

    assignments: tuple[str, ...]
    problem: str = ""


def propose(
    description: Path,
    folder: Folder,
    clips: Sequence[ListedClip],
    *,
    config: Config,
    files: Sequence[Path],
    datasets: Path,
    has_video: bool,
) -> Proposal:
    """Return the first settings that the workflow takes, or those it refuses with its reason.

    Args:
        description: the data set's YAML. files: configuration that the settings go on top of.
        datasets: folder of the data sets that have a name.
    """
    usable = Counter(clip.split for clip in clips if not clip.lost)
    if missing := _missing(folder, usable):
        return Proposal((), missing)
    proposal = Proposal(())
    for sizes in _batch_sizes(config, usable["train"]):
        stages = _stages(folder, usable, sizes, has_video=has_video)
        settings = {"datasets": [str(description.resolve())]} | stages
        words = [f"{k}={json.dumps(v, ensure_ascii=False)}" for k, v in settings.items()]
        proposal = Proposal(tuple(words), _refusal(files, words, datasets))
        if not proposal.problem:
            break
    return proposal


def _missing(folder: Folder, usable: Mapping[str, int]) -> str:
    """Return what no setting makes up for; empty where nothing is missing."""
    if not usable["train"]:
        return "no usable clip is for training" + (
            "; put recordings into a folder train" if folder.has_splits else "; add recordings"
        )
    if not usable["test"] and not usable["val"]:
        return "no usable clip is held out for a test" + (
            "; put recordings into a folder test"
            if folder.has_splits
            else ": the last recording of a class is for training; add recordings to a class"
        )
    return ""


def _batch_sizes(config: Config, num_clips: int) -> Iterator[dict[str, int]]:
    """Yield sizes for batches too large for the clips: powers of two, else all that go in."""
    num_labelled = max(1, round(config.finetune.label_fraction * num_clips))
    counts = {"pretrain": num_clips, "finetune": num_labelled}
    small = {k: n for k, n in counts.items() if n < getattr(config, k).batch_size}
    yield {stage: 2 ** (count.bit_length() - 1) for stage, count in small.items()}
    if "pretrain" in small:
        small["pretrain"] = num_clips - num_clips % _unit(config) or num_clips
    yield small


def _unit(config: Config) -> int:
    """Return what the clips of a pre-training step must be a multiple of in every run."""
    recipes = [resolve_run(config, name).pretrain for name in config.run_names]
    return math.lcm(*(r.batch_multiple for r in recipes if r.adaptive_batch != "none"))


def _stages(
    folder: Folder, usable: Mapping[str, int], sizes: Mapping[str, int], *, has_video: bool
) -> Stages:
    stages: Stages = {"pretrain": {}, "finetune": {}, "evaluate": {}}
    for stage, size in sizes.items():
        stages[stage]["batch_size"] = size
    if not has_video:  # nothing to compare sound with
        stages["pretrain"] = {}
        stages["finetune"]["init"] = "scratch"
    if len(folder.labels) < FEWEST_CLASSES:
        stages["finetune"] = {"skip": True}
        stages["evaluate"]["probes"] = False
    if not usable["test"]:
        stages["evaluate"]["split"] = "val"
    return {stage: values for stage, values in stages.items() if values}


def _refusal(files: Sequence[Path], assignments: Sequence[str], datasets: Path) -> str:
    """Return what the workflow would say to the settings; empty where it takes them."""
    try:
        config = load_config(merge_files(files, assignments), files, assignments)
        with tempfile.TemporaryDirectory() as results:
            # Planned elsewhere: nothing is begun where the results will lie.
            check_all(Catalog(config.model_copy(update={"results": results}), datasets))
    except PipelineError as error:
        return str(error)
    return ""
