"""The files of config/ that are generated: config.yaml, schema.json, README.md."""

import argparse

from pipeline_src.config.generate import drifted_files, rendered_files
from pipeline_src.config.load import CONFIG_FOLDER
from pipeline_src.errors import ConfigError
from pipeline_src.system.atomic import write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the actions, one of which is asked for."""
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true", help="write them with their defaults")
    action.add_argument("--check", action="store_true", help="fail where one has drifted")


def run(options: argparse.Namespace) -> int:
    """Do what was asked.

    Raises:
        ConfigError: a file has drifted; names it.
    """
    if options.write:
        for name, text in rendered_files().items():
            write_text(CONFIG_FOLDER / name, text)
    elif drifted := drifted_files(CONFIG_FOLDER):
        raise ConfigError(f"drifted from pipeline_src/config: {', '.join(drifted)}; `make config`")
    print("config.yaml, schema.json and README.md of config/ are as generated")
    return 0
