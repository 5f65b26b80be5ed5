"""What this checkout and this machine lack, each with a next step; exit code 1 if it is broken."""

import argparse
import contextlib
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pipeline_src.catalog import Catalog
from pipeline_src.dvc.drift import refuse_drift
from pipeline_src.dvc.render import load_catalog
from pipeline_src.dvc.results_folder import ADVICE, problems_of
from pipeline_src.dvc.site_cache import site_cache, what_is_wrong
from pipeline_src.dvc.sync import compare
from pipeline_src.errors import PipelineError
from pipeline_src.system.checkout import CHECKOUT
from pipeline_src.transcode.ffmpeg import find_ffmpeg

LINK, LINKED = "slurm", "profiles/slurm"
MIN_FREE_GIGABYTES = 10
TOOL_TIMEOUT_SECONDS = 20
NO_ACCOUNTING = re.compile(r"AccountingStorageType\s*=\s*(\(null\)|accounting_storage/none)")
NO_SBATCH_TEXT = (
    "submit.cluster = slurm, but sbatch is not on PATH: load Slurm's module, "
    "or set submit.cluster to local"
)
NO_ACCOUNTING_TEXT = (
    "Slurm keeps no accounting: keep slurm-status-command: squeue in your profile, as "
    "profiles/slurm has it; the plugin's default waits for ever"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare no option."""


def run(options: argparse.Namespace) -> int:
    """Print every check; 1 when something is broken."""
    with contextlib.chdir(CHECKOUT):
        lines = list(examine(Path()))
    for line in lines:
        print(f"{line.state:7}{line.text}")
    return int(any(line.state == "broken" for line in lines))


class Diagnosis(NamedTuple):
    """One line of the answer: ok | note (works, but look) | broken (needs the next step)."""

    state: str
    text: str


def examine(root: Path) -> Iterator[Diagnosis]:
    """Yield every check of a checkout and of this machine."""
    yield check_link(root)
    yield _check_ffmpeg()
    yield from _check_torch()
    try:
        catalog = load_catalog(root)
    except PipelineError as error:
        yield Diagnosis("broken", f"configuration: {error}")
        return
    yield from check_disk(catalog.results)
    yield from check_slurm(catalog.config.submit.cluster)
    yield from _check_dvc(root, catalog)


def check_link(root: Path) -> Diagnosis:
    """Check the link that lets ``--profile slurm`` find its profile."""
    path = root / LINK
    if path.is_dir() and path.resolve() == (root / LINKED).resolve():
        return Diagnosis("ok", f"{LINK} -> {LINKED}")
    return Diagnosis(
        "broken", f"{LINK} is no link to {LINKED}: rm -rf {LINK} && ln -s {LINKED} {LINK}"
    )


def _check_torch() -> Iterator[Diagnosis]:
    yield Diagnosis("ok", f"Python {sys.version.split()[0]}")
    if importlib.util.find_spec("torch") is None:
        yield Diagnosis("broken", "torch is not installed: make setup")
        return
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        yield Diagnosis("ok", f"torch {torch.__version__}, GPUs: {', '.join(names)}")
    else:
        yield Diagnosis(
            "note", f"torch {torch.__version__}, no GPU in reach: training runs on the CPU"
        )
    yield from check_precision()


def check_precision() -> Iterator[Diagnosis]:
    """Yield what ``amp: auto`` means on this machine."""
    from pipeline_src.evaluate.common import pick_device
    from pipeline_src.train.precision import native_precision

    found = native_precision(pick_device())
    yield Diagnosis("ok", f"amp: auto trains in {found.name} here: {found.reason}")


def check_disk(results: Path) -> Iterator[Diagnosis]:
    """Yield free space where results are written."""
    folders = (results.absolute(), *results.absolute().parents)
    free = shutil.disk_usage(next(path for path in folders if path.exists())).free / 1e9
    text = f"{free:.0f} GB free at {results}"
    if free < MIN_FREE_GIGABYTES:
        yield Diagnosis("note", f"{text}: delete {results}/<dataset>/raw of finished data sets")
    else:
        yield Diagnosis("ok", text)


def check_slurm(cluster: str) -> Iterator[Diagnosis]:
    """Tell whether jobs can be sent to Slurm, and how their state can be asked for."""
    if shutil.which("sbatch") is None:
        if cluster == "slurm":
            yield Diagnosis("broken", NO_SBATCH_TEXT)
        else:
            yield Diagnosis(
                "ok", f"no sbatch on PATH, submit.cluster = {cluster}: training runs here"
            )
        return
    if _answer("sinfo", "--noheader") is None:
        text = "sbatch is on PATH, but sinfo gets no answer: --profile slurm will not work here"
        yield Diagnosis("broken" if cluster == "slurm" else "note", text)
        return
    yield Diagnosis("ok", f"Slurm answers, submit.cluster = {cluster}")
    settings = _answer("scontrol", "show", "config") or ""
    if NO_ACCOUNTING.search(settings):
        yield Diagnosis("note", NO_ACCOUNTING_TEXT)


def _answer(*command: str) -> str | None:
    """Return what a command printed; None where it failed or hung."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=TOOL_TIMEOUT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _check_dvc(root: Path, catalog: Catalog) -> Iterator[Diagnosis]:
    if not (root / ".dvc" / "config").is_file():
        yield Diagnosis("broken", "no .dvc folder: git checkout .dvc .dvcignore")
        return
    if _answer("git", "-C", str(root), "rev-parse") is None:
        yield Diagnosis("broken", "no git repository, and DVC needs one: git clone this project")
        return
    yield check_site_cache(root)
    if remote := (_answer("dvc", "remote", "default") or "").strip():
        yield Diagnosis("ok", f"dvc remote {remote}")
    else:
        yield Diagnosis(
            "note", "no default DVC remote: dvc remote add --local -d mine <folder or URL>"
        )
    if problems := list(problems_of(catalog.results, root)):
        yield Diagnosis("note", f"dvc repro will refuse: {problems[0]}; {ADVICE}")
        return
    try:
        refuse_drift(root)
        yield Diagnosis("ok", "dvc.yaml fits config/config.yaml")
        findings = compare(catalog)
    except PipelineError as error:
        yield Diagnosis("broken", str(error))
        return
    unsettled = [found.stage.name for found in findings if found.action in ("touch", "commit")]
    if unsettled:
        listed = ", ".join(unsettled)
        yield Diagnosis(
            "note", f"DVC and Snakemake disagree: python -m pipeline_src sync ({listed})"
        )
    else:
        yield Diagnosis("ok", "DVC and Snakemake agree on what is there")


def check_site_cache(root: Path) -> Diagnosis:
    """Check that nobody else may write where DVC's state lies: DVC runs what is in it."""
    try:
        path = site_cache(root)
    except PipelineError as error:
        return Diagnosis("broken", str(error))
    if wrong := what_is_wrong(path):
        repair = f"rm -rf {shlex.quote(str(path))} && mkdir -m 700 -p {shlex.quote(f'{path}/repo')}"
        return Diagnosis("broken", f"DVC unpickles its state, and {wrong}: {repair}")
    return Diagnosis("ok", f"DVC's state lies in {path}, where only you may write")


def _check_ffmpeg() -> Diagnosis:
    try:
        return Diagnosis("ok", f"ffmpeg: {find_ffmpeg()}")
    except PipelineError as error:
        return Diagnosis("broken", str(error))
