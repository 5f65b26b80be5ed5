"""Names for links to parts of the page: the same parts have the same names in the next one."""

import re
from collections import Counter


class Anchors:
    """Give names from titles; a title that comes again in a section is numbered."""

    def __init__(self) -> None:
        self._section = ""
        self._given: Counter[str] = Counter()

    def enter(self, section: str) -> str:
        """Name what follows after a section; return nothing for the page to show."""
        self._section = section
        return ""

    def make(self, title: str) -> str:
        """Return a name that no other part has."""
        words = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
        name = f"{self._section}-{words}".strip("-")
        self._given[name] += 1
        count = self._given[name]
        return name if count == 1 else f"{name}--{count}"
