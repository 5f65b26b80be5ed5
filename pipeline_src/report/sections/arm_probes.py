"""What the pre-trainings of runs hold before any label is used, runs of all seeds in one row."""

import math
from collections.abc import Mapping, Sequence

from pipeline_src.evaluate.records import Estimate, ProbeMetrics
from pipeline_src.modalities import HEADS, Head
from pipeline_src.report.arms import Arm, mean_over_runs
from pipeline_src.report.blocks import HEAD_LABELS, Cell, Table, interval_cell

Means = Sequence[Estimate | None]


def probes_tables(arms: Sequence[Arm], probes: Sequence[ProbeMetrics], dataset: str) -> list[Table]:
    """Write linear probes and the error on hidden patches; nothing where no run has one."""
    of_run = {probe.run: probe for probe in probes if probe.dataset == dataset}
    titles, columns = ["Run"], [[Cell(arm.name) for arm in arms]]
    for head in HEADS:
        label = HEAD_LABELS[head]
        linear = [mean_over_runs(_linear(arm, of_run, head), largest=1) for arm in arms]
        errors = [mean_over_runs(_errors(arm, of_run, head), largest=math.inf) for arm in arms]
        for title, means, scale, digits in (
            (f"Linear probe, %, {label}", linear, 100, 1),
            (f"Error on hidden patches, MSE, {label}", errors, 1, 3),
        ):
            if any(means):
                titles.append(title)
                columns.append([interval_cell(one, scale=scale, digits=digits) for one in means])
    rows = list(zip(*columns, strict=True))
    return [Table(f"Before any label, runs on {dataset}", titles, rows)] if len(titles) > 1 else []


def _linear(arm: Arm, of_run: Mapping[str, ProbeMetrics], head: Head) -> Means:
    """Read the linear probe of each run's frozen encoder; of a run without one, None."""
    found = [of_run.get(run.evaluation.run) for run in arm.runs]
    scores = [one.probes.get("pretrained", {}).get(head) if one else None for one in found]
    return [one.linear if one else None for one in scores]


def _errors(arm: Arm, of_run: Mapping[str, ProbeMetrics], head: Head) -> Means:
    found = [of_run.get(run.evaluation.run) for run in arm.runs]
    errors = [one.reconstruction.get(head) if one else None for one in found]
    return [one.model if one else None for one in errors]
