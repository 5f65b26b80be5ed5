"""Whether packed shards are whole: every byte is read once, some clips or all are decoded.

Compared are sizes, sha256, the CRC-32 and tar headers of every sample, and counts with index and
manifests. Every defect is one line with file, clip and next step, and the exit code is then 1.
"""

import argparse
import logging
from pathlib import Path

from pipeline_src.errors import ConfigError
from pipeline_src.shards.verify import DECODED_CLIPS, verify
from pipeline_src.system.cores import num_cores


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the shards, and how much of them is decoded."""
    add = parser.add_argument
    add("paths", type=Path, nargs="+", help="index.json files, or folders that hold some")
    add("--decode", type=int, default=DECODED_CLIPS, help="clips to decode per index; 0 = none")
    add("--all", action="store_true", help="decode every clip")
    add("--workers", type=int, default=num_cores(), help="processes")


def run(options: argparse.Namespace) -> int:
    """Print the defects of what the command line names; 1 where there is one.

    Raises:
        ConfigError: an option.
        ManifestError: nothing packed lies at a path, or an index cannot be read.
    """
    if options.decode < 0 or options.workers < 1:
        raise ConfigError("--decode must be at least 0 and --workers at least 1")
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    num_defects = 0
    num_decoded = -1 if options.all else options.decode
    for line in verify(options.paths, num_decoded=num_decoded, num_workers=options.workers):
        num_defects += 1
        print(line, flush=True)
    print(f"{num_defects or 'no'} defect{'s' * (num_defects > 1)}")
    return int(num_defects > 0)
