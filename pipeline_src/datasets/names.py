"""Which texts are names of clips and files: everything that a line of a list can store.

Titles hold ideographic spaces, joiners, direction marks and characters newer than this Python;
only what ends a line, steers a terminal or is no text at all is refused.
"""

import re

# Control characters (C0, delete, C1), the two line separators, and halves of surrogate pairs,
# which UTF-8 cannot hold.
NO_NAME = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def is_name(text: str) -> bool:
    """Return whether ``text`` can stand in a list and in every file that is made of it."""
    return NO_NAME.search(text) is None
