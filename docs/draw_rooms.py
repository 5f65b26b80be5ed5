"""Draw docs/rooms.svg from the imports of the package: ``python docs/draw_rooms.py``.

An arrow says "imports"; one that others imply is left out. Needs Graphviz's ``dot``. A test
compares the picture's arrows with the imports.
"""

import ast
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "pipeline_src"
PICTURE = ROOT / "docs" / "rooms.svg"
# Colour of a wing -> its rooms; Okabe and Ito's colours, lightened.
WINGS = {
    "#e8e8e8": ("errors", "versions", "modalities", "system", "config"),
    "#cfe8f7": ("datasets", "manifest", "download", "transcode", "logmel", "shards", "loader"),
    "#fbe3c0": ("methods", "runs", "train", "submit"),
    "#cdeadf": ("evaluate", "inference", "report"),
    "#f3dcea": ("catalog", "dvc", "workflow", "commands"),
}
EVERYWHERE = ("errors", "versions", "modalities")


def room_imports() -> dict[str, set[str]]:
    """Room -> rooms that it imports; those that every room imports are left out."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        room = path.relative_to(ROOT / PACKAGE).parts[0].removesuffix(".py")
        if room.startswith("__"):
            continue
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        froms = (node for node in nodes if isinstance(node, ast.ImportFrom) and node.module)
        others = {
            node.module.split(".")[1]
            for node in froms
            if (node.module or "").startswith(f"{PACKAGE}.")
        }
        found.setdefault(room, set()).update(others - {room, *EVERYWHERE})
    return found


def needed_arrows(imports: dict[str, set[str]]) -> list[tuple[str, str]]:
    """The arrows that no chain of other arrows implies."""
    below = {room: _reached(room, imports) for room in imports}
    return sorted(
        (room, other)
        for room, others in imports.items()
        for other in others
        if not any(other in below[between] for between in others - {other})
    )


def _reached(room: str, imports: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [room]
    while waiting:
        new = imports.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found


def drawn_arrows(svg: str) -> list[tuple[str, str]]:
    """Arrows of a picture that Graphviz drew."""
    return sorted(re.findall(r'class="edge">\s*<title>(\w+)&#45;&gt;(\w+)</title>', svg))


def main() -> None:
    """Write the picture."""
    lines = [
        'digraph rooms { rankdir=TB; bgcolor="white"; nodesep=0.25; ranksep=0.3; margin=0.05;',
        'node [shape=box, style="rounded,filled", color="#00000000", fontname="DejaVu Sans",'
        " fontsize=12, margin=0.1];",
        'edge [color="#808080", arrowsize=0.6];',
    ]
    imports = room_imports()
    for colour, rooms in WINGS.items():
        lines += [f'{room} [fillcolor="{colour}"];' for room in rooms if room in imports]
    lines += [f"{one} -> {other};" for one, other in needed_arrows(imports)]
    command = ["dot", "-Tsvg"]
    source = "\n".join([*lines, "}"])
    drawn = subprocess.run(command, input=source, capture_output=True, text=True, check=True)
    PICTURE.write_text(drawn.stdout, encoding="utf-8")


if __name__ == "__main__":
    main()
