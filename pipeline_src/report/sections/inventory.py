"""Sections about the material: data coverage, timings, and where every figure comes from."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from pipeline_src.evaluate.records import EvalMetrics, ProbeMetrics, Scored
from pipeline_src.report.blocks import (
    MISSING,
    Cell,
    Chart,
    Charts,
    Code,
    Collapsible,
    PageSection,
    Table,
    coverage_cell,
    duration_text,
    hash_cell,
    number_text,
)
from pipeline_src.report.colours import CLASS_COLOURS
from pipeline_src.report.drawing import ABOVE, draw_chart, shorten
from pipeline_src.report.load import BenchmarkRow, SplitIndex, read_run_config

COVERAGE_LEAD = (
    "Every clip of a list ends in a shard or in a ledger with a reason. Flags mark clips that were "
    "kept: nearly silent audio, a still picture, shorter than asked, or content that another clip "
    "has too."
)
TIMING_LEAD = "Wall-clock time as Snakemake and the evaluations recorded it, on the machine used."
PROVENANCE_LEAD = (
    "What each figure was computed from. Equal clip list hashes mean the same clips; a commit "
    "marked dirty had local changes."
)


def coverage_section(indexes: Sequence[SplitIndex]) -> PageSection:
    """Count clips in the list, packed and lost by reason, per data set and split."""
    section = PageSection("data", "Data coverage", COVERAGE_LEAD)
    if not indexes:
        section.problems.add("No shard index could be read: the rule pack_index writes index.json.")
        return section
    rows = []
    for index in indexes:
        unexplained = index.num_clips_in_list - index.num_clips - sum(index.reasons.values())
        if unexplained:
            section.problems.add(
                f"{index.dataset} / {index.split}: {unexplained} clips are neither packed nor lost "
                "with a reason"
            )
        for split, count in _shared_clips(index).items():
            section.problems.add(
                f"{index.dataset} / {index.split}: {count} clips have the content of a clip in "
                f"{split}; shards.exclude_flags: [duplicate] keeps one of each"
            )
        for split, count in index.shared_files.items():
            section.problems.add(
                f"{index.dataset} / {index.split}: {count} clips are cut from files that {split} "
                "has clips of; all clips of one file belong to one split"
            )
        rows.append([
            Cell(index.dataset),
            Cell(index.split),
            coverage_cell(index.num_clips, index.num_clips_in_list),
            _counts_cell(index.reasons),
            _counts_cell(index.flags),
            Cell(f"{len(index.class_names):,}", is_number=True),
            hash_cell(index.clip_ids_sha256),
        ])  # fmt: skip
    head = ["Data set", "Split", "Clips", "Lost, by reason", "Flags", "Classes", "Clip list"]
    section.blocks.append(Table("Clips by data set and split", head, rows))
    kept = {f"{index.dataset} / {index.split}": index.num_clips for index in indexes}
    lost = {f"{index.dataset} / {index.split}": index.reasons for index in indexes}
    chart = coverage_chart(kept, lost, title="Clips packed and lost")
    section.blocks.append(Charts([chart], is_wide=True))
    return section


def _shared_clips(index: SplitIndex) -> Counter[str]:
    """Count the clips of a split that are also in another one, by that one."""
    if index.excludes_duplicates:
        return Counter()
    return Counter(split for _, split, _ in index.duplicates if split != index.split)


def _counts_cell(counts: dict[str, int]) -> Cell:
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    text = ", ".join(f"{name} {count:,}" for name, count in ordered if count)
    return Cell(text) if text else Cell("none", tone="muted")


def timing_section(
    benchmarks: Sequence[BenchmarkRow],
    evaluations: Sequence[EvalMetrics],
    probes: Sequence[ProbeMetrics],
) -> PageSection:
    """List seconds per rule, evaluation and probe; training times stand with their curves."""
    section = PageSection("timings", "Timings", TIMING_LEAD)
    if benchmarks:
        rows = [
            [
                Cell(row.rule, is_code=True),
                Cell(f"{row.num_jobs:,}", is_number=True),
                Cell(duration_text(row.seconds), is_number=True),
                Cell(number_text(row.max_rss_megabytes, digits=0), is_number=True),
            ]
            for row in benchmarks
        ]
        head = ["Rule", "Jobs", "Time, all jobs", "Peak memory of a job, MB"]
        section.blocks.append(Table("Snakemake rules", head, rows))
    else:
        section.problems.add("No benchmarks/<rule>/*.tsv below the results folder.")
    timed = [("evaluation", item.name, item.seconds) for item in evaluations]
    timed += [("probe", item.name, item.seconds) for item in probes]
    rows = [
        [Cell(kind), Cell(name), Cell(duration_text(seconds), is_number=True)]
        for kind, name, seconds in timed
        if seconds is not None
    ]
    if rows:
        section.blocks.append(Table("Evaluations", ["Stage", "Run / data set", "Time"], rows))
    return section


def provenance_section(evaluations: Sequence[Scored], run_dirs: Sequence[Path]) -> PageSection:
    """List commits, checkpoints, versions and configurations."""
    section = PageSection("provenance", "Provenance", PROVENANCE_LEAD)
    if evaluations:
        section.blocks.append(_origin_table(evaluations))
        section.blocks.append(_version_table(evaluations))
    else:
        section.problems.add("No evaluation could be read, so no commit or checkpoint is known.")
    for run_dir in run_dirs:
        loaded = section.problems.attempt(lambda run_dir=run_dir: read_run_config(run_dir))
        if loaded:
            section.blocks.append(
                Collapsible(f"Configuration of {run_dir.name}", [Code(loaded[0])])
            )
    return section


def _origin_table(evaluations: Sequence[Scored]) -> Table:
    rows = [
        [
            Cell(item.run),
            Cell(f"{item.dataset} / {item.split}"),
            hash_cell(item.checkpoint_sha256),
            hash_cell(item.config_sha256),
            hash_cell(item.clip_ids_sha256),
            _commit_cell(item.git_commit),
            Cell(MISSING if item.num_frames is None else str(item.num_frames), is_number=True),
        ]
        for item in evaluations
    ]
    head = ["Run", "Data set / split", "Checkpoint", "Config", "Clip list", "Git commit",
            "Frames"]  # fmt: skip
    return Table("Origin of the figures (sha256, first ten digits)", head, rows)


def _commit_cell(commit: str) -> Cell:
    is_dirty = commit.endswith("-dirty")
    text = commit.removesuffix("-dirty")[:10] or MISSING
    return Cell(text, sub="dirty" if is_dirty else "", is_code=True, tone="warn" * is_dirty)


def _version_table(evaluations: Sequence[Scored]) -> Table:
    packages = list(dict.fromkeys(name for item in evaluations for name in item.versions))
    rows = []
    for package in packages:
        found = dict.fromkeys(item.versions.get(package, MISSING) for item in evaluations)
        tone = "warn" if len(found) > 1 else ""
        rows.append([Cell(package, is_code=True), Cell(", ".join(found), is_code=True, tone=tone)])
    return Table("Versions used by the evaluations", ["Package", "Version"], rows)


def coverage_chart(
    kept: Mapping[str, int], lost: Mapping[str, Mapping[str, int]], *, title: str
) -> Chart:
    """Draw clips packed and clips lost by reason, per split, as stacked bars.

    Args:
        kept: clips packed, by bar label.
        lost: clips per reason, by the same labels.
    """
    reasons = list(dict.fromkeys(reason for counts in lost.values() for reason in counts))
    packed_colour, *lost_colours = CLASS_COLOURS

    def paint(axes: Axes) -> None:
        rows = np.arange(len(kept))
        totals = np.array([kept[name] + sum(lost[name].values()) for name in kept])
        left = np.array([100 * kept[name] for name in kept]) / np.maximum(totals, 1)
        axes.barh(rows, left, height=0.6, color=packed_colour, label="packed")
        for index, reason in enumerate(reasons):
            counts = np.array([lost[name].get(reason, 0) for name in kept])
            width = 100 * counts / np.maximum(totals, 1)
            colour = lost_colours[index % len(lost_colours)]
            axes.barh(rows, width, left=left, height=0.6, color=colour, label=reason)
            left = left + width
        axes.set_yticks(rows, [shorten(name) for name in kept])
        axes.set_ylim(len(kept) - 0.5, -0.5)
        axes.set_xlim(0, 100)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("per cent of the clips in the list")
        axes.grid(axis="x")
        axes.legend(**ABOVE, ncols=4, handlelength=0.8, handletextpad=0.4)

    alt = "; ".join(
        f"{name}: {count} clips packed, {sum(lost[name].values())} lost"
        for name, count in kept.items()
    )
    return draw_chart(
        paint,
        title=title,
        alt=f"Clips per split. {alt}",
        width_inches=5.6,
        height_inches=1.0 + 0.42 * len(kept),
    )
