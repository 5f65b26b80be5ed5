"""``snakemake --lint`` but for the advice that this workflow does not take, with the reason.

One more, which the lint does not give: ``rules.<name>.output`` where a rule reads another's file.
The stages of a chunk do so, which have the same wildcards. Rules pack, train and evaluate read what
the configuration decides (chunks of a split, splits of a run's data sets, the pre-training that it
starts from, folds): paths of another number and other wildcards than the rule that writes them has.
So they ask functions of the catalog, which fill in the paths of ``pipeline_src/catalog/paths.py``:
each is spelled there once, for the outputs of rules, ``dvc.yaml``, ``sync`` and the report as well.
"""

import re
import subprocess
import sys
from pathlib import Path

NOT_TAKEN = {
    "Specify a conda environment or container for each rule": "requirements.lock pins one "
    "environment for all rules, which pip installs from any index",
    "Mixed rules and functions in same snakefile": "an input function stands beside the rule that "
    "uses it; what several use is in common.smk, and the work in the package",
}
HEADING = re.compile(r"Lints for (.+):")
ADVICE = re.compile(r" +\* (.+)")


def main() -> None:
    """Print what is left; exit 1 where something is, or where nothing could be checked."""
    command = ["snakemake", "--lint", "--workflow-profile", "none"]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    printed = done.stdout + done.stderr
    place, left, num_found = "", [], 0
    for line in printed.splitlines():
        if heading := HEADING.fullmatch(line.strip()):
            place = heading[1]
        elif advice := ADVICE.fullmatch(line):
            num_found += 1
            if advice[1].strip(".:") not in NOT_TAKEN:
                left.append(f"{place}: {advice[1]}")
    if not num_found and done.returncode:
        sys.exit(f"snakemake --lint failed:\n{printed}")
    if left:
        sys.exit("\n".join(left))


if __name__ == "__main__":
    main()
