"""A table as a CSV file: nothing rounded away, nothing left out."""

import base64
import csv
import io

from pipeline_src.evaluate.records import Estimate
from pipeline_src.report.blocks import MISSING, Cell, Table, interval_cell
from pipeline_src.report.download import csv_uri, table_csv


def records(table):
    return list(csv.reader(io.StringIO(table_csv(table))))


def test_intervals_have_columns_and_cells_over_rows_are_repeated():
    found = Estimate(value=0.123456789, low=0.1, high=0.2)
    rows = [
        [Cell('a, "b"', rowspan=2), Cell("audio"), interval_cell(found, scale=100), Cell("1,234")],
        [Cell("video"), interval_cell(None), Cell(MISSING)],
        [Cell("c"), Cell("audio"), interval_cell(Estimate(value=1)), Cell("500 of 500")],
    ]
    assert records(Table("t", ["Run", "Input", "Accuracy, %", "Clips"], rows)) == [
        ["Run", "Input", "Accuracy, %", "Accuracy, %: low", "Accuracy, %: high", "Clips"],
        ['a, "b"', "audio", "12.3457", "10", "20", "1234"],
        ['a, "b"', "video", "", "", "", ""],
        ["c", "audio", "1", "", "", "500 of 500"],
    ]


def test_second_lines_are_notes_and_an_empty_table_has_a_head():
    table = Table("t", ["", "TFLOP"], [[Cell("a"), Cell("1.0", sub="0.95 \u00d7")]])
    assert records(table) == [["", "TFLOP", "TFLOP: note"], ["a", "1.0", "0.95 \u00d7"]]
    assert records(Table("t", ["a", "b"], [])) == [["a", "b"]]


def test_a_name_is_no_formula():
    rows = [[Cell("=1+1"), Cell("-3", is_number=True)]]
    assert records(Table("t", ["a", "b"], rows))[1] == ["'=1+1", "-3"]


def test_the_file_lies_in_the_page():
    uri = csv_uri(Table("t", ["a"], [[Cell("\u00e4")]]))
    head, content = uri.split(",")
    assert head == "data:text/csv;charset=utf-8;base64"
    assert base64.b64decode(content).decode() == "a\n\u00e4\n"
