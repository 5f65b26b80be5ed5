"""The report in a real browser: hover, keys, files, links, a phone's width, paper."""

import csv
import json
import re
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest

from pipeline_src.config.data import AudioConfig
from pipeline_src.report.build import build_report
from tests import media
from tests.browser import CHROMIUM, open_browser
from tests.report_files import write_evaluation, write_json, write_probe, write_training

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: install it, as .ci/run does"),
]
PAPER_PIXELS = 964  # letter, landscape, without its margins, at 96 pixels an inch; A4 is wider
CURVE = "document.querySelector('#training figure:has(script) [role=img]')"
MAP = "document.querySelector('#predictions figure:has(script):last-of-type [role=img]')"
TIP = "document.getElementById('tip')"


@pytest.fixture(scope="module")
def page_path(tmp_path_factory):
    """Three runs, two of which differ in their seed, with shards of a few of their clips."""
    folder = tmp_path_factory.mktemp("page")
    clips = [{"clip_id": f"clip_{n}", "source": f"clip_{n}.mp4", "labels": "0"} for n in range(2)]
    for clip in clips:
        media.make_clip(folder / clip["source"])
    index = media.make_shards(folder, clips, AudioConfig())
    root = folder / "results"
    runs = {"base_seed0": (0, ""), "base_seed1": (1, ""), "other_with_a_longer_name": (0, "x: 1")}
    metrics = []
    for run, (seed, more) in runs.items():
        path = write_evaluation(root, run, dataset="toy")
        write_json(path, json.loads(path.read_text()) | {"split": "train"})
        write_training(root, run, dataset="toy", seed=seed, lift=-0.1 * seed)
        cost = {"parameters": 1_500_000, "flops": 15e12, "memory_bytes": 6e7}
        for stage in ("pretrain", "finetune/toy"):
            done = {"step": 300, "samples_seen": 1500, "seconds": 90.0, "cost": cost}
            write_json(root / run / stage / "done.json", done)
        config = root / run / "config.yaml"
        config.write_text(config.read_text().replace("size: tiny", f"size: tiny\n  {more}"))
        metrics.append(path)
    probe = write_probe(root, "base_seed0", dataset="toy")
    output = root / "report" / "index.html"
    build_report(
        metrics_files=metrics, probe_files=[probe], index_files=[index], output=output,
        config=SimpleNamespace(num_examples=2, tsne_clips=40),
    )  # fmt: skip
    return output


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def page(browser, page_path):
    browser.said.clear()
    browser.send("Emulation.setEmulatedMedia", media="", features=[])
    browser.size(1600, 900)
    browser.open("about:blank")
    browser.open(page_path.as_uri())
    browser.wait("document.readyState === 'complete' && !!document.querySelector('#tip')")
    yield browser
    assert not browser.problems()
    assert not browser.hosts()


