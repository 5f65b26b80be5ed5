"""Make a metrics.json again from its commit, and compare every figure and hash."""

import argparse
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from pipeline_src.catalog import paths
from pipeline_src.config import load_config, resolve_run
from pipeline_src.config.root import NAME_PATTERN
from pipeline_src.datasets.dataset import FOLD_PREFIX, dataset_file, load_dataset
from pipeline_src.errors import ConfigError, StageError, shown
from pipeline_src.evaluate.records import EvalMetrics, ProbeMetrics, Scored, parse_scored
from pipeline_src.runs.provenance import UNKNOWN_COMMIT, package_versions
from pipeline_src.runs.spec import PUBLISHED_FOLDER, STATE_FILE
from pipeline_src.system.atomic import write_text
from pipeline_src.system.checkout import CHECKOUT, CONFIG_FILE
from pipeline_src.system.cores import num_cores

# Rules whose figures hang on their number of threads.
COMPUTING = ("pretrain_model", "finetune_model", "evaluate_pretrained", "evaluate_finetuned")
NEEDED = ("git_commit", "config", "versions")  # the schema lets older files lack these
HASHES = ("clip_ids_sha256", "data_sha256", "config_sha256", "checkpoint_sha256")
NOT_FIGURES = {*HASHES, "seconds", "git_commit", "versions", "config", "seed"}
NAME = re.compile(NAME_PATTERN.strip("^$"))
ORIGIN = {
    "git_commit": (
        re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})(?:-dirty)?|unknown"),
        "a commit's 40 hexadecimal digits",
    ),
    "run": (NAME, "letters, digits and _"),
    "dataset": (NAME, "letters, digits and _"),
    "split": (re.compile(r"\w*"), "letters, digits and _"),
}
TAIL_LINES = 15
logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the figures, and where the new checkout goes."""
    parser.add_argument("metrics", type=Path, help="metrics.json of an evaluation or a probe")
    parser.add_argument(
        "--folder", type=Path, help="new checkout; default results/reproduce/<commit>"
    )


def run(options: argparse.Namespace) -> int:
    """Return 0 when every figure and hash is the same."""
    return reproduce(options.metrics, options.folder)


def reproduce(metrics: Path, folder: Path | None) -> int:
    """Check out, run, compare; 0 when every figure and hash is the same."""
    stored = read_origin(metrics)
    check_settings(metrics, stored.config)
    for name, then, now in differing_versions(stored.versions):
        logger.warning("%s was %s, here it is %s: figures may differ", name, then, now)
    default = CHECKOUT / "results/reproduce" / stored.git_commit[:12]
    checkout = (folder or default).resolve()
    project = prepare_checkout(checkout, stored.git_commit, stored.config)
    target = target_of(stored)
    run_workflow(project, target, threads=recorded_threads(metrics, stored))
    differences = list(compare_metrics(stored, read_origin(project / target)))
    for difference in differences:
        print(difference)
    print(f"{project / target}: {'differs' if differences else 'the same figures and hashes'}")
    return int(bool(differences))


def read_origin(path: Path) -> EvalMetrics | ProbeMetrics:
    """Return a metrics.json that names all it was made from.

    Raises:
        StageError: not readable, or a part of its origin is missing or wrong; says which.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StageError(f"{path}: not a readable metrics.json ({shown(error)})") from error
    if not isinstance(values, dict):
        raise StageError(f"{path}: not a metrics.json: it holds {shown(values)}")
    if isinstance(values.get("folds"), list):
        raise StageError(f"{path}: a mean over folds; give the metrics.json of each fold")
    try:
        metrics = parse_scored(values)
    except ValidationError as error:
        raise StageError(f"{path}: {_refusal(error)}") from error
    if missing := [key for key in NEEDED if not getattr(metrics, key)]:
        raise StageError(f"{path}: {_missing(missing)}")
    _check_origin(path, metrics)
    return metrics


def _refusal(error: ValidationError) -> str:
    problems = error.errors(include_url=False)
    keys = [".".join(map(str, problem["loc"])) for problem in problems]
    named = dict(zip(keys, problems, strict=True))
    absent = [k for k, one in named.items() if one["type"] == "missing" or one["input"] is None]
    if absent:
        return _missing(absent)
    key, first = keys[0], problems[0]
    return _wrong(key, first["input"], ORIGIN[key][1] if key in ORIGIN else first["msg"])


