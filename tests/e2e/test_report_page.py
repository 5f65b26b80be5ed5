"""The report in a real browser: hover, keys, files, links, a phone's width, paper."""

import csv
import json
import re
from contextlib import contextmanager
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from playwright.sync_api import expect

from pipeline_src.config.data import AudioConfig
from pipeline_src.report.build import build_report
from tests import media
from tests.browser import PHONE, needs_chromium, open_browser, open_page
from tests.report_files import write_evaluation, write_json, write_probe, write_training

pytestmark = [pytest.mark.e2e, needs_chromium]
PAPER_PIXELS = 964  # letter, landscape, without its margins, at 96 pixels an inch; A4 is wider
CURVE = "#training figure:has(script) [role=img] >> nth=0"
MAP = "#predictions figure:has(script):last-of-type [role=img] >> nth=0"


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
def browser():
    with open_browser() as browser:
        yield browser


@contextmanager
def opened(browser, page_path, **options):
    with open_page(browser, page_path.as_uri(), **options) as page:
        expect(page.locator("#tip")).to_be_attached()
        yield page


@pytest.fixture
def page(browser, page_path):
    with opened(browser, page_path, viewport={"width": 1600, "height": 900}) as page:
        yield page


def open_all(page):
    """Open every part that can be closed."""
    page.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")


def point_at(page, area, series, number):
    """Move the mouse to a point of a chart; return what the chart knows of it."""
    area = page.locator(area)
    area.evaluate("e => e.scrollIntoView({block: 'center', behavior: 'instant'})")
    values = json.loads(area.locator("xpath=..").locator("script").text_content())
    x0, dx, y0, dy = values["scale"]
    point = values["series"][series]["points"][number]
    at = area.locator("svg").evaluate(
        "(e, at) => { const p = new DOMPoint(...at).matrixTransform(e.getScreenCTM());"
        " return [p.x, p.y]; }",
        [x0 + dx * point[0], y0 + dy * point[1]],
    )
    page.mouse.move(*at)
    return values, point


def test_a_pointer_on_curves_tells_every_run(page):
    values, (epoch, loss) = point_at(page, CURVE, 0, 12)
    names = [one["name"] for one in values["series"]]
    assert names == ["base", "other_with_a_longer_name"]
    tip = page.locator("#tip")
    expect(tip).to_be_visible()
    told = tip.inner_text()
    assert told.startswith(f"epoch {epoch:g}")
    for name in names:
        assert re.search(rf"{name}: {loss:.4g}", told)
    expect(page.locator(CURVE).locator("circle")).to_have_count(2)
    page.mouse.move(2, 2)
    expect(tip).to_be_hidden()
    expect(page.locator(CURVE).locator("circle")).to_have_count(0)


def test_a_pointer_on_the_map_tells_clip_class_and_picture(page):
    open_all(page)
    values, point = point_at(page, MAP, 0, 0)
    clip, label = values["texts"][int(point[2])]
    tip = page.locator("#tip")
    expect(tip).to_be_visible()
    assert tip.inner_text().split("\n") == [clip, f"audio: {label}"]
    assert clip == "clip_0"
    picture = tip.locator("i")
    assert picture.evaluate("e => e.style.background").startswith('url("data:image')
    assert picture.bounding_box()["width"] == 96


def test_keys_move_from_point_to_point(page):
    page.locator(CURVE).focus()
    page.keyboard.press("ArrowRight")
    tip = page.locator("#tip")
    expect(tip).to_be_visible()
    first = tip.inner_text()
    page.keyboard.press("ArrowRight")
    assert tip.inner_text() != first
    page.locator(CURVE).blur()
    expect(tip).to_be_hidden()


def test_tables_and_charts_are_saved(page, page_path, tmp_path):
    buttons = {
        "methods-runs-on-toy.csv": "#methods .save[download]",
        "methods-accuracy-mean-over-seeds.svg": "#methods figure button",
    }
    for name, button in buttons.items():
        with page.expect_download() as download:
            page.locator(button).first.click()
        assert download.value.suggested_filename == name
        download.value.save_as(tmp_path / name)
    table, chart = [(tmp_path / name).read_text() for name in buttons]
    head, *rows = csv.reader(table.splitlines())
    assert head[:6] == [
        *("Run", "Network", "Seeds", "Accuracy, %, audio", "Accuracy, %, audio: low"),
        "Accuracy, %, audio: high",
    ]
    assert [row[0] for row in rows] == ["base", "other_with_a_longer_name"]
    record = json.loads((page_path.parents[1] / "base_seed0/eval/toy/metrics.json").read_text())
    assert float(rows[0][3]) == pytest.approx(100 * record["audio"]["accuracy"]["value"], rel=1e-5)
    assert ElementTree.fromstring(chart).tag.endswith("svg")
    assert "var(" not in chart
    assert "currentColor" not in chart


def test_a_link_opens_the_part_that_it_names(page):
    page.evaluate("document.querySelectorAll('details').forEach(e => e.open = false)")
    name = "predictions-base-seed1-toy"
    page.evaluate(f"location.hash = '#{name}'")
    expect(page.locator(f"#{name}")).to_be_visible()
    assert all(page.locator("h3").evaluate_all("all => all.map(e => e.id)"))
    ids = page.locator("[id]").evaluate_all("all => all.map(e => e.id)")
    outside = [one for one in ids if not re.fullmatch(r"[cmp][0-9a-f]{10,}", one)]  # of drawings
    assert len(outside) == len(set(outside))


def test_a_wide_window_has_no_empty_half(page):
    wide = "[...document.querySelectorAll('main section')].map(e => [e.getBoundingClientRect()," \
        " [...e.querySelectorAll('table, figure, .missing')].filter(one => one.offsetParent)" \
        ".map(one => one.getBoundingClientRect().right)]).map(([box, ends]) =>" \
        " (Math.max(0, ...ends) - box.left) / box.width)"  # fmt: skip
    assert min(page.evaluate(wide)) > 0.8


def test_a_phone_keeps_the_first_column_and_its_width(browser, page_path):
    with opened(browser, page_path, **PHONE) as page:
        open_all(page)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        scroll = page.locator("#methods .scroll").first
        assert scroll.evaluate("e => e.scrollWidth > e.clientWidth + 200")
        first = scroll.locator("tbody th").first
        before = first.bounding_box()["x"]
        scroll.evaluate("e => e.scrollLeft = 200")
        assert first.bounding_box()["x"] == pytest.approx(before, abs=1)
        assert scroll.locator("td").first.bounding_box()["x"] < before


def test_paper_has_every_column(page):
    page.set_viewport_size({"width": PAPER_PIXELS, "height": 1000})
    page.emulate_media(media="print", color_scheme="dark")
    colour = page.locator("body").evaluate("e => getComputedStyle(e).backgroundColor")
    assert colour == "rgb(255, 255, 255)"
    tables = page.locator("table:visible").evaluate_all(
        "all => all.map(e => e.getBoundingClientRect().right)"
    )
    assert len(tables) > 6
    assert max(tables) <= PAPER_PIXELS
    flows = page.locator(".scroll").evaluate_all(
        "all => all.map(e => getComputedStyle(e).overflowX)"
    )
    assert set(flows) == {"visible"}
    assert page.pdf(prefer_css_page_size=True)
