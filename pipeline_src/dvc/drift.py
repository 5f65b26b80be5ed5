"""Whether dvc.yaml is the one that the configuration gives."""

from pathlib import Path

from pipeline_src.dvc.render import DVC_FILE, load_catalog, render
from pipeline_src.errors import ConfigError


def is_drifted(root: Path) -> bool:
    """Tell whether dvc.yaml differs from what the configuration would give."""
    path = root / DVC_FILE
    return not path.is_file() or path.read_text(encoding="utf-8") != render(load_catalog(root))


def refuse_drift(root: Path) -> None:
    """Refuse a dvc.yaml that was written for other data sets, runs or results.

    Raises:
        ConfigError: says what writes it again.
    """
    if is_drifted(root):
        raise ConfigError(
            f"{DVC_FILE} does not fit config/config.yaml (data sets, runs or results changed); run "
            "`python -m pipeline_src stages --write`, then the same command again"
        )
