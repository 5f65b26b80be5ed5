"""What DVC and what Snakemake says of the same files."""

import json
import re
from pathlib import Path

import yaml

from tests.workspace import Workspace, planned_jobs

FINETUNED = {"finetune", "evaluate", "report"}
PRETRAINED = FINETUNED | {"pretrain", "probe"}
KIND_OF_RULE = {
    "download_clips": "download",
    "transcode_clips": "transcode",
    "extract_logmel": "logmel",
    "pack_shard": "shards",
    "pack_index": "shards",
    "pack_ledger": "shards",
    "pretrain_model": "pretrain",
    "finetune_model": "finetune",
    "evaluate_finetuned": "evaluate",
    "evaluate_pretrained": "probe",
    "resolve_config": "report",
    "report_results": "report",
}


def sync(workspace: Workspace) -> dict[str, str]:
    lines = workspace.run("python", "-m", "pipeline_src", "sync").splitlines()
    return dict(line.split(": ", 1) for line in lines if re.match(r"[a-z]+(_\w+)?: ", line))


def dvc_stages(workspace: Workspace) -> set[str]:
    """Kinds of stages that a repro would come to: those that changed and all that follow them."""
    status = json.loads(workspace.run("dvc", "status", "--json").strip().splitlines()[-1])
    stages = yaml.safe_load((workspace.root / "dvc.yaml").read_text())["stages"]
    stale = set(status)
    for name, stage in stages.items():  # in the order of dependency
        outs = [
            next(iter(out)) if isinstance(out, dict) else out
            for other in stale & stages.keys()
            for out in stages[other]["outs"]
        ]
        if any(Path(dep).is_relative_to(out) for dep in stage["deps"] for out in outs):
            stale.add(name)
    return {name.split("_")[0] for name in stale}


def snakemake_stages(workspace: Workspace) -> set[str]:
    jobs = planned_jobs(workspace.snakemake("-n", "all"))
    return {KIND_OF_RULE[rule] for rule in jobs if rule != "all"}


def digest(workspace: Workspace, pattern: str) -> dict[str, bytes]:
    root = workspace.root / "results"
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.glob(pattern))}
