"""Draw docs/pipeline.svg from the workflow's own rules: ``python docs/draw_pipeline.py``.

Needs Graphviz's ``dot``. A test compares the picture's boxes and arrows with the rules.
"""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "pipeline.svg"
COMMAND = ("snakemake", "--workflow-profile", "test", "--rulegraph", "dot", "--", "all")
# Stage -> colour of its boxes, and what each rule makes; Okabe and Ito's colours, lightened.
STAGES = {
    "#cfe8f7": {
        "download_clips": "raw clips",
        "transcode_clips": "16 kHz sound, frames",
        "extract_logmel": "log-mel spectrograms",
        "pack_shard": "WebDataset shards",
        "pack_index": "index of a split",
        "pack_ledger": "a row for each clip",
    },
    "#fbe3c0": {"pretrain_model": "checkpoint", "finetune_model": "checkpoint"},
    "#cdeadf": {
        "evaluate_pretrained": "retrieval, probes",
        "evaluate_finetuned": "accuracy, mAP",
    },
    "#f3dcea": {"resolve_config": "settings of a run", "report_results": "one page"},
}


def rule_graph() -> tuple[list[str], list[tuple[str, str]]]:
    """Rules of the workflow, and which one reads what another makes."""
    dot = subprocess.run(COMMAND, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = dict(re.findall(r'^\s*(\d+)\[label = "(\w+)"', dot, re.MULTILINE))
    arrows = re.findall(r"^\s*(\d+) -> (\d+)", dot, re.MULTILINE)
    edges = [(names[one], names[other]) for one, other in arrows]
    # Who reads an index reads the manifests behind it; arrows of those would hide the others.
    indexed = {("pack_shard", reader) for one, reader in edges if one == "pack_index"}
    shown = {edge for edge in edges if edge[1] != "all"} - indexed
    return sorted(names.values()), sorted(shown)


def drawn_graph(svg: str) -> tuple[list[str], list[tuple[str, str]]]:
    """Boxes and arrows of a picture that Graphviz drew."""
    nodes = re.findall(r'class="node">\s*<title>(\w+)</title>', svg)
    edges = re.findall(r'class="edge">\s*<title>(\w+)&#45;&gt;(\w+)</title>', svg)
    return sorted([*nodes, "all"]), sorted(edges)


def _style(edges: list[tuple[str, str]]) -> str:
    """The picture in Graphviz's language."""
    lines = [
        "digraph pipeline {",
        'rankdir=LR; bgcolor="white"; nodesep=0.22; ranksep=0.3; margin=0.05;',
        'node [shape=box, style="rounded,filled", color="#00000000", fontname="DejaVu Sans",'
        " fontsize=11, margin=0.1];",
        'edge [color="#808080", arrowsize=0.6];',
    ]
    for colour, rules in STAGES.items():
        for rule, made in rules.items():
            label = f'<<b>{rule}</b><br/><font point-size="9">{made}</font>>'
            lines.append(f'{rule} [fillcolor="{colour}", label={label}];')
    return "\n".join([*lines, *(f"{one} -> {other};" for one, other in edges), "}"])


def main() -> None:
    """Write the picture."""
    source = _style(rule_graph()[1])
    drawn = subprocess.run(["dot", "-Tsvg"], input=source, capture_output=True, text=True)
    drawn.check_returncode()
    PICTURE.write_text(drawn.stdout, encoding="utf-8")


if __name__ == "__main__":
    main()
