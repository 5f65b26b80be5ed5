"""The page of ``dvc plots`` in a real browser, from the disk alone: curves are drawn."""

import pytest
import yaml

from pipeline_src.runs.history import write_history
from tests.browser import needs_chromium, open_browser, open_page
from tests.workspace import Workspace, private_site

pytestmark = [pytest.mark.e2e]
# Canvases that have pixels of the colour of DVC's first line (#945dd6).
NUM_DRAWN = """[...document.querySelectorAll('canvas')].filter(canvas => {
  if (!canvas.width) return false;
  const all = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  let count = 0;
  for (let i = 0; i < all.length; i += 4)
    count += all[i] === 0x94 && all[i + 1] === 0x5d && all[i + 2] === 0xd6;
  return count > 100;
}).length"""


@pytest.fixture(scope="module")
def curves(tmp_path_factory, shell_env):
    """A checkout that is set up and holds the tables of every curve in dvc.yaml."""
    folder = tmp_path_factory.mktemp("curves")
    workspace = Workspace.make(folder, {**shell_env, **private_site(folder)})
    workspace.run("git", "init", "--quiet")
    columns: dict[str, list[str]] = {}
    for plot in yaml.safe_load((workspace.root / "dvc.yaml").read_text())["plots"]:
        for table, column in next(iter(plot.values()))["y"].items():
            columns.setdefault(table, []).append(column)
    for table, names in columns.items():
        rows = [{"step": step, **dict.fromkeys(names, 1 / step)} for step in range(1, 20)]
        write_history(workspace.root / table, rows)
    return workspace


@needs_chromium
def test_curves_are_drawn_without_the_network(curves, tmp_path):
    for _ in range(2):
        curves.run("python", "-m", "pipeline_src", "setup")
    curves.run("dvc", "plots", "show", "--out", "shown")
    assert "plots.html" not in curves.run("git", "status", "--porcelain", "-uall", ".dvc")
    url = (curves.root / "shown/index.html").as_uri()
    with open_browser() as browser, open_page(browser, url, offline=True) as page:
        page.wait_for_function(f"{NUM_DRAWN} === 5")
        page.screenshot(path=tmp_path / "curves.png")


def test_a_page_of_ones_own_stays(curves):
    (curves.root / ".dvc/plots.html").unlink(missing_ok=True)
    (curves.root / ".dvc/mine.html").write_text("<p>mine</p>{plot_divs}")
    curves.run("dvc", "config", "--local", "plots.html_template", "mine.html")
    assert "mine.html" in curves.run("python", "-m", "pipeline_src", "setup")
    assert not (curves.root / ".dvc/plots.html").exists()
    curves.run("dvc", "plots", "show", "--out", "own")
    assert (curves.root / "own/index.html").read_text().startswith("<p>mine</p>")
