"""How many CPU cores this process has."""

import os


def num_cores() -> int:
    """Cores that this process may use; where nobody can say (macOS), all of the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
