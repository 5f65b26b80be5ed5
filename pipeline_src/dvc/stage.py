"""What one stage of ``dvc.yaml`` is."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Out:
    """A file or folder that a stage leaves.

    Args:
        persist: kept when the stage runs again, because the workflow replaces it piece by piece
            or continues it; the other outputs are deleted first.
        is_metric: shown by ``dvc metrics``.
    """

    path: str
    persist: bool = False
    is_metric: bool = False


@dataclass(frozen=True)
class Stage:
    """One stage of ``dvc.yaml``.

    Args:
        rules: the rules that may run in it; all others belong to other stages.
        target: what Snakemake is asked for.
        deps: files and folders that it reads.
        params: keys of ``config/config.yaml`` that its rules use, whole sections or dotted.
        versions: constants of ``pipeline_src/versions.py`` that its rules use.
        before: commands that run first.
        modalities_of: YAML of a data set whose ``modalities`` its rules use.
        heads: inputs that a fine-tuning is validated on.
    """

    name: str
    rules: tuple[str, ...]
    target: str
    deps: tuple[str, ...]
    params: tuple[str, ...]
    versions: tuple[str, ...]
    outs: tuple[Out, ...]
    before: tuple[str, ...] = ()
    modalities_of: str = ""
    heads: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The first word of its name."""
        return self.name.split("_")[0]

    @property
    def commands(self) -> tuple[str, ...]:
        """What DVC runs; SNAKEMAKE_PROFILE decides where."""
        allowed = " ".join(self.rules)
        return (*self.before, f"snakemake --allowed-rules {allowed} -- {shlex.quote(self.target)}")


def relative_path(path: str | Path) -> str:
    """Return a path as DVC names it: without detours, relative inside the checkout."""
    normal = Path(os.path.normpath(path))
    here = Path.cwd()
    return str(normal.relative_to(here) if normal.is_relative_to(here) else normal)
