"""The report's parts one by one: rows of a log, the choice of clips for the map, slim drawings."""

import html
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from pipeline_src.config.evaluation import ReportConfig
from pipeline_src.report.build import build_report
from pipeline_src.report.charts import draw_chart, shorten, slim_svg
from pipeline_src.report.class_charts import select_clips
from pipeline_src.report.load import read_rows
from tests import report_files


@pytest.mark.slow
def test_report_needs_no_torch():
    code = "import sys, pipeline_src.report.build; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0


def test_rows_survive_a_cut_line_and_a_repeated_step(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = [{"step": 1, "loss": 3}, {"step": 2, "loss": 2}, {"step": 2, "loss": 1}]
    complete = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(complete + '{"step": 3, "lo')
    assert read_rows(path, "training") == [{"step": 1, "loss": 3}, {"step": 2, "loss": 1}]


def test_map_takes_equally_many_clips_of_the_most_frequent_classes():
    labels = np.repeat(np.arange(12), np.arange(1, 13))
    chosen = select_clips(labels, 40)
    counts = np.bincount(labels[chosen], minlength=12)
    assert counts[:2].tolist() == [0, 0]
    assert counts[2:].min() >= 3
    assert counts.sum() == 40


def test_slim_svg_keeps_references_and_drops_the_rest():
    svg = (
        '<?xml version="1.0"?><svg width="72pt" height="36pt" xmlns="x" version="1.1">'
        '<g id="figure_1"><path id="m1" d="M 1.23456 2"/><use xlink:href="#m1"/></g></svg>'
    )
    slim = slim_svg(svg)
    assert 'id="m1"' in slim
    assert "figure_1" not in slim
    assert "M 1.23 2" in slim
    assert "max-width:96px" in slim


# What a list may call its classes; each is read by something on the way as more than text.
NAMES = (
    *("$x$", "a$b", "cost $5 or $6", "five $\\foo$ bills", "$\\frac{", "\\$", "_noise_", "__"),
    *(
        "1.23456",
        "#010203 #040506",
        ' id="q"',
        "font: 9px x;",
        "<metadata>x</metadata>",
        "--> <!--",
    ),
    *(
        "<script>alert(1)</script>",
        "</text></svg>",
        "&lt;b&gt;",
        'width="72pt"',
        "xlink:href",
        "%s {}",
    ),
)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_a_chart_is_text(name):
    def paint(axes):
        axes.set_yticks([0], [shorten(name)])
        axes.set_title(shorten(name))
        axes.plot([0, 1], [0, 1.23456], label=shorten(name))
        axes.legend()

    chart = draw_chart(paint, title="title", alt="alt")
    texts = [html.unescape(t) for t in re.findall(r"<text[^>]*>([^<]*)</text>", chart.svg)]
    assert [text.lstrip("\u200b") for text in texts].count(shorten(name).lstrip("\u200b")) == 3


@pytest.mark.parametrize(
    "names", [NAMES[:6], ("\x1b[31mb", "\u202eabc", "\x0b", "\ufffe", "x" * 3000)]
)
def test_the_report_is_made_whatever_classes_and_warnings_are_called(tmp_path, monkeypatch, names):
    names = [*names, *(f"class {k}" for k in range(len(report_files.CLASS_NAMES) - len(names)))]
    monkeypatch.setattr(report_files, "CLASS_NAMES", names)
    root = tmp_path / "results"
    metrics = report_files.write_evaluation(root, "r1", num_clips=60)
    report_files.write_training(root, "r1")
    index = report_files.write_index(root, "test", names=names)
    value = json.loads(metrics.read_text())
    metrics.write_text(json.dumps(value | {"warnings": list(names)}))
    output = root / "report/index.html"
    config = ReportConfig()
    build_report(
        metrics_files=[metrics], probe_files=[], index_files=[index], output=output, config=config
    )
    page = output.read_text()
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e\ufffe]", page)
    assert html.escape(names[0].replace("\x1b", "\ufffd")) in page
    assert "x" * 700 not in re.sub(r"<t[dh].*?</t[dh]>", "", page)