def _missing(keys: Sequence[str]) -> str:
    return f"{', '.join(keys)} missing; only newer files can be made again"


def _wrong(key: str, value: Any, allowed: str) -> str:
    return f"{key} is {shown(value)}, not {allowed}; take the file as it was written"


def _check_origin(path: Path, metrics: Scored) -> None:
    """Refuse a file whose names could mean more to git or to a shell's tools than names.

    Raises:
        StageError: names the value and what is allowed.
    """
    for key, (pattern, allowed) in ORIGIN.items():
        value = getattr(metrics, key)
        if not pattern.fullmatch(value):
            raise StageError(f"{path}: {_wrong(key, value, allowed)}")


def check_settings(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse settings that this code would refuse, whatever the code of their commit allows.

    A metrics.json may be somebody else's, and options of the download can run programs.

    Raises:
        StageError: names the file, the key and what is allowed.
    """
    try:
        load_config(config)
    except ConfigError as error:
        raise StageError(f"{path}: its configuration is not one to run here: {error}") from error


def differing_versions(then: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """List package, version then and version now where the two differ."""
    here = package_versions()
    names = sorted({*then, *here})
    versions = [(name, then.get(name, "absent"), here.get(name, "absent")) for name in names]
    return [row for row in versions if row[1] != row[2]]


def prepare_checkout(folder: Path, commit: str, config: Mapping[str, Any]) -> Path:
    """Return the project's folder in a git worktree of the commit, with that configuration.

    Raises:
        StageError: the commit is unknown or had local changes, or ``folder`` holds something else.
    """
    if commit == UNKNOWN_COMMIT:
        raise StageError(
            "git_commit is unknown: no git repository tracked the project's files when the figures "
            "were made, so the code that made them is missing (a copy without .git, or one inside "
            "another repository). Clone the project, evaluate there, and use that metrics.json"
        )
    if commit.endswith("-dirty"):
        raise StageError(
            f"git_commit is {commit}: the code had changes that no commit holds. Commit first, "
            "then evaluate again; or check the commit out by hand and accept the difference"
        )
    if _git("cat-file", "-e", f"{commit}^{{commit}}").returncode:
        raise StageError(f"commit {commit} is not in this repository: git fetch --all")
    if not (folder / ".git").exists():
        made = _git("worktree", "add", "--detach", str(folder), commit)
        if made.returncode:
            raise StageError(f"no checkout at {folder}: {made.stderr.strip()}")
    elif (head := _git("rev-parse", "HEAD", folder=folder).stdout.strip()) != commit:
        raise StageError(f"{folder} is a checkout of {head or 'nothing'}; give another --folder")
    project = folder / _git("rev-parse", "--show-prefix").stdout.strip()
    own = {**config, "datasets": [_found(name) for name in load_config(config).datasets]}
    own["results"] = "results"
    write_text(project / CONFIG_FILE, yaml.safe_dump(own, sort_keys=False))
    _bring_lists(project, own)
    return project


def _found(name: str) -> str:
    """Return a data set's name, or its YAML's whole path where that lies in the current folder."""
    path = dataset_file(name)
    is_here = not (CHECKOUT / path).is_file() and path.is_file()
    return str(path.resolve()) if is_here else name


def _bring_lists(folder: Path, config: Mapping[str, Any]) -> None:
    """Link data set files that git does not hold: lists of others, and folders of local clips.

    Raises:
        StageError: the YAML of a data set is not here.
    """
    for entry in load_config(config).datasets:
        path = dataset_file(entry)
        if not (CHECKOUT / path).is_file():
            raise StageError(
                f"data set {entry}: {path} is neither in {CHECKOUT} nor in the current folder, so "
                "its clips cannot be found"
            )
        dataset = load_dataset(CHECKOUT / path)
        for needed in (path, *dataset.list_files, *dataset.described_by, dataset.root):
            _link(folder, Path(os.path.normpath(CHECKOUT / needed)))


def _link(folder: Path, path: Path) -> None:
    if not path.is_relative_to(CHECKOUT):
        return
    there = folder / path.relative_to(CHECKOUT)
    if not there.exists() and path.exists():
        there.parent.mkdir(parents=True, exist_ok=True)
        there.symlink_to(path)


def target_of(stored: Scored) -> str:
    """Return the file that the workflow is asked for."""
    pattern = paths.PROBE_SCORES if isinstance(stored, ProbeMetrics) else paths.SCORES
    return paths.fill(pattern, "results", run=stored.run, dataset=_view(stored))


def _view(stored: Scored) -> str:
    """Return the data set as the workflow calls it: of a fold, with that held out."""
    is_fold = stored.split.startswith(FOLD_PREFIX)
    return f"{stored.dataset}_{stored.split}" if is_fold else stored.dataset


def recorded_threads(metrics: Path, stored: Scored) -> dict[str, int]:
    """Return the threads per rank of the trainings behind figures, by rule, as far as known.

    Sums of floats are in another order with another number of them, and so are the weights.
    """
    run = metrics.resolve().parents[2]
    folders = {
        "pretrain_model": run.with_name(_pretrained_run(stored)) / paths.PRETRAIN_FOLDER,
        "finetune_model": run / paths.FINETUNE_FOLDER / _view(stored),
    }
    found = {}
    for rule, folder in folders.items():
        with suppress(OSError, ValueError, KeyError, TypeError):
            state = json.loads((folder / PUBLISHED_FOLDER / STATE_FILE).read_text(encoding="utf-8"))
            found[rule] = int(state["num_threads"])
    return found


def _pretrained_run(stored: Scored) -> str:
    """Return the run whose pre-training these figures start from: a named one, or its own."""
    run = resolve_run(load_config(stored.config or {}), stored.run)
    return run.finetune.checkpoint_run or stored.run


def run_workflow(folder: Path, target: str, *, threads: Mapping[str, int]) -> None:
    """Run that checkout's own workflow in this environment.

    Args:
        threads: rule -> threads, as far as known; other rules whose figures hang on theirs get the
            most of these. Empty = as its profile says.
    Raises:
        StageError: it failed; the message ends with its last lines.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PATH": path}
    options: list[str] = []
    if threads:
        most = max(threads.values())
        by_rule = {**dict.fromkeys(COMPUTING, most), **threads}
        # Snakemake gives a rule no more threads than cores, however many the machine has.
        options += ["--cores", str(max(num_cores(), most))]
        options += ["--set-threads", *(f"{rule}={n}" for rule, n in by_rule.items())]
    print(f"{' '.join(['snakemake', *options])} -- {target}  (in {folder})", flush=True)
    log = folder / "reproduce.log"
    with log.open("w", encoding="utf-8") as stream:
        done = subprocess.run(
            ["snakemake", *options, "--", target],
            cwd=folder,
            env=env,
            stdout=stream,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        tail = "\n  ".join(log.read_text(encoding="utf-8").splitlines()[-TAIL_LINES:])
        raise StageError(f"the workflow failed in {folder}; end of {log}:\n  {tail}")


def compare_metrics(then: Scored, now: Scored) -> Iterator[str]:
    """Yield one sentence per hash and figure that differs."""
    meanings = {
        "clip_ids_sha256": "other clips are scored: the list changed, or clips were lost",
        "data_sha256": "the data differ: other clips, or other bytes from other package versions",
        "config_sha256": "the settings differ",
        "checkpoint_sha256": "the weights differ",
    }
    for key, meaning in meanings.items():
        if getattr(then, key) != getattr(now, key):
            yield f"{key}: {meaning}"
    first, second = _figures(then), _figures(now)
    for name in sorted(first.keys() | second.keys()):
        if first.get(name) != second.get(name):
            yield f"{name}: was {first.get(name)}, is {second.get(name)}"


def _figures(value: Any, name: str = "") -> dict[str, Any]:
    """Return every leaf that is a figure, by its dotted name; of a record, what the file holds."""
    if isinstance(value, BaseModel):
        value = {key: getattr(value, key) for key in value.model_fields_set}
    if not isinstance(value, Mapping):
        return {name: value}
    leaves: dict[str, Any] = {}
    for key, below in value.items():
        if name or key not in NOT_FIGURES:
            leaves |= _figures(below, f"{name}.{key}".lstrip("."))
    return leaves


def _git(*arguments: str, folder: Path = CHECKOUT) -> subprocess.CompletedProcess[str]:
    if shutil.which("git") is None:
        raise StageError("git is not on PATH; it holds the code that made the figures")
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False
    )
