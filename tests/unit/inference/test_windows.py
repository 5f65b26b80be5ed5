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


@pytest.mark.parametrize("seconds", [0.96, 1.0, 3.2, 5.12, 10.24])
def test_a_file_of_whole_windows_has_no_further_one(seconds):
    """A rounding error of the division made the last one a second time."""
    for count in range(2, 400):
        windows = cut_windows(0.0, count * seconds, seconds, seconds)
        assert len(windows) == count
        assert windows[-1][1] == pytest.approx(count * seconds)


def test_windows_begin_where_the_file_does():
    assert cut_windows(1.5, 5.5, 2.0, 4.0) == [(1.5, 3.5), (3.5, 5.5)]
