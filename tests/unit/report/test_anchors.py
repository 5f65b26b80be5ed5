"""Names for links: readable, and no two alike."""

from pipeline_src.report.anchors import Anchors


def test_names_say_their_section_and_are_numbered_where_they_come_again():
    anchors = Anchors()
    assert anchors.enter("results") == ""
    assert anchors.make("avdigits, test split") == "results-avdigits-test-split"
    assert anchors.make("avdigits / test split") == "results-avdigits-test-split--2"
    anchors.enter("data")
    assert anchors.make("\u2192") == "data"
