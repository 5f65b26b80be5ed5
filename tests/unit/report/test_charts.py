"""Charts of figures and of curves."""

import numpy as np

from pipeline_src.evaluate.records import Estimate
from pipeline_src.report.charts import (
    MODALITY_STYLES,
    IntervalPoint,
    Line,
    interval_chart,
    line_chart,
    logged_curve,
    mean_curve,
)
from pipeline_src.report.colours import CLASS_COLOURS


def test_a_mean_curve_goes_as_far_as_all_of_them():
    x = np.array([0.0, 1.0, 2.0])
    band = mean_curve([(x, x), (np.array([0.0, 1.5]), np.array([2.0, 3.5]))])
    np.testing.assert_allclose(band.x, [0, 1])
    np.testing.assert_allclose(band.mean, [1, 2])
    np.testing.assert_allclose([band.low, band.high], [[0, 1], [2, 3]])


def test_curves_of_runs_stand_in_one_chart_with_their_range():
    x = np.arange(4.0)
    curves = {
        Line("loss", "one", CLASS_COLOURS[0]): (x, x),
        Line("loss", "two", CLASS_COLOURS[1]): mean_curve([(x, x), (x, x + 2)]),
    }
    chart = line_chart(curves, title="Loss", name="Runs")
    assert chart.alt == "Runs, Loss: one from 0 to 3; two from 1 to 4"
    assert chart.svg.count("fill: var(--c1); fill-opacity: 0.18") == 1
    values = chart.hover.values()
    assert [one["name"] for one in values["series"]] == ["one", "two"]
    assert values["series"][1]["points"] == [[0, 1], [1, 2], [2, 3], [3, 4]]


def test_long_curves_are_means_of_runs_of_rows():
    rows = [{"epoch": step, "loss": 1.0} for step in range(1000)] + [{"epoch": 5, "loss": "nan"}]
    x, y = logged_curve(rows, "loss", scale=2)
    assert len(x) == 240
    assert set(y) == {2.0}
    assert logged_curve(rows, "other") is None


def test_a_pointer_tells_figure_and_interval():
    points = [
        IntervalPoint("run", "audio", Estimate(value=0.5, low=0.4, high=0.6)),
        IntervalPoint("run", "video", Estimate(value=None)),
    ]
    chart = interval_chart(points, MODALITY_STYLES, title="accuracy", axis_label="%")
    assert chart.hover.values()["texts"] == [["run", "50.0 (40.0 to 60.0)"]]
    assert "run, video: undefined" in chart.alt
