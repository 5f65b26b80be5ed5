"""Pages of ``dvc plots`` that draw without the network.

DVC's own page loads vega, vega-lite and vega-embed from a host in the network. Snakemake comes with
all three for its reports, so a template with these inside is written to ``.dvc/plots.html``, and
named in ``.dvc/config.local``.
"""

import importlib.util
from pathlib import Path

from pipeline_src.dvc.tools import run_tool
from pipeline_src.errors import StageError
from pipeline_src.system.atomic import write_text

KEY = "plots.html_template"
TEMPLATE = "plots.html"  # DVC reads a relative name from .dvc
LIBRARIES = ("vega", "vega-lite", "vega-embed")  # each needs those before it
# DVC fills in refresh_tag and plot_divs; without {scripts} it adds no address of its own.
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
{refresh_tag}
<title>Curves</title>
<style>body {font-family: sans-serif; margin: 1.5em} body > div {display: inline-block}</style>
%s
</head>
<body>
{plot_divs}
</body>
</html>
"""


def use_local_page() -> str:
    """Write the template and name it, unless another one was named; run in the checkout's root.

    Returns:
        the name of the template that is in force.

    Raises:
        StageError: Snakemake lacks a library, or DVC fails.
    """
    settings = dict(line.split("=", 1) for line in run_tool("dvc", "config", "--list").splitlines())
    named = settings.get(KEY, TEMPLATE)
    if named == TEMPLATE:
        write_text(Path(".dvc", TEMPLATE), template())
        run_tool("dvc", "config", "--quiet", "--local", KEY, TEMPLATE)
    return named


def template() -> str:
    """Return a page with the libraries and their licences, for DVC to put the plots into.

    Raises:
        StageError: Snakemake lacks one of them.
    """
    spec = importlib.util.find_spec("snakemake")
    assert spec
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0], "assets", "data")
    return PAGE % "\n".join(_script(folder / name / f"{name}.js") for name in LIBRARIES)


def _script(path: Path) -> str:
    try:
        code = path.read_text(encoding="utf-8")
        licence = path.with_name("LICENSE").read_text(encoding="utf-8")
    except OSError as error:
        raise StageError(
            f"{error.filename}: Snakemake comes without it; run `make setup`, which installs the "
            "release that has it"
        ) from error
    return f"<!--\n{licence}-->\n<script>{code}</script>"
