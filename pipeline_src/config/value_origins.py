"""Where a value of the configuration was set: the last file that has its key, or ``--config``."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline_src.config.old_keys import with_new_keys
from pipeline_src.config.yaml_files import parse_assignments, read_sections

COMMAND_LINE = "--config"
# A key with its section, or one that a message gives with its value.
KEY = re.compile(r"\b[a-z_]+(?:\.[a-z_]+)+|\b[a-z_]+(?= ?=)")


class ValueOrigins:
    """The trees that were merged, last one wins.

    Args:
        files: first read first. assignments: of ``--config``.
    """

    def __init__(self, files: Sequence[Path], assignments: Sequence[str] = ()) -> None:
        trees = [(str(path), read_sections(path)) for path in files]
        trees.append((COMMAND_LINE, parse_assignments(assignments)))
        self._trees = [(name, with_new_keys(tree, name)) for name, tree in trees]

    def find(self, path: Sequence[str]) -> str:
        """Return what sets the key at ``path`` last; empty where nothing does."""
        return next((name for name, tree in reversed(self._trees) if _sets(tree, path)), "")

    def of_keys(self, message: str, sections: Sequence[str], run: str, section: str = "") -> str:
        """Return where each key that a message compares is set, as a clause to put behind it.

        Args:
            sections: of the configuration. run: whose own values come first; may be empty.
            section: that the message is about; its keys may stand there without it.
        """
        found: dict[str, str] = {}
        for key in KEY.findall(message):
            path = key.split(".")
            if path[0] not in sections and section:
                path = [*section.split("."), *path]
            if path[0] not in sections or path[0] == "runs":
                continue
            own = self.find(["runs", run, *path]) if run else ""
            if place := own or self.find(path):
                found[".".join(path)] = place
        if len(found) < 2:
            return ""
        return " (" + ", ".join(f"{key} is set in {place}" for key, place in found.items()) + ")"


def _sets(tree: Any, path: Sequence[str]) -> bool:
    """Tell whether a tree has the key; anything below a leaf counts as set with the leaf itself."""
    node = tree
    for part in path:
        if isinstance(node, Mapping):
            if part not in node:
                return False
            node = node[part]
        elif isinstance(node, list) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
    return True
