"""dvc.yaml as text: the table of stages, and the curves that ``dvc plots`` draws."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline_src.catalog import Catalog
from pipeline_src.config import load_config, merge_files
from pipeline_src.dvc.stage import Stage
from pipeline_src.dvc.table import all_stages
from pipeline_src.modalities import HEADS
from pipeline_src.runs.history import HISTORY_FILE, VALIDATION_FILE
from pipeline_src.system.checkout import CONFIG_FILE

VERSIONS_FILE = "pipeline_src/versions.py"
DVC_FILE = "dvc.yaml"
HEADER = """\
# Generated from config/config.yaml by `python -m pipeline_src stages --write`. Do not edit.
# One stage per target of the workflow for each listed data set and run; `dvc repro` runs what has
# changed, and SNAKEMAKE_PROFILE=slurm sends the same stages to a cluster.
"""


def load_catalog(root: Path) -> Catalog:
    """Return the data sets and runs of ``config/config.yaml``, which is what DVC reads."""
    path = root / CONFIG_FILE
    return Catalog(load_config(merge_files([path]), [path]), root / "config" / "datasets")


def render(catalog: Catalog) -> str:
    """Return the text of dvc.yaml for this configuration."""
    stages = all_stages(catalog)
    tree = {"stages": {stage.name: _entry(stage) for stage in stages}, "plots": _plots(stages)}
    return HEADER + yaml.safe_dump(_literal(tree), sort_keys=False, width=10_000)


def _literal(tree: Any) -> Any:
    """Return the same without a ${...} that DVC would replace: paths are the user's."""
    if isinstance(tree, dict):
        return {_literal(key): _literal(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_literal(value) for value in tree]
    return tree.replace("${", "\\${") if isinstance(tree, str) else tree


def _entry(stage: Stage) -> dict[str, Any]:
    commands = list(stage.commands)
    params = [
        (stage.modalities_of, ("modalities",)),
        (CONFIG_FILE, stage.params),
        (VERSIONS_FILE, stage.versions),
    ]
    entry: dict[str, Any] = {
        "cmd": commands if len(commands) > 1 else commands[0],
        "deps": list(stage.deps),
        # DVC takes a file without keys for every key in it.
        "params": [{file: list(keys)} for file, keys in params if file and keys],
        "outs": [
            {out.path: {"persist": True}} if out.persist else out.path
            for out in stage.outs
            if not out.is_metric
        ],
    }
    if metrics := [out.path for out in stage.outs if out.is_metric]:
        entry["metrics"] = metrics
    return entry


def _plots(stages: Sequence[Stage]) -> list[dict[str, Any]]:
    """Return one figure per curve, with a line for every run."""
    plots = []
    for kind in ("pretrain", "finetune"):
        files = _tables(stages, kind, HISTORY_FILE)
        plots.append(_plot(f"{kind} loss", dict.fromkeys(files, "loss")))
    for head in HEADS:
        validated = [stage for stage in stages if head in stage.heads]
        files = _tables(validated, "finetune", VALIDATION_FILE)
        plots.append(_plot(f"validation accuracy {head}", dict.fromkeys(files, head)))
    return [plot for plot in plots if plot]


def _tables(stages: Sequence[Stage], kind: str, name: str) -> list[str]:
    return [
        out.path
        for stage in stages
        for out in stage.outs
        if stage.name.startswith(f"{kind}_") and out.path.endswith(f"/{name}")
    ]


def _plot(title: str, columns: dict[str, str]) -> dict[str, Any]:
    return {title: {"x": "step", "y": columns, "title": title}} if columns else {}
