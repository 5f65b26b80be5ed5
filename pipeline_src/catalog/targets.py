"""Names of targets as people type them: of a wrong one Snakemake says only that no rule has it."""

import math
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence

import yaml

from pipeline_src.config import Config
from pipeline_src.config.changes import section_keys
from pipeline_src.config.yaml_files import parse_yaml
from pipeline_src.errors import ConfigError, did_you_mean

SHOWN = ("all", "pretrain", "report", "shards_<dataset>", "finetune_<dataset>", "eval_<dataset>")
FLAGS = ("--", "--dry-run", "--dryrun", "--forceall", "--force", "--keep-going", "--printshellcmds")
WORD = re.compile(r"[A-Za-z]\w*")
SETTING = re.compile(r"(?P<section>\w+)\.(?P<keys>[\w.-]+)=(?P<value>.*)", re.DOTALL)


def refuse_unknown(arguments: Sequence[str], known: Collection[str]) -> None:
    """Refuse a word of the command line that is almost a target, or a setting.

    Args:
        arguments: of Snakemake, whose own reading of them is not there while files are read.

    Raises:
        ConfigError: names the word and what is near, or how a setting is written.
    """
    for word in arguments:
        if option := _as_option(word):
            raise ConfigError(f"{word}: a setting is given as {option} -- <targets>")
    for word in _words(arguments):
        near = did_you_mean(word, known)
        if word not in known and near:
            raise ConfigError(
                f"unknown target {word!r}{near} Targets are {', '.join(SHOWN)}, or files of the "
                "results; `snakemake -l` names all"
            )


def _as_option(word: str) -> str:
    """Return the option that ``section.key=value`` stands for; empty where it is no setting."""
    setting = SETTING.fullmatch(word)
    if not setting or setting["section"] not in {"runs", *section_keys(Config())}:
        return ""
    keys = setting["keys"].split(".")
    try:
        value = parse_yaml(setting["value"], word)
    except ConfigError:
        return ""
    if isinstance(value, Mapping) or not all(keys):
        return ""
    for key in reversed(keys):
        value = {key: value}
    written = yaml.safe_dump(value, default_flow_style=True, width=math.inf, sort_keys=False)
    return shlex.join(["--config", f"{setting['section']}={written.strip()}"])


def _words(arguments: Sequence[str]) -> Iterator[str]:
    """Yield words that may be targets: all behind ``--``, else those that are no option's value."""
    after = arguments.index("--") if "--" in arguments else len(arguments)
    for index, word in enumerate(arguments):
        earlier = arguments[index - 1] if index else "--"
        is_value = earlier.startswith("--") and earlier not in FLAGS
        if WORD.fullmatch(word) and (index > after or not is_value):
            yield word