def point_at(page, area, series, number):
    """Move the mouse to a point of a chart; return what the chart knows of it."""
    page.run(f"{area}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
    values = page.run(f"JSON.parse({area}.parentElement.querySelector('script').textContent)")
    x0, dx, y0, dy = values["scale"]
    point = values["series"][series]["points"][number]
    x, y = page.run(
        f"(p => [p.x, p.y])(new DOMPoint({x0 + dx * point[0]}, {y0 + dy * point[1]})"
        f".matrixTransform({area}.querySelector('svg').getScreenCTM()))"
    )
    page.point(x, y)
    return values, point


def test_a_pointer_on_curves_tells_every_run(page):
    values, (epoch, loss) = point_at(page, CURVE, 0, 12)
    names = [one["name"] for one in values["series"]]
    assert names == ["base", "other_with_a_longer_name"]
    page.wait(f"!{TIP}.hidden")
    told = page.run(f"{TIP}.innerText")
    assert told.startswith(f"epoch {epoch:g}")
    for name in names:
        assert re.search(rf"{name}: {loss:.4g}", told)
    assert page.run(f"{CURVE}.querySelectorAll('circle').length") == 2
    page.point(2, 2)
    page.wait(f"{TIP}.hidden")
    assert page.run(f"{CURVE}.querySelectorAll('circle').length") == 0


def test_a_pointer_on_the_map_tells_clip_class_and_picture(page):
    page.run("document.querySelectorAll('#predictions details').forEach(e => e.open = true)")
    values, point = point_at(page, MAP, 0, 0)
    clip, label = values["texts"][int(point[2])]
    page.wait(f"!{TIP}.hidden")
    assert page.run(f"{TIP}.innerText").split("\n") == [clip, f"audio: {label}"]
    assert clip == "clip_0"
    assert page.run(f"{TIP}.querySelector('i').style.background").startswith('url("data:image')
    assert page.run(f"{TIP}.querySelector('i').offsetWidth") == 96


def test_keys_move_from_point_to_point(page):
    page.run(f"{CURVE}.focus()")
    page.press("ArrowRight")
    page.wait(f"!{TIP}.hidden")
    first = page.run(f"{TIP}.innerText")
    page.press("ArrowRight")
    assert page.run(f"{TIP}.innerText") != first
    page.run(f"{CURVE}.blur()")
    assert page.run(f"{TIP}.hidden")


def test_tables_and_charts_are_saved(page, page_path, tmp_path):
    page.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    page.run("document.querySelector('#methods .save[download]').click()")
    page.run("document.querySelector('#methods figure button').click()")
    saved = [
        tmp_path / "methods-runs-on-toy.csv",
        tmp_path / "methods-accuracy-mean-over-seeds.svg",
    ]
    for path in saved:
        for _ in range(100):
            if path.is_file() and path.stat().st_size:
                break
            page.run("new Promise(done => setTimeout(done, 100))")
    head, *rows = csv.reader(saved[0].read_text().splitlines())
    assert head[:6] == [
        *("Run", "Network", "Seeds", "Accuracy, %, audio", "Accuracy, %, audio: low"),
        "Accuracy, %, audio: high",
    ]
    assert [row[0] for row in rows] == ["base", "other_with_a_longer_name"]
    record = json.loads((page_path.parents[1] / "base_seed0/eval/toy/metrics.json").read_text())
    assert float(rows[0][3]) == pytest.approx(100 * record["audio"]["accuracy"]["value"], rel=1e-5)
    written = saved[1].read_text()
    assert ElementTree.fromstring(written).tag.endswith("svg")
    assert "var(" not in written
    assert "currentColor" not in written


def test_a_link_opens_the_part_that_it_names(page):
    page.run("document.querySelectorAll('details').forEach(e => e.open = false)")
    name = "predictions-base-seed1-toy"
    page.run(f"location.hash = '#{name}'")
    page.wait(f"document.getElementById('{name}').closest('details').open")
    links = page.run("[...document.querySelectorAll('h3')].map(e => e.id)")
    assert all(links)
    ids = page.run("[...document.querySelectorAll('[id]')].map(e => e.id)")
    outside = [one for one in ids if not re.fullmatch(r"[cmp][0-9a-f]{10,}", one)]  # of drawings
    assert len(outside) == len(set(outside))


def test_a_wide_window_has_no_empty_half(page):
    wide = "[...document.querySelectorAll('main section')].map(e => [e.getBoundingClientRect()," \
        " [...e.querySelectorAll('table, figure, .missing')].filter(one => one.offsetParent)" \
        ".map(one => one.getBoundingClientRect().right)]).map(([box, ends]) =>" \
        " (Math.max(0, ...ends) - box.left) / box.width)"  # fmt: skip
    assert min(page.run(wide)) > 0.8


def test_a_phone_keeps_the_first_column_and_its_width(page):
    page.size(390, 844, is_phone=True)
    page.run("document.querySelectorAll('details').forEach(e => e.open = true)")
    assert page.run("document.documentElement.scrollWidth") == 390
    scroll = "document.querySelector('#methods .scroll')"
    assert page.run(f"{scroll}.scrollWidth > {scroll}.clientWidth + 200")
    place = f"{scroll}.querySelector('tbody th').getBoundingClientRect().left"
    before = page.run(place)
    page.run(f"{scroll}.scrollLeft = 200")
    assert page.run(place) == pytest.approx(before, abs=1)
    assert page.run(f"{scroll}.querySelector('td').getBoundingClientRect().left") < before


def test_paper_has_every_column(page):
    page.size(PAPER_PIXELS, 1000)
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    page.send("Emulation.setEmulatedMedia", media="print", features=dark)
    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    tables = page.run(
        "[...document.querySelectorAll('table')].filter(e => e.offsetParent)"
        ".map(e => [e.getBoundingClientRect().right, e.rows[0].innerText])"
    )
    assert len(tables) > 6
    assert np.max([right for right, _ in tables]) <= PAPER_PIXELS
    clipped = "[...document.querySelectorAll('.scroll')].filter(e => getComputedStyle(e).overflowX"
    assert page.run(f"{clipped} !== 'visible').length") == 0
    assert page.send("Page.printToPDF", preferCSSPageSize=True)["data"]
