"""Runs that differ in their seeds alone are one arm: its mean, and its difference to another."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby, takewhile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline_src.errors import StageError
from pipeline_src.evaluate.files import PREDICTIONS_FILE
from pipeline_src.evaluate.records import HEADLINE, Estimate, EvalMetrics
from pipeline_src.evaluate.seeds import (
    Resampled,
    mean_difference_over_seeds,
    mean_of_estimates,
    mean_over_seeds,
    resample_headline,
)
from pipeline_src.modalities import Head, LabelKind
from pipeline_src.report.load import Problems, read_arrays, read_run_config

NUM_RESAMPLES: dict[LabelKind, int] = {"multiclass": 1000, "multilabel": 200}  # mAP takes longer
RESAMPLING_SEED = 0
STAGES = ("pretrain", "finetune")
PRETRAIN_STARTS = ("checkpoint_run", "teacher_run")  # keys that name another pre-training
MAX_LINKS = 8  # of pre-trainings that start from another's weights
EVAL_RULE = "the rule evaluate_finetuned"


class EvaluatedRun(NamedTuple):
    """A run on a data set; ``path`` is that of metrics.json, ``sections`` its config.yaml.

    ``pretrain_seeds`` are of the pre-training that it is fine-tuned from, its own or a named run's,
    and behind it of those that this one continued or followed.
    """

    path: Path
    evaluation: EvalMetrics
    sections: Mapping[str, Any]
    pretrain_seeds: tuple[int, ...] = (0,)

    @property
    def folder(self) -> Path:
        """Return results/<run>."""
        return self.path.parents[2]

    @property
    def is_scratch(self) -> bool:
        """Return whether it is fine-tuned from no pre-training."""
        return (self.sections.get("finetune") or {}).get("init") == "scratch"

    @property
    def seeds(self) -> tuple[int, int]:
        """Seeds of pre-training and fine-tuning; from scratch there is one."""
        last = (self.sections.get("finetune") or {}).get("seed", 0)
        return (last if self.is_scratch else self.pretrain_seeds[0]), last

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """Seeds of all trainings that its weights come from."""
        return self.seeds if self.is_scratch else (*self.seeds, *self.pretrain_seeds[1:])


class Arm(NamedTuple):
    """Runs of one recipe on one data set, one a seed; the recipe is that of the first."""

    name: str
    runs: tuple[EvaluatedRun, ...]

    @property
    def first(self) -> EvaluatedRun:
        """Return the run that stands for the arm where one has to."""
        return self.runs[0]


def find_arms(
    problems: Problems, evaluations: Sequence[tuple[Path, EvalMetrics]]
) -> dict[str, list[Arm]]:
    """Group the runs of each data set by what they are but for their seeds, in order.

    Args:
        evaluations: results/<run>/eval/<dataset>/metrics.json with its record.
    """
    ordered = sorted(evaluations, key=lambda item: item[1].dataset)
    return {
        dataset: _group([_read_run(problems, path, record) for path, record in found])
        for dataset, found in groupby(ordered, key=lambda item: item[1].dataset)
    }


def _read_run(problems: Problems, path: Path, evaluation: EvalMetrics) -> EvaluatedRun:
    loaded = problems.attempt(lambda: read_run_config(path.parents[2]))
    sections = loaded[1] if loaded else {}
    folder, start = path.parents[2], sections
    if named := (sections.get("finetune") or {}).get("checkpoint_run"):
        with suppress(StageError):  # where it is gone, what is written here has to do
            start = read_run_config(folder.parent / named)[1]
    seeds = tuple(_pretrain_seeds(folder.parent, start, MAX_LINKS))
    return EvaluatedRun(path, evaluation, sections, seeds)


def _pretrain_seeds(results: Path, sections: Mapping[str, Any], links: int) -> Iterator[int]:
    """Yield the seed of a run's own pre-training, and those of the ones that it starts from."""
    pretrain = sections.get("pretrain") or {}
    yield pretrain.get("seed", 0)
    for key in PRETRAIN_STARTS:
        if links and pretrain.get(key):
            with suppress(StageError):
                other = read_run_config(results / pretrain[key])[1]
                yield from _pretrain_seeds(results, other, links - 1)


