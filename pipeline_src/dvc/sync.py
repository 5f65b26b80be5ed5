"""Reconcile what DVC and Snakemake hold of the same files.

After ``dvc checkout`` or ``dvc pull`` the files are right, but Snakemake sees new times and has
no record of them. After a direct ``snakemake`` call the files are right, but dvc.lock is older.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline_src.catalog import Catalog
from pipeline_src.dvc.stage import Stage
from pipeline_src.dvc.table import all_stages
from pipeline_src.dvc.tools import dvc_changes, pending_files, run_tool
from pipeline_src.dvc.validate import check_outputs
from pipeline_src.errors import StageError


class Finding(NamedTuple):
    """What is to be done about one stage, and why.

    ``action``: nothing | touch (Snakemake is told) | commit (DVC is told) | run (out of date).
    """

    stage: Stage
    action: str
    reason: str


def compare(catalog: Catalog) -> list[Finding]:
    """Return both tools' view of every stage; changes nothing."""
    changes = dvc_changes()
    pending = pending_files("all")
    findings: list[Finding] = []
    for stage in all_stages(catalog):
        waits_for = [
            found.stage.name
            for found in findings
            if found.action == "run" and _reads_from(stage, found.stage)
        ]
        is_pending = any(_is_below(path, stage) for path in pending)
        findings.append(_judge(catalog, stage, changes.get(stage.name), is_pending, waits_for))
    return findings


def _judge(
    catalog: Catalog,
    stage: Stage,
    changes: list[str] | None,
    is_pending: bool,
    waits_for: Sequence[str],
) -> Finding:
    if waits_for:
        return Finding(stage, "run", f"after {', '.join(waits_for)}")
    if changes is None:
        return Finding(stage, "touch" if is_pending else "nothing", "")
    if is_pending:
        return Finding(stage, "run", ", ".join(changes))
    try:
        check_outputs(catalog, stage)
    except StageError as error:
        return Finding(stage, "run", str(error))
    return Finding(stage, "commit", ", ".join(changes))


def reconcile(findings: Sequence[Finding]) -> Iterator[str]:
    """Do what the findings ask for and yield one line per stage.

    Raises:
        StageError: a tool failed.
    """
    for _, group in _by_kind(finding.stage for finding in findings if finding.action == "touch"):
        _touch(group)
    committed = [finding.stage.name for finding in findings if finding.action == "commit"]
    if committed:
        run_tool("dvc", "commit", "--force", *committed)
    words = {
        "nothing": "up to date for both",
        "touch": "as in dvc.lock; Snakemake now knows",
        "commit": "made by Snakemake; dvc.lock now has it",
        "run": "out of date, `dvc repro` or `snakemake` makes it",
    }
    for stage, action, reason in findings:
        yield f"{stage.name}: {words[action]}" + (f" ({reason})" if reason else "")


def _touch(stages: Sequence[Stage]) -> None:
    """Tell Snakemake that the files of these stages are current; their rules alone may match."""
    rules = sorted({rule for stage in stages for rule in stage.rules})
    targets = [stage.target for stage in stages]
    run_tool("snakemake", "--touch", "--forceall", "--allowed-rules", *rules, "--", *targets)


def _by_kind(stages: Iterable[Stage]) -> list[tuple[str, list[Stage]]]:
    """Return stages of a kind in one group: none of them reads from another."""
    groups: dict[str, list[Stage]] = {}
    for stage in stages:
        groups.setdefault(stage.kind, []).append(stage)
    return list(groups.items())


def _reads_from(stage: Stage, other: Stage) -> bool:
    return any(_is_below(dep, other) for dep in stage.deps)


def _is_below(path: str, stage: Stage) -> bool:
    return any(Path(path).is_relative_to(out.path) for out in stage.outs)
