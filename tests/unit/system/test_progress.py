"""Progress lines: renewed on a terminal, rare elsewhere, hours where it takes hours."""

import io
import re

from pipeline_src.system import progress
from pipeline_src.system.progress import CLEAR_LINE, ProgressLine


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def shift_start(line, seconds):
    line._started -= seconds
    line._shown_at -= seconds


def test_a_terminal_has_one_line_that_goes_when_it_is_done():
    stream = Terminal()
    with ProgressLine("transcode a/train/00000", 1000, stream=stream) as line:
        shift_start(line, 10)
        line.update(100)
        line.update(100)  # too soon for another
        text = stream.getvalue()
        assert text.count(CLEAR_LINE) == 1
        assert text.startswith(f"{CLEAR_LINE}transcode a/train/00000: 10%|")
        assert re.search(r"\| 100/1000 clips, (10|9\.9)", text)  # by the clock
        assert "01:3" in text.split("clips/s,")[1]  # 90 seconds left
    assert stream.getvalue().endswith(CLEAR_LINE)


def test_hours_are_said_as_hours_and_an_unknown_rate_as_unknown():
    line = ProgressLine("x", 10_000, stream=Terminal())
    assert "? left" in line.text()
    shift_start(line, 3600)
    line.update(1000)
    assert "9:00:0" in line.text("loss 1.0")
    assert line.text("loss 1.0").endswith("left, loss 1.0")


def test_a_slow_rate_is_said_per_second_too():
    line = ProgressLine("pretrain", 800, unit="steps", stream=Terminal())
    shift_start(line, 100)
    line.update(50)
    assert "50/800 steps, 0.50 steps/s, 25:0" in line.text()


def test_what_was_done_before_has_no_part_in_the_rate():
    line = ProgressLine("x", 400, unit="steps", num_done=200, stream=Terminal())
    shift_start(line, 10)
    line.update(100)
    assert "300/400 steps, 10" in line.text()
    assert "00:1" in line.text()  # 10 seconds left


def test_elsewhere_a_line_is_written_rarely(caplog):
    with caplog.at_level("INFO"), ProgressLine("pack a", 100, stream=io.StringIO()) as line:
        line.update(10)
        assert not caplog.messages
        shift_start(line, progress.HEARTBEAT_SECONDS)
        line.update(10)
        line.update(10)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("pack a: 20/100 clips (20%), ")