def _group(runs: Sequence[EvaluatedRun]) -> list[Arm]:
    groups: dict[str, list[list[EvaluatedRun]]] = {}
    for run in runs:
        same = groups.setdefault(_recipe(run) if run.sections else run.evaluation.run, [])
        # Two runs of one recipe and one seed are no two seeds: the second is an arm of its own.
        fitting = (one for one in same if run.all_seeds not in [other.all_seeds for other in one])
        group = next(fitting, None)
        if group is None:
            same.append([run])
        else:
            group.append(run)
    arms: dict[str, Arm] = {}
    for group in sorted((one for same in groups.values() for one in same), key=_place_in(runs)):
        name = _common_name([run.evaluation.run for run in group])
        name = name if name not in arms else group[0].evaluation.run
        arms[name] = Arm(name, tuple(group))
    return list(arms.values())


def _place_in(runs: Sequence[EvaluatedRun]) -> Callable[[list[EvaluatedRun]], int]:
    return lambda group: runs.index(group[0])


def _recipe(run: EvaluatedRun) -> str:
    """Write what a run is but for its seeds; a run that it starts from by what that one is."""
    results = run.folder.parent
    kept = _without_seeds(results, run.sections, ("model", *STAGES, "evaluate"), MAX_LINKS)
    return json.dumps(kept, sort_keys=True)


def _without_seeds(
    results: Path, sections: Mapping[str, Any], names: Sequence[str], links: int
) -> dict[str, Any]:
    kept: dict[str, Any] = {
        name: {key: value for key, value in (sections.get(name) or {}).items() if key != "seed"}
        for name in names
    }
    starts = [("pretrain", key) for key in PRETRAIN_STARTS] + [("finetune", "checkpoint_run")]
    for stage, key in starts:
        named = kept.get(stage, {}).get(key)
        if links and named:
            with suppress(StageError):  # else it stays a name
                other = read_run_config(results / named)[1]
                only = ("model", "pretrain")
                kept[stage][key] = _without_seeds(results, other, only, links - 1)
    return kept


def _common_name(names: Sequence[str]) -> str:
    """Name an arm, e.g. ``mavil`` of ``mavil_seed0`` and ``mavil_seed1``."""
    if len(names) == 1:
        return names[0]
    letters = takewhile(lambda one: len(set(one)) == 1, zip(*names, strict=False))
    shared = "".join(one[0] for one in letters)
    return re.sub(r"[_-]?(seed|s)?[_-]?\d*$", "", shared) or names[0]


def mean_over_runs(estimates: Sequence[Estimate | None], largest: float) -> Estimate | None:
    """Average a figure of an arm's runs, of one its own; None where a run lacks it.

    Args:
        largest: that the figure can be.
    """
    found = [one for one in estimates if one is not None and one.value is not None]
    if not found or len(found) < len(estimates):
        return None
    if len(found) == 1:
        return found[0]
    return Estimate.model_validate(mean_of_estimates(found, largest))


def pair_seeds(arm: Arm, other: Arm) -> list[tuple[EvaluatedRun, EvaluatedRun]]:
    """Pair the runs of two arms by the seed of fine-tuning, else by more; [] where none agree."""
    if len(arm.runs) == len(other.runs) == 1:
        return [(arm.first, other.first)]
    keys: tuple[Callable[[EvaluatedRun], tuple[int, ...]], ...] = (
        *(lambda run: run.seeds[1:], lambda run: run.seeds),
        lambda run: run.all_seeds,
    )
    for key in keys:
        ours, theirs = ({key(run): run for run in one.runs} for one in (arm, other))
        if len(ours) == len(arm.runs) and len(theirs) == len(other.runs):
            return [(ours[seeds], theirs[seeds]) for seeds in ours if seeds in theirs]
    return []


