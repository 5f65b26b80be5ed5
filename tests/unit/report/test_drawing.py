"""Drawings: slim, in the page's colours, with names as text, and where a pointer finds what."""

import html
import re

import numpy as np
import pytest

from pipeline_src.report.blocks import HoverSeries
from pipeline_src.report.colours import CLASS_COLOURS
from pipeline_src.report.drawing import draw_chart, shorten, slim_svg
from tests.report_files import NAMES


def texts_of(svg):
    return [html.unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]


def test_slim_svg_keeps_references_and_drops_the_rest():
    svg = (
        '<?xml version="1.0"?><svg width="72pt" height="36pt" xmlns="x" version="1.1">'
        '<g id="figure_1"><path id="m1" d="M 1.23456 2"/><use xlink:href="#m1"/></g></svg>'
    )
    slim = slim_svg(svg)
    assert 'id="m1"' in slim
    assert "figure_1" not in slim
    assert "M 1.23 2" in slim
    assert "--natural:96px" in slim


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_a_chart_is_text(name):
    def paint(axes):
        axes.set_yticks([0], [shorten(name)])
        axes.set_title(shorten(name))
        axes.plot([0, 1], [0, 1.23456], label=shorten(name))
        axes.legend()

    chart = draw_chart(paint, title="title", alt="alt")
    texts = texts_of(chart.svg)
    assert [text.lstrip("\u200b") for text in texts].count(shorten(name).lstrip("\u200b")) == 3


def test_colours_follow_the_theme():
    def paint(axes):
        axes.plot([0, 1], [0, 1], color=CLASS_COLOURS[3])

    svg = draw_chart(paint, title="title", alt="alt").svg
    assert "stroke: var(--c3)" in svg
    assert "var(--rule)" in svg
    assert not re.search("#0[0-9a-f]0[0-9a-f]{3}", svg)


def test_a_pointer_finds_data_where_they_are_drawn():
    x, y = np.array([2.0, 3.0, 7.0]), np.array([-1.0, 4.0, 0.5])

    def paint(axes):
        axes.plot(x, y, color=CLASS_COLOURS[0])
        axes.set_xlabel("epoch")
        axes.legend(["a long name that makes the drawing wider"], loc="lower left")

    series = [HoverSeries("loss", CLASS_COLOURS[0], list(zip(x, y, strict=True)))]
    chart = draw_chart(paint, title="title", alt="alt", hover=series)
    values = chart.hover.values()
    x0, dx, y0, dy = values["scale"]
    found = re.search(r'<path d="M ([^"]*)"[^>]*stroke: var\(--c0\)', chart.svg).group(1)
    drawn = np.array([part.split() for part in found.split("L")], dtype=float)
    np.testing.assert_allclose(drawn, np.stack([x0 + dx * x, y0 + dy * y], axis=1), atol=0.02)
    assert values["x_label"] == "epoch"
    assert values["series"] == [
        {"name": "loss", "colour": "var(--c0)", "points": [[2, -1], [3, 4], [7, 0.5]]}
    ]


@pytest.mark.parametrize("low", [0.0, 0.9991, 123.0, 1e-6])
@pytest.mark.parametrize("width", [1e-4, 0.004, 0.02, 3.0])
def test_ticks_of_an_axis_differ(low, width):
    def paint(axes):
        axes.plot([0, 1], [low, low + width])
        axes.set_xticks([])

    texts = texts_of(draw_chart(paint, title="title", alt="alt").svg)
    assert len(texts) == len(set(texts)) > 2
    assert "+" not in "".join(texts)
