"""Where long files are cut."""

import pytest

from pipeline_src.inference.windows import cut_windows


@pytest.mark.parametrize(
    ("end", "wanted", "windows"),
    [
        (10.0, None, None),
        (10.0, "auto", [(0.0, 4.0), (4.0, 8.0), (6.0, 10.0)]),
        (8.0, "auto", None),
        (10.0, 5.0, [(0.0, 5.0), (5.0, 10.0)]),
        (3.0, 5.0, None),
    ],
)
def test_windows_cover_all_and_are_equally_long(end, wanted, windows):
    assert cut_windows(0.0, end, wanted, 4.0) == windows


def test_windows_begin_where_the_file_does():
    assert cut_windows(1.5, 5.5, 2.0, 4.0) == [(1.5, 3.5), (3.5, 5.5)]