class ArmFigures:
    """Figures of arms; every run's clips are resampled once."""

    def __init__(self) -> None:
        self._known: dict[tuple[Path, Head], tuple[NDArray, Resampled]] = {}

    def headline(self, problems: Problems, arm: Arm, head: Head) -> Estimate | None:
        """Return accuracy or mAP: a run's own, or the mean over seeds; None if one has none."""
        found = [headline for run in arm.runs if (headline := run.evaluation.headline(head))]
        values = [one.value for one in found if one.value is not None]
        if len(values) < len(arm.runs):
            return None
        if len(found) == 1:
            return found[0]
        samples = problems.attempt(lambda: self._samples(arm.runs, head))
        if samples is None:
            return Estimate(value=float(np.mean(values)))
        interval = mean_over_seeds(samples, arm.first.evaluation.num_clips)
        return Estimate.model_validate(interval)

    def difference(self, problems: Problems, arm: Arm, other: Arm, head: Head) -> Estimate | None:
        """Compare two arms seed by seed on the same clips; None without scores or a shared seed."""
        runs = [*arm.runs, *other.runs]
        if any(run.evaluation.scores(head) is None for run in runs):
            return None
        if len({run.evaluation.clip_ids_sha256 for run in runs}) > 1:
            return None  # the section on classification says so
        pairs = pair_seeds(arm, other)
        samples = problems.attempt(lambda: self._samples([x for p in pairs for x in p], head))
        if not samples:
            return None
        halves = zip(samples[::2], samples[1::2], strict=True)
        differences = [ours - theirs for ours, theirs in halves]
        return Estimate.model_validate(mean_difference_over_seeds(differences))

    def _samples(self, runs: Sequence[EvaluatedRun], head: Head) -> list[Resampled]:
        """Resample the clips of every run alike.

        Raises:
            StageError: predictions.npz is missing or damaged, or theirs are of different clips.
        """
        found = [self._resampled(run, head) for run in runs]
        for run, (clip_ids_N, _) in zip(runs, found, strict=True):
            if not np.array_equal(clip_ids_N, found[0][0]):
                raise StageError(
                    f"{run.evaluation.name}: {PREDICTIONS_FILE} is of other clips than that of "
                    f"{runs[0].evaluation.name}: run {EVAL_RULE} again"
                )
        return [samples for _, samples in found]

    def _resampled(self, run: EvaluatedRun, head: Head) -> tuple[NDArray, Resampled]:
        """Return a run's clip ids (N,) and its headline under all resamples (R,), made once."""
        key = run.path, head
        if key not in self._known:
            self._known[key] = _resample(
                run.path.with_name(PREDICTIONS_FILE), head, run.evaluation.task
            )
        return self._known[key]


def _resample(path: Path, head: Head, task: LabelKind) -> tuple[NDArray, Resampled]:
    """Read clip ids (N,) and resample the headline, (R,).

    Raises:
        StageError: the predictions are missing, damaged, or cannot be scored.
    """
    names = ["clip_ids", "targets", head]
    arrays = read_arrays(path, names, EVAL_RULE, optional=["sources"])
    try:
        resampled = resample_headline(
            arrays[head],
            arrays["targets"],
            task=task,
            num_resamples=NUM_RESAMPLES[task],
            seed=RESAMPLING_SEED,
            groups=arrays["sources"].tolist() if "sources" in arrays else None,
        )
    except ValueError as error:
        raise StageError(f"{path.name}: {error}: run {EVAL_RULE} again") from error
    return arrays["clip_ids"], resampled


def metric_label(evaluation: EvalMetrics) -> str:
    """Return the headline's name, e.g. "Accuracy" or "mAP"."""
    name = HEADLINE[evaluation.task]
    return name[0].upper() + name[1:] if name != "mAP" else name
